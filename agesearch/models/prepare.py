"""The one way from a face crop to a network's input, used by training, evaluation and the service.

OpenCV and NumPy only, so that the service needs no training framework.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from agesearch.errors import InputError

Images = npt.NDArray[np.uint8]


def resized(images: Images | Sequence[Images], input_size: int) -> Images:
    """RGB crops of any size -> ``uint8 [N, input_size, input_size, 3]``, unchanged where they already fit.

    ``images`` is ``uint8 [N, H, W, 3]`` or a sequence of ``[H, W, 3]`` of different sizes. Shrinking averages
    areas, so that no detail aliases; growing interpolates linearly.
    """
    if isinstance(images, np.ndarray) and images.ndim == 4 and images.shape[1:3] == (input_size, input_size):
        return _checked(images)
    out = np.empty((len(images), input_size, input_size, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        shrinks = _checked(image).shape[0] > input_size
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        out[index] = cv2.resize(image, (input_size, input_size), interpolation=way)
    return out


def prepare(images: Images | Sequence[Images], input_size: int) -> npt.NDArray[np.float32]:
    """RGB crops of any size -> ``float32 [N, 3, input_size, input_size]``, RGB in 0..255.

    Mean and scale are part of each network's graph, so they are not applied here.
    """
    return np.ascontiguousarray(resized(images, input_size).transpose(0, 3, 1, 2), dtype=np.float32)


def _checked(images: Images) -> Images:
    if images.dtype != np.uint8 or images.shape[-1] != 3:
        raise InputError(
            f"Images must be uint8 RGB with 3 channels last, but are {images.dtype} {images.shape}."
        )
    return images
