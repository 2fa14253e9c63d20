"""Bytes of any origin -> an 8-bit RGB array, or a ``BadImage`` with a short reason; used by ingest and
service.

Pillow decodes, not OpenCV, for three reasons: it reads the header first, so that a decompression bomb is
refused before any pixel is allocated; it takes a list of permitted formats, so that a hostile file cannot
pick an exotic decoder; and a truncated file is an error there, where OpenCV returns the missing part in grey.
"""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from agesearch.errors import InputError, first_line

RgbImage = npt.NDArray[np.uint8]

#: What the web sends. The service takes these only. (JPEG includes the MPO of some cameras.)
WEB_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
#: What datasets of the last thirty years hold besides.
ARCHIVE_FORMATS = (*WEB_FORMATS, "TIFF", "PPM")

MAX_IMAGE_BYTES = 64 * 1024 * 1024
MAX_IMAGE_PIXELS = 64_000_000
#: OpenCV's warps index with 16 bits.
MAX_IMAGE_SIDE = 32_000
MIN_IMAGE_SIDE = 16
#: A progressive JPEG has about ten scans; thousands of tiny ones cost minutes of decoding (a known attack).
_MAX_JPEG_SCANS = 64

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(InputError):  # noqa: N818 - named for what it is, like the other kinds
    """An image that cannot be used: ``reason`` is a short name for counting, the message says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadImage], tuple[str, str]]:
        # Ray carries errors between processes by pickling, which would call __init__ with one argument.
        return BadImage, (self.reason, str(self))


def decode_image(
    data: bytes,
    *,
    max_bytes: int = MAX_IMAGE_BYTES,
    max_pixels: int = MAX_IMAGE_PIXELS,
    formats: tuple[str, ...] = WEB_FORMATS,
) -> RgbImage:
    """``uint8 [H, W, 3]`` RGB, upright (EXIF orientation applied); of an animation, the first frame.

    CMYK, palette, 16-bit and grey become 8-bit RGB; transparent pixels become white. Raises ``BadImage`` with
    one of the reasons ``empty``, ``too_many_bytes``, ``not_an_image``, ``too_many_pixels``, ``too_small``,
    ``truncated``, ``corrupt``.
    """
    if not data:
        raise BadImage("empty", "The image has no bytes.")
    if len(data) > max_bytes:
        raise BadImage(
            "too_many_bytes", f"The image has {len(data)} bytes, more than the {max_bytes} allowed."
        )
    image = _open(data, formats)
    _check_size(image, data, max_pixels)
    return _pixels(image)


def _open(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise BadImage("too_many_pixels", "The image's header claims far too many pixels.") from error
    except Exception as error:  # hostile headers raise anything: struct.error, ValueError, SyntaxError, ...
        names = ", ".join(formats)
        raise BadImage("not_an_image", f"The bytes are not an image in a known format ({names}).") from error


def _check_size(image: Image.Image, data: bytes, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels or max(width, height) > MAX_IMAGE_SIDE:
        raise BadImage(
            "too_many_pixels",
            f"The image is {width} x {height}, more than {max_pixels} pixels or {MAX_IMAGE_SIDE} on a side.",
        )
    if min(width, height) < MIN_IMAGE_SIDE:
        raise BadImage(
            "too_small", f"The image is {width} x {height}, but must be at least {MIN_IMAGE_SIDE} a side."
        )
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise BadImage("corrupt", f"The JPEG has more than {_MAX_JPEG_SCANS} scans.")


def _pixels(image: Image.Image) -> RgbImage:
    try:
        image.load()
        upright = _upright(image)
        return np.ascontiguousarray(_to_rgb(upright))
    except BadImage:
        raise
    except MemoryError as error:
        raise BadImage("too_many_pixels", "The image does not fit in memory.") from error
    except Exception as error:  # a decoder fed hostile bytes raises anything
        reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise BadImage(reason, f"The image cannot be decoded: {first_line(error)[:200]}") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # broken EXIF must not cost an image whose pixels are sound
        orientation = 1
    method = _ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return image.transpose(method) if method is not None else image


def _to_rgb(image: Image.Image) -> RgbImage:
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(np.asarray(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, (255, 255, 255))
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(canvas)
    return np.asarray(image.convert("RGB"))


def _from_deep_grey(values: npt.NDArray[Any]) -> RgbImage:
    """Grey of more than 8 bits -> RGB: 16-bit values keep their high byte, floats are 0..1 or 0..255."""
    levels = np.nan_to_num(values.astype(np.float64))
    peak = float(levels.max(initial=0.0))
    if np.issubdtype(values.dtype, np.floating):
        levels = levels * 255.0 if peak <= 1.0 else levels
    elif values.dtype.itemsize == 2 or peak > 255.0:
        levels = levels / 256.0
    grey = np.clip(levels, 0.0, 255.0).astype(np.uint8)
    return cast(RgbImage, np.repeat(grey[..., None], 3, axis=2))
