"""What an augmentation does to the pixels of a face, in few passes; nothing here draws, or is kept."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.float32]

#: An affine map of pixel coordinates ``x' = a x + b y + c, y' = d x + e y + f`` as ``(a, b, c, d, e, f)``.
Affine = tuple[float, float, float, float, float, float]

#: The grey that a hole is filled with.
_HOLE = 127

_LEVELS = np.arange(256, dtype=np.float32)


class Changes(NamedTuple):
    """All that one face is changed by, in the order in which it happens; None leaves a part out.

    ``light`` is a gain, and an offset in levels of 255; ``hue_saturation`` the shifts of hue in units of two
    degrees and of saturation in levels; ``gamma`` an exponent of levels in 0..1; ``blur`` a Gaussian's sigma
    and width in pixels; ``noise`` a sigma in levels and the seed of its pixels; ``jpeg`` a quality; ``hole``
    left, top, right and bottom in pixels.
    """

    warp: Affine | None = None
    light: tuple[float, float] | None = None
    hue_saturation: tuple[float, float] | None = None
    gamma: float | None = None
    blur: tuple[float, int] | None = None
    noise: tuple[float, int] | None = None
    jpeg: int | None = None
    hole: tuple[int, int, int, int] | None = None


def changed(image: Pixels, changes: Changes) -> Pixels:
    """``uint8 [S, S, 3]`` RGB -> the same shape; ``image`` itself is left as it is."""
    face = image if changes.warp is None else _warped(image, changes.warp)
    face = _coloured(face, changes)
    if changes.blur is not None:
        face = _blurred(face, *changes.blur)
    if changes.noise is not None:
        face = _noisy(face, *changes.noise)
    if changes.jpeg is not None:
        face = _compressed(face, changes.jpeg)
    if changes.hole is not None:
        face = image.copy() if face is image else face
        left, top, right, bottom = changes.hole
        face[top:bottom, left:right] = _HOLE
    return face


def _warped(image: Pixels, warp: Affine) -> Pixels:
    """Bilinear, all of the map in one pass; what lies beyond the crop is its mirror image.

    With a fourth channel OpenCV takes 43 us for 96 px instead of 61, copies included, for the same pixels.
    """
    height, width = image.shape[:2]
    with_alpha = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    matrix = np.array((warp[:3], warp[3:]))
    moved = cv2.warpAffine(
        with_alpha, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB)  # type: ignore[return-value]


def _coloured(face: Pixels, changes: Changes) -> Pixels:
    """Light, hue and saturation, gamma: one table for all of the levels, unless the colours come between."""
    light, shifts, gamma = changes.light, changes.hue_saturation, changes.gamma
    if shifts is None:
        return face if light is None and gamma is None else _looked_up(face, light, gamma)
    face = face if light is None else _looked_up(face, light, None)
    face = _shifted(face, *shifts)
    return face if gamma is None else _looked_up(face, None, gamma)


def _looked_up(face: Pixels, light: tuple[float, float] | None, gamma: float | None) -> Pixels:
    levels: Levels = _LEVELS
    if light is not None:
        levels = levels * np.float32(light[0]) + np.float32(light[1])
    if gamma is not None:
        levels = np.float32(255) * np.power(levels.clip(0, 255) / np.float32(255), np.float32(gamma))
    return cv2.LUT(face, _rounded(levels))  # type: ignore[return-value]


def _shifted(face: Pixels, hue: float, saturation: float) -> Pixels:
    """Hue goes round at 180; what is grey stays grey."""
    table = np.empty((1, 256, 3), np.uint8)
    table[0, :, 0] = np.mod(_LEVELS + np.float32(hue), 180)
    table[0, :, 1] = _rounded(_LEVELS + np.float32(saturation))
    table[0, 0, 1] = 0
    table[0, :, 2] = _LEVELS
    hsv = cv2.LUT(cv2.cvtColor(face, cv2.COLOR_RGB2HSV), table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)  # type: ignore[return-value]


def _blurred(face: Pixels, sigma: float, width: int) -> Pixels:
    kernel = np.array([math.exp(-0.5 * (x / sigma) ** 2) for x in range(-(width // 2), width // 2 + 1)])
    kernel /= kernel.sum()
    return cv2.sepFilter2D(face, -1, kernel, kernel)  # type: ignore[return-value]


def _noisy(face: Pixels, sigma: float, seed: int) -> Pixels:
    """Each pixel and channel its own Gaussian."""
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(face.shape, dtype=np.float32)
    noise *= np.float32(sigma)
    noise += face
    return _rounded(noise)


def _compressed(face: Pixels, quality: int) -> Pixels:
    """A JPEG's losses."""
    bgr = cv2.cvtColor(face, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    decoded = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def _rounded(levels: Levels) -> Pixels:
    whole: Pixels = np.rint(levels.clip(0, 255)).astype(np.uint8)
    return whole
