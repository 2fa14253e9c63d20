"""The rasteriser: coverage without cracks, the nearest surface wins, interpolation is exact on planes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agesearch.data.synthetic.raster import rasterise

SHAPE = (24, 32)


def _square(low: float, high: float, depth: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two front-facing triangles over a square of pixels."""
    screen = np.array([[low, low], [low, high], [high, high], [high, low]], np.float32)
    return screen, np.full(4, depth, np.float32), np.array([[0, 1, 2], [0, 2, 3]])


def test_a_square_covers_each_of_its_pixels_once() -> None:
    screen, depth, triangles = _square(3.0, 13.0, 1.0)
    seen = rasterise(screen, depth, triangles, SHAPE)
    expected = [y * SHAPE[1] + x for y in range(3, 13) for x in range(3, 13)]
    assert seen.pixel.tolist() == expected


def test_triangles_seen_from_behind_are_dropped() -> None:
    screen, depth, triangles = _square(3.0, 13.0, 1.0)
    assert rasterise(screen, depth, triangles[:, ::-1], SHAPE).pixel.size == 0
    assert rasterise(screen, depth, triangles[:, ::-1], SHAPE, cull=False).pixel.size == 100


def test_what_lies_outside_the_picture_is_cut() -> None:
    screen, depth, triangles = _square(-50.0, 90.0, 1.0)
    assert rasterise(screen, depth, triangles, SHAPE).pixel.size == SHAPE[0] * SHAPE[1]
    screen, depth, triangles = _square(40.0, 50.0, 1.0)
    assert rasterise(screen, depth, triangles, SHAPE).pixel.size == 0


@given(st.permutations(range(4)))
@settings(max_examples=12)
def test_the_nearest_wins_in_any_order(order: list[int]) -> None:
    near, far = _square(5.0, 11.0, 1.0), _square(2.0, 20.0, 3.0)
    triangles = np.concatenate([near[2], far[2] + 4])[order]
    seen = rasterise(np.concatenate([near[0], far[0]]), np.concatenate([near[1], far[1]]), triangles, SHAPE)
    is_near = np.array(order)[seen.triangle] < 2
    y, x = np.divmod(seen.pixel, SHAPE[1])
    np.testing.assert_array_equal(is_near, (x >= 5) & (x < 11) & (y >= 5) & (y < 11))
    assert len(seen.pixel) == 18 * 18


@given(st.integers(0, 2**32 - 1))
def test_a_linear_value_is_interpolated_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    screen = rng.uniform(-5, 35, (9, 2)).astype(np.float32)
    triangles = rng.permutation(9).reshape(3, 3)
    seen = rasterise(screen, rng.uniform(1, 2, 9).astype(np.float32), triangles, SHAPE, cull=False)
    found = seen.interpolate(triangles, screen)
    y, x = np.divmod(seen.pixel, SHAPE[1])
    np.testing.assert_allclose(found, np.stack([x + 0.5, y + 0.5], axis=1), atol=0.05)
    np.testing.assert_allclose(seen.weights.sum(axis=1), 1.0, atol=1e-4)
