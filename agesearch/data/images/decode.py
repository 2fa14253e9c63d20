"""Bytes of any origin -> an 8-bit RGB array, or a ``BadImage`` with a short reason; used by ingest and
service.

Pillow decodes, not OpenCV, for three reasons: it reads the header first, so that a decompression bomb is
refused before any pixel is allocated; it takes a list of permitted formats, so that a hostile file cannot
pick an exotic decoder; and a truncated file is an error there, where OpenCV returns the missing part in grey.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin

from agesearch.data.images.jpeg import MAGIC, JpegFrame, read_frame
from agesearch.errors import InputError, first_line

RgbImage = npt.NDArray[np.uint8]

#: What the web sends. The service takes these only. (JPEG includes the MPO of some cameras.)
WEB_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
#: What datasets of the last thirty years hold besides.
ARCHIVE_FORMATS = (*WEB_FORMATS, "TIFF", "PPM")

#: A photograph of 200 megapixels has up to 70 MB, a motion photo some 15.
MAX_IMAGE_BYTES = 128 * 1024 * 1024
#: Pixels that are held in memory: 7 bytes each while an image is decoded.
MAX_IMAGE_PIXELS = 64_000_000
#: A JPEG may have so many times as many (phones write 108 and 200 million): it is decoded at 1/2, 1/4 or 1/8
#: of its sides, by the transform itself (libjpeg's scaling), so that the whole is never in memory.
_MOST_REDUCED = 5
_REDUCTIONS = (1, 2, 4, 8)
#: OpenCV's warps index with 16 bits.
MAX_IMAGE_SIDE = 32_000
MIN_IMAGE_SIDE = 16
#: A progressive JPEG has about ten scans; thousands of tiny ones cost minutes of decoding (a known attack).
_MAX_JPEG_SCANS = 64
#: Where there are several: 64 million pixels, ten times over, are about ten seconds.
_MAX_SCANNED_PIXELS = 1_280_000_000
_USUAL_JPEG_SCANS, _MAX_PIXELS_OF_MANY_SCANS = 12, 640_000_000
#: Coefficients of a JPEG of several scans are all in memory at once, however far it is reduced.
_MAX_COEFFICIENT_BYTES = 640_000_000
#: An ICC profile and EXIF, each in full, are about 300 segments; each costs Pillow time in Python.
_MAX_JPEG_SEGMENTS = 4096

#: A header may name few pixels and a tile that takes gigabytes; owners' tiles have 4,096 a side at most.
_MAX_TILE_PIXELS = 4096 * 4096
_TILE_WIDTH, _TILE_LENGTH, _ORIENTATION = 322, 323, 0x0112
#: Plain-text PPM is decoded at 3 MB/s, in Python.
_MAX_PLAIN_PPM_BYTES = 16 * 1024 * 1024
#: Rows that are converted at once, so that no more than the image and its RGB are in memory.
_BAND = 256

#: EXIF orientation -> the view of an upright array that has the rows and columns of the stored image.
_STORED_VIEW: dict[int, Callable[[RgbImage], RgbImage]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


class BadImage(InputError):  # noqa: N818 - named for what it is, like the other kinds
    """An image that cannot be used: ``reason`` is a short name for counting, the message says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadImage], tuple[str, str]]:
        # Ray carries errors between processes by pickling, which would call __init__ with one argument.
        return BadImage, (self.reason, str(self))


@dataclass(frozen=True, eq=False)
class Photograph:
    """A decoded image: ``pixels`` is ``uint8 [H, W, 3]`` RGB, upright.

    ``reduction`` is the side, in pixels of the file, of the square that one of these pixels stands for: 1, or
    2, 4 or 8 for a JPEG too large to be held whole. ``width`` and ``height`` are those of the file, upright.
    """

    pixels: RgbImage
    width: int
    height: int
    reduction: int = 1

    @classmethod
    def of(cls, rgb: RgbImage) -> Photograph:
        """An array as it is."""
        return cls(rgb, rgb.shape[1], rgb.shape[0])


def decode_image(
    data: bytes,
    *,
    max_bytes: int = MAX_IMAGE_BYTES,
    max_pixels: int = MAX_IMAGE_PIXELS,
    formats: tuple[str, ...] = WEB_FORMATS,
) -> RgbImage:
    """The pixels of ``decode_photograph``, for those who need no place in the file."""
    return decode_photograph(data, max_bytes=max_bytes, max_pixels=max_pixels, formats=formats).pixels


def decode_photograph(
    data: bytes,
    *,
    max_bytes: int = MAX_IMAGE_BYTES,
    max_pixels: int = MAX_IMAGE_PIXELS,
    formats: tuple[str, ...] = WEB_FORMATS,
    enough: int | None = None,
) -> Photograph:
    """An image file's bytes as upright RGB (EXIF orientation applied); of an animation, the first frame.

    CMYK, palette, 16-bit and grey become 8-bit RGB; transparent pixels become white. At most ``max_pixels``
    come back: a JPEG with more, up to five times as many, is reduced while it is decoded; so is one whose
    longer side then still has ``enough`` pixels, where that is given. What lies behind
    the image's end (a motion photo's video) is left alone. Raises ``BadImage`` with one of the reasons
    ``empty``, ``too_many_bytes``, ``not_an_image``, ``too_many_pixels``, ``too_small``, ``truncated``,
    ``corrupt``.
    """
    if not data:
        raise BadImage("empty", "The image has no bytes.")
    if len(data) > max_bytes:
        raise BadImage(
            "too_many_bytes", f"The image has {len(data)} bytes, more than the {max_bytes} allowed."
        )
    frame = read_frame(data, _MAX_JPEG_SEGMENTS) if data.startswith(MAGIC) else None
    if frame is not None and frame.segments > _MAX_JPEG_SEGMENTS:
        raise BadImage("corrupt", f"The JPEG has more than {_MAX_JPEG_SEGMENTS} segments.")
    image = _open(data, formats)
    width, height = image.size
    reduction = _reduction(width, height, frame, max_pixels, enough)
    _check_cost(image, data, frame)
    if reduction > 1 and isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(None, (width // reduction, height // reduction))
    turned, pixels = _pixels(image)
    if turned:
        width, height = height, width
    return Photograph(pixels, width, height, reduction)


def checked_pixels(rgb: npt.NDArray[Any]) -> RgbImage:
    """The same array where it is ``uint8 [H, W, 3]`` of a usable size, else an ``InputError``."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise InputError(f"The image is {rgb.dtype} {rgb.shape}, but must be uint8 (H, W, 3), RGB.")
    height, width = rgb.shape[:2]
    if min(height, width) < MIN_IMAGE_SIDE or max(height, width) > MAX_IMAGE_SIDE:
        raise BadImage(
            "bad_size",
            f"The image is {width} x {height}, but must have {MIN_IMAGE_SIDE} to {MAX_IMAGE_SIDE} a side.",
        )
    return rgb


def _open(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    try:
        if data.startswith(MAGIC) and "JPEG" in formats:
            # Not through Image.open: that follows an index of further pictures (MPF), which may be broken,
            # and refuses 200 megapixels before they can be reduced.
            return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        return Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise BadImage("too_many_pixels", "The image's header claims far too many pixels.") from error
    except Exception as error:  # hostile headers raise anything: struct.error, ValueError, SyntaxError, ...
        names = ", ".join(formats)
        raise BadImage("not_an_image", f"The bytes are not an image in a known format ({names}).") from error


def _reduction(width: int, height: int, frame: JpegFrame | None, max_pixels: int, enough: int | None) -> int:
    """How far an image's sides must be divided so that ``max_pixels`` hold it, or may be so that its longer
    side has ``enough``; ``BadImage`` where nothing does, or it is too small to show a face.
    """
    scales = frame is not None and frame.scales
    most = max_pixels * _MOST_REDUCED if scales else max_pixels
    fitting = [by for by in _REDUCTIONS if -(-width // by) * -(-height // by) <= max_pixels]
    if width * height > most or max(width, height) > MAX_IMAGE_SIDE or not fitting:
        raise BadImage(
            "too_many_pixels",
            f"The image is {width} x {height}, more than {most} pixels or {MAX_IMAGE_SIDE} on a side.",
        )
    if min(width, height) < MIN_IMAGE_SIDE:
        raise BadImage(
            "too_small", f"The image is {width} x {height}, but must be at least {MIN_IMAGE_SIDE} a side."
        )
    ample = [by for by in _REDUCTIONS if scales and enough and max(width, height) // by >= enough]
    return max(fitting[0], ample[-1]) if ample else fitting[0]


def _check_cost(image: Image.Image, data: bytes, frame: JpegFrame | None) -> None:
    """Refuse what a small file can make large besides its pixels: scans, coefficients, text, tiles."""
    pixels = image.width * image.height
    if frame is not None and _scans_too_long(frame.scans, pixels):
        raise BadImage("corrupt", "The JPEG has more scans than any honest encoder writes.")
    if frame is not None and frame.whole_bytes > _MAX_COEFFICIENT_BYTES:
        raise BadImage(
            "too_many_pixels",
            f"The image is a progressive JPEG of {image.width} x {image.height}, which takes "
            f"{frame.whole_bytes} bytes of memory at once: save it as a baseline JPEG, or smaller.",
        )
    if image.format == "PPM" and data[1:2] in b"123" and len(data) > _MAX_PLAIN_PPM_BYTES:
        raise BadImage("too_many_bytes", f"The plain-text PPM has {len(data)} bytes: store it as PNG.")
    tile = _tile_pixels(image)
    if tile > _MAX_TILE_PIXELS:
        raise BadImage("too_many_pixels", f"The TIFF's tiles have {tile} pixels each.")


def _scans_too_long(scans: int, pixels: int) -> bool:
    most = _MAX_SCANNED_PIXELS if scans <= _USUAL_JPEG_SCANS else _MAX_PIXELS_OF_MANY_SCANS
    return scans > _MAX_JPEG_SCANS or (scans > 1 and scans * pixels > most)


def _tile_pixels(image: Image.Image) -> int:
    tags = getattr(image, "tag_v2", {})
    width, length = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)
    return width * length if isinstance(width, int) and isinstance(length, int) else 0


def _pixels(image: Image.Image) -> tuple[bool, RgbImage]:
    """Whether the image lies on its side in the file, and its upright pixels."""
    try:
        image.load()
        return _orientation(image) >= 5, upright_rgb(image)
    except MemoryError as error:
        raise BadImage("too_many_pixels", "The image does not fit in memory.") from error
    except Exception as error:  # a decoder fed hostile bytes raises anything
        reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise BadImage(reason, f"The image cannot be decoded: {first_line(error)[:200]}") from error


def upright_rgb(image: Image.Image) -> RgbImage:
    """An image as ``uint8 [H, W, 3]`` RGB, upright; converted band by band, straight into the array."""
    orientation = _orientation(image)
    width, height = image.size
    shape = (width, height, 3) if orientation >= 5 else (height, width, 3)
    upright: RgbImage = np.empty(shape, np.uint8)
    view = _STORED_VIEW.get(orientation)
    stored = upright if view is None else view(upright)
    is_deep = image.mode.startswith("I") or image.mode == "F"
    bands = [(top, min(top + _BAND, height)) for top in range(0, height, _BAND)]
    peak = max((_peak(_band(image, *rows)) for rows in bands), default=0.0) if is_deep else 0.0
    for top, bottom in bands:
        band = _band(image, top, bottom)
        stored[top:bottom] = _from_deep_grey(np.asarray(band), peak) if is_deep else _to_rgb(band)
    return upright


def _band(image: Image.Image, top: int, bottom: int) -> Image.Image:
    band = image.crop((0, top, image.width, bottom))
    band.info = image.info  # a palette's transparency is told there
    return band


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF must not cost an image whose pixels are sound
        return 1
    return found if isinstance(found, int) and found in _STORED_VIEW else 1


def _to_rgb(image: Image.Image) -> RgbImage:
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, (255, 255, 255))
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(canvas)
    return np.asarray(image.convert("RGB"))


def _peak(image: Image.Image) -> float:
    return float(np.nan_to_num(np.asarray(image, np.float64)).max(initial=0.0))


def _from_deep_grey(values: npt.NDArray[Any], peak: float) -> RgbImage:
    """Grey of more than 8 bits -> RGB: 16-bit values keep their high byte, floats are 0..1 or 0..255.

    ``peak`` is the largest value of the whole image, which tells the scale.
    """
    levels = np.nan_to_num(values.astype(np.float64))
    if np.issubdtype(values.dtype, np.floating):
        levels = levels * 255.0 if peak <= 1.0 else levels
    elif values.dtype.itemsize == 2 or peak > 255.0:
        levels = levels / 256.0
    grey = np.clip(levels, 0.0, 255.0).astype(np.uint8)
    return cast(RgbImage, np.repeat(grey[..., None], 3, axis=2))
