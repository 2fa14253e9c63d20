"""The 13 corruptions of "LFW+C" (Greco et al. 2021) by its strengths, seeded as those of ``corruptions``.

Strengths are meant for faces of 256 px: a crop is brought to that side, corrupted there, and given to the
networks as it is. For motion blur and spatter the paper's tables name no strengths; Hendrycks's are taken.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from agesearch.errors import unknown_name
from agesearch.measure.robustness.corruptions import (
    Image,
    by_package,
    check_face,
    check_severity,
    corruption_seed,
)

SIDE = 256

_Floats = npt.NDArray[np.float64]
_Random = np.random.RandomState

_GAUSSIAN_BLUR = (1.0, 1.8, 2.6, 3.4, 4.0)
_GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.24, 0.30)
_SHOT_NOISE = (60.0, 29.0, 15.0, 8.0, 5.0)
_BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRAST = (0.4, 0.33, 0.24, 0.16, 0.1)
_CONTRAST_PLUS = (1.5, 1.9, 2.6, 3.3, 5.0)
_JPEG = (25, 18, 15, 10, 7)
_PIXELATE = (0.6, 0.5, 0.41, 0.3, 0.25)
#: Radius of the disk and sigma of its smoothing, in 48ths of the face's side.
_DEFOCUS = ((1.5, 0.1), (2.0, 0.2), (2.0, 0.3), (2.5, 0.4), (3.0, 0.4))
#: The largest zoom, and the steps to it.
_ZOOM = ((1.11, 0.01), (1.18, 0.01), (1.26, 0.02), (1.32, 0.02), (1.40, 0.03))


def corrupt_lfwc(rgb: Image, name: str, severity: int, sample_id: str) -> Image:
    """The face ``rgb`` uint8 ``[H, W, 3]`` corrupted, as ``[256, 256, 3]``; bit-identical for the same
    arguments. An unknown corruption or severity, and what is no face, are an ``InputError``.
    """
    if name not in LFWC:
        raise unknown_name("corruption of LFW+C", name, LFWC)
    check_severity(severity)
    check_face(rgb)
    face = rgb
    if rgb.shape[:2] != (SIDE, SIDE):
        shrinks = min(rgb.shape[:2]) > SIDE
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR_EXACT
        face = cv2.resize(rgb, (SIDE, SIDE), interpolation=way).astype(np.uint8)
    found: Image = LFWC[name](face, severity - 1, corruption_seed(sample_id, f"lfwc {name}", severity))
    return found


def _bytes(shares: _Floats) -> Image:
    """0..1 to 0..255, rounded."""
    return np.rint(np.clip(shares, 0.0, 1.0) * 255.0).astype(np.uint8)


def _gaussian_blur(face: Image, level: int, seed: int) -> Image:
    return np.asarray(cv2.GaussianBlur(face, (0, 0), _GAUSSIAN_BLUR[level]), np.uint8)


def _defocus_blur(face: Image, level: int, seed: int) -> Image:
    radius, sigma = (value * SIDE / 48.0 for value in _DEFOCUS[level])
    reach = np.arange(-np.ceil(radius), np.ceil(radius) + 1)
    disk = (reach[:, None] ** 2 + reach[None, :] ** 2 <= radius**2).astype(np.float64)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (5, 5), sigmaX=sigma)
    return np.rint(np.clip(cv2.filter2D(face.astype(np.float64), -1, kernel), 0, 255)).astype(np.uint8)


def _zoom_blur(face: Image, level: int, seed: int) -> Image:
    most, step = _ZOOM[level]
    total, zooms = face.astype(np.float64), np.arange(1.0, most, step)
    for zoom in zooms:
        side = int(np.ceil(SIDE / zoom))
        start = (SIDE - side) // 2
        part = np.ascontiguousarray(face[start : start + side, start : start + side])
        total += cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.rint(total / (len(zooms) + 1)).astype(np.uint8)


def _gaussian_noise(face: Image, level: int, seed: int) -> Image:
    return _bytes(face / 255.0 + _Random(seed).normal(size=face.shape, scale=_GAUSSIAN_NOISE[level]))


def _shot_noise(face: Image, level: int, seed: int) -> Image:
    photons = _SHOT_NOISE[level]
    return _bytes(_Random(seed).poisson(face / 255.0 * photons) / photons)


def _with_value(face: Image, change: float) -> Image:
    """Another value V of hue, saturation and value: all channels by one factor; black becomes grey."""
    shares = face / 255.0
    value = shares.max(axis=2, keepdims=True)
    wanted = np.clip(value + change, 0.0, 1.0)
    return _bytes(np.where(value > 0.0, shares * (wanted / np.where(value > 0.0, value, 1.0)), wanted))


def _brightness_plus(face: Image, level: int, seed: int) -> Image:
    return _with_value(face, _BRIGHTNESS[level])


def _brightness_minus(face: Image, level: int, seed: int) -> Image:
    return _with_value(face, -_BRIGHTNESS[level])


def _about_the_mean(face: Image, factor: float) -> Image:
    shares = face / 255.0
    mean = shares.mean(axis=(0, 1), keepdims=True)
    return _bytes((shares - mean) * factor + mean)


def _contrast(face: Image, level: int, seed: int) -> Image:
    return _about_the_mean(face, _CONTRAST[level])


def _contrast_plus(face: Image, level: int, seed: int) -> Image:
    return _about_the_mean(face, _CONTRAST_PLUS[level])


def _jpeg_compression(face: Image, level: int, seed: int) -> Image:
    content = io.BytesIO()
    PillowImage.fromarray(face).save(content, "JPEG", quality=_JPEG[level])
    return np.array(PillowImage.open(content), np.uint8)


def _pixelate(face: Image, level: int, seed: int) -> Image:
    side = int(SIDE * _PIXELATE[level])
    small = PillowImage.fromarray(face).resize((side, side), PillowImage.Resampling.BOX)
    return np.array(small.resize((SIDE, SIDE), PillowImage.Resampling.NEAREST), np.uint8)


def _motion_blur(face: Image, level: int, seed: int) -> Image:
    return by_package(face, "motion_blur", level + 1, seed)


def _spatter(face: Image, level: int, seed: int) -> Image:
    return by_package(face, "spatter", level + 1, seed)


#: Name -> (face of 256 px, severity - 1, seed) -> corrupted face.
LFWC: Mapping[str, Callable[[Image, int, int], Any]] = {
    "defocus_blur": _defocus_blur,
    "gaussian_blur": _gaussian_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "brightness_plus": _brightness_plus,
    "brightness_minus": _brightness_minus,
    "contrast": _contrast,
    "contrast_plus": _contrast_plus,
    "jpeg_compression": _jpeg_compression,
    "pixelate": _pixelate,
    "spatter": _spatter,
}
