"""The one resize and layout between crops and networks."""

import numpy as np
import pytest

from agesearch.errors import InputError
from agesearch.models.prepare import prepare, resized

RNG = np.random.default_rng(0)


def test_layout_is_nchw_float_with_untouched_values() -> None:
    images = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    inputs = prepare(images, 32)
    assert inputs.shape == (2, 3, 32, 32)
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs[1, 2], images[1, :, :, 2].astype(np.float32))


def test_shrinking_averages_areas() -> None:
    checkers = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    checkers[:, ::2, ::2] = checkers[:, 1::2, 1::2] = 200
    np.testing.assert_array_equal(resized(checkers, 32), np.full((1, 32, 32, 3), 100))


def test_images_of_different_sizes_become_one_array() -> None:
    images = [np.full((side, side, 3), side, dtype=np.uint8) for side in (16, 32, 64)]
    small = resized(images, 32)
    assert small.shape == (3, 32, 32, 3)
    assert [int(image.mean()) for image in small] == [16, 32, 64]


def test_images_that_fit_are_not_copied() -> None:
    images = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    assert resized(images, 32) is images


def test_floats_are_refused() -> None:
    with pytest.raises(InputError, match="uint8 RGB"):
        prepare(np.zeros((1, 32, 32, 3)), 32)  # type: ignore[arg-type]
