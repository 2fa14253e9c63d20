"""A small z-buffer rasteriser in plain NumPy: which triangle covers each pixel, and where in it.

Triangles of like size are tested against their bounding squares at once; the nearest triangle of a pixel wins
by one ``minimum.at`` over (depth, triangle) packed into an integer, so the picture does not depend on the
order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
FloatArray64 = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


_NOTHING = np.iinfo(np.int64).max
_DEPTH_STEPS = float(1 << 30)
_TRIANGLE_BITS = 24

#: Triangles are handled in groups by the side of their bounding box in pixels.
_SIDES = (0, 1, 2, 3, 4, 5, 6, 8, 11, 16, 24, 36, 64, 128, 512, 4096)
#: How far outside its edges a triangle still owns a pixel (a share of its height): no cracks between
#: neighbours.
_EDGE = 1e-4


def single(value: npt.ArrayLike) -> FloatArray:
    """The values as a float32 array, without a copy where they are one."""
    return np.asarray(value, np.float32)


@dataclass(frozen=True)
class Fragments:
    """The visible surface: ``pixel`` [N] flat pixel index, ``triangle`` [N], ``weights`` [N, 3] barycentric,
    ``depth`` [N].
    """

    pixel: IntArray
    triangle: IntArray
    weights: FloatArray
    depth: FloatArray

    def interpolate(self, triangles: IntArray, values: FloatArray) -> FloatArray:
        """Vertex ``values`` ``[V]`` or ``[V, C]`` at every fragment: ``[N]`` or ``[N, C]``."""
        corners = values[triangles[self.triangle]]
        form = "nk,nk->n" if corners.ndim == 2 else "nk,nkc->nc"
        return single(np.einsum(form, self.weights, corners))


def rasterise(
    screen: FloatArray, depth: FloatArray, triangles: IntArray, shape: tuple[int, int], *, cull: bool = True
) -> Fragments:
    """The nearest triangle of each pixel of an image ``shape`` (height, width).

    ``screen`` [V, 2] holds x and y in pixels (pixel centres at .5, y downwards), ``depth`` [V] grows away
    from the eye and is positive. ``cull`` drops triangles that are seen from behind: counter-clockwise ones
    in space, which are clockwise here since y points down, are the front.
    """
    height, width = shape
    corners = screen[triangles].astype(np.float64)
    low = np.clip(np.ceil(corners.min(axis=1) - 0.5), 0, (width, height)).astype(np.int64)
    high = np.clip(np.floor(corners.max(axis=1) - 0.5) + 1, 0, (width, height)).astype(np.int64)
    span = (high - low).max(axis=1) * (high > low).all(axis=1)
    planes, area = _edge_planes(corners, low + 0.5)
    span[(area > -1e-9) if cull else (np.abs(area) < 1e-9)] = 0
    found = [
        _covered(np.flatnonzero((span > smaller) & (span <= side)), side, low, planes, shape)
        for smaller, side in zip(_SIDES[:-1], _SIDES[1:], strict=True)
    ]
    pixel, index, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _nearest(pixel, index, weights, depth[triangles[index]], height * width)


def _edge_planes(corners: FloatArray64, origin: FloatArray64) -> tuple[FloatArray, FloatArray64]:
    """Second and third barycentric weight as planes [T, 2, 3]: value at ``origin``, slope in x and in y; and
    twice the signed area [T].
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    inverse = 1.0 / np.where(np.abs(area) < 1e-9, 1.0, area)
    slopes = np.stack([c[:, 1] - a[:, 1], a[:, 0] - c[:, 0], a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]], axis=1)
    slopes = (slopes * inverse[:, None]).reshape(-1, 2, 2)
    start = np.einsum("tkd,td->tk", slopes, origin - a)
    return np.concatenate([start[:, :, None], slopes], axis=2).astype(np.float32), area


def _covered(
    chosen: IntArray, side: int, low: IntArray, planes: FloatArray, shape: tuple[int, int]
) -> tuple[IntArray, IntArray, FloatArray]:
    """Covered pixels of triangles that fit a square of ``side`` pixels: pixel, triangle, weights."""
    steps = np.arange(side, dtype=np.float32)
    plane = planes[chosen][:, :, :, None, None]
    second, third = (
        plane[:, k, 0] + plane[:, k, 1] * steps[None, None, :] + plane[:, k, 2] * steps[None, :, None]
        for k in (0, 1)
    )
    first = 1.0 - second - third
    row, y, x = np.nonzero((first >= -_EDGE) & (second >= -_EDGE) & (third >= -_EDGE))
    weights = np.stack([first[row, y, x], second[row, y, x], third[row, y, x]], axis=1)
    index = chosen[row]
    x, y = x + low[index, 0], y + low[index, 1]
    kept = (x < shape[1]) & (y < shape[0])
    return (y * shape[1] + x)[kept], index[kept], weights[kept]


def _nearest(
    pixel: IntArray, index: IntArray, weights: FloatArray, corner_depth: FloatArray, pixels: int
) -> Fragments:
    if pixel.size == 0:
        return Fragments(pixel, index, weights, np.zeros(0, np.float32))
    depth = (weights * corner_depth).sum(axis=1)
    near, far = float(depth.min()), float(depth.max())
    steps = ((depth.astype(np.float64) - near) / max(far - near, 1e-12) * _DEPTH_STEPS).astype(np.int64)
    key = (steps << _TRIANGLE_BITS) | index
    best = np.full(pixels, _NOTHING, np.int64)
    np.minimum.at(best, pixel, key)
    won = np.flatnonzero(key == best[pixel])
    won = won[np.argsort(pixel[won], kind="stable")]
    return Fragments(pixel[won], index[won], weights[won], depth[won].astype(np.float32))
