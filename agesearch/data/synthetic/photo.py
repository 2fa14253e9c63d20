"""What a camera adds: a background out of focus, exposure, colour cast, blur, sensor noise, compression."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from agesearch.data.synthetic.raster import FloatArray, single

ByteImage = npt.NDArray[np.uint8]


def draw_background(rng: np.random.Generator, side: int) -> FloatArray:
    """A blurred wall, garden or street [side, side, 3], linear RGB; painted small, since it is blurred."""
    full, side = side, side // 4
    base = rng.uniform(0.02, 0.75) * (1 + rng.normal(0, 0.18, 3))
    top, bottom = (base * rng.uniform(0.6, 1.5) * (1 + rng.normal(0, 0.1, 3)) for _ in range(2))
    share = np.linspace(0, 1, side)[:, None, None]
    lean = np.linspace(0, 1, side)[None, :, None] * rng.uniform(-0.5, 0.5)
    picture = top * (1 - share) + bottom * share + base * lean
    picture = np.ascontiguousarray(np.broadcast_to(picture, (side, side, 3)), np.float32)
    if rng.random() < 0.65:
        cells = int(rng.integers(3, 9))
        blobs = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        blobs = 0.7 * blobs.mean(axis=2, keepdims=True) + 0.3 * blobs
        picture *= np.exp(
            rng.uniform(0.1, 0.6) * cv2.resize(blobs, (side, side), interpolation=cv2.INTER_CUBIC)
        )
    for _ in range(int(rng.integers(0, 6)) if rng.random() < 0.5 else 0):
        corner = rng.integers(-side // 3, side, 2)
        extent = rng.integers(side // 8, side, 2)
        colour = (base * rng.uniform(0.3, 2.0) * (1 + rng.normal(0, 0.25, 3))).tolist()
        cv2.rectangle(picture, corner.tolist(), (corner + extent).tolist(), colour, -1)
    soft = cv2.GaussianBlur(np.clip(picture, 0, 1.5), (0, 0), side * rng.uniform(0.01, 0.06))
    return single(cv2.resize(soft, (full, full), interpolation=cv2.INTER_CUBIC)).clip(0, 1.5)


def develop(rng: np.random.Generator, light: FloatArray, exposure: float, size: int) -> ByteImage:
    """Linear light [S, S, 3] at the sensor as an 8-bit sRGB picture of ``size`` pixels."""
    small = cv2.resize(light, (size, size), interpolation=cv2.INTER_AREA)
    cast = 1 + rng.normal(0, 0.05) * np.array([1, 0, -1]) + rng.normal(0, 0.015, 3)
    small = 1 - np.exp(-1.25 * exposure * np.maximum(small, 0) * cast)
    coded = np.where(small <= 0.0031308, 12.92 * small, 1.055 * np.maximum(small, 1e-8) ** (1 / 2.4) - 0.055)
    contrast = rng.normal(1.06, 0.09)
    coded = ((coded - 0.5) * contrast + 0.5 + rng.normal(0, 0.02)).astype(np.float32)
    grey = coded.mean(axis=2, keepdims=True)
    colourful = 0.0 if rng.random() < 0.02 else float(np.clip(rng.normal(0.97, 0.12), 0.5, 1.3))
    coded = grey + (coded - grey) * colourful
    coded = _defocus(rng, coded)
    noise = float(abs(rng.normal(0, 0.006))) + 0.002
    coded = coded + rng.standard_normal(coded.shape, dtype=np.float32) * noise
    picture = np.clip(coded * 255 + 0.5, 0, 255).astype(np.uint8)
    return _compress(rng, picture)


def _defocus(rng: np.random.Generator, picture: FloatArray) -> FloatArray:
    side = picture.shape[0]
    kind = rng.random()
    if kind < 0.15:
        return single(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 0.9)) * side / 112))
    if kind < 0.22:
        few = int(side * rng.uniform(0.45, 0.85))
        reduced = cv2.resize(picture, (few, few), interpolation=cv2.INTER_AREA)
        return single(cv2.resize(reduced, (side, side), interpolation=cv2.INTER_LINEAR))
    if kind < 0.4:  # sharpened by the camera
        return picture + (picture - cv2.GaussianBlur(picture, (0, 0), 1.0)) * float(rng.uniform(0.2, 0.8))
    return picture


def _compress(rng: np.random.Generator, picture: ByteImage) -> ByteImage:
    if rng.random() < 0.5:
        return picture
    quality = int(rng.integers(40, 92))
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
