"""Seeded makers of bad and odd image files: what datasets and attackers put where a photograph should be."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms

from agesearch.data.dataset.arrays import Pixels
from agesearch.data.images.decode import _STORED_VIEW

Reasons = frozenset[str]
DAMAGED: Reasons = frozenset({"truncated", "corrupt", "not_an_image", "empty"})
#: A damaged header may claim anything.
ODD: Reasons = DAMAGED | {"too_many_pixels", "too_small"}
NONE: Reasons = frozenset()


@dataclass(frozen=True)
class Content:
    """A file's bytes; ``pixels`` is the picture that must come out (None: any may, or none), and ``reasons``
    are those it may be left out for (empty: it must become a face)."""

    kind: str
    suffix: str
    data: bytes
    pixels: Pixels | None = None
    reasons: Reasons = NONE
    tolerance: float = 4.0


Maker = Callable[[Pixels, np.random.Generator], Content]


def contents(faces: Pixels, count: int, seed: int) -> Iterator[Content]:
    """``count`` files of all kinds in turn, each from another face (``uint8 [N, S, S, 3]``) and draw."""
    rng = np.random.default_rng(seed)
    for number, maker in enumerate(islice(cycle(MAKERS), count)):
        face = faces[number % len(faces)].copy()
        face[:2, :2] = rng.integers(
            0, 255, (2, 2, 3)
        )  # no two files are alike, even where a face comes again
        yield maker(face, rng)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# Files that are sound.


def _plain(kind: str, suffix: str, tolerance: float = 4.0, **options: object) -> Maker:
    def make(face: Pixels, _: np.random.Generator) -> Content:
        data = encoded(Image.fromarray(face), kind, **options)
        return Content(f"{kind}{''.join(options)}", suffix, data, face, tolerance=tolerance)

    return make


def _of_mode(mode: str, kind: str, suffix: str, tolerance: float = 4.0) -> Maker:
    def make(face: Pixels, _: np.random.Generator) -> Content:
        image = Image.fromarray(face).convert(mode)
        pixels = np.asarray(image.convert("RGB"))
        return Content(f"{kind} {mode}", suffix, encoded(image, kind), pixels, tolerance=tolerance)

    return make


def _turned(orientation: int, kind: str, suffix: str) -> Maker:
    def make(face: Pixels, _: np.random.Generator) -> Content:
        exif = Image.Exif()
        exif[0x0112] = orientation
        view = _STORED_VIEW.get(orientation, lambda same: same)
        data = encoded(Image.fromarray(np.ascontiguousarray(view(face))), kind, exif=exif)
        return Content(f"orientation {orientation}", suffix, data, face)

    return make


def _clear(face: Pixels, rng: np.random.Generator) -> Content:
    alpha = rng.integers(0, 256, face.shape[:2]).astype(np.uint8)
    share = alpha[..., None] / 255.0
    pixels = np.round(face * share + 255 * (1 - share)).astype(np.uint8)
    data = encoded(Image.fromarray(np.dstack([face, alpha])), "PNG")
    return Content("alpha", ".png", data, pixels)


def _clear_palette(face: Pixels, _: np.random.Generator) -> Content:
    image = Image.fromarray(face).quantize(64)
    pixels = np.asarray(image.convert("RGB")).copy()
    pixels[np.asarray(image) == 0] = 255
    return Content("clear palette", ".png", encoded(image, "PNG", transparency=0), pixels)


def _animated(kind: str, suffix: str, **options: object) -> Maker:
    def make(face: Pixels, _: np.random.Generator) -> Content:
        frames = [Image.fromarray(255 - face)] * 2
        data = encoded(Image.fromarray(face), kind, save_all=True, append_images=frames, **options)
        return Content(f"animated {kind}", suffix, data, face, tolerance=12.0)

    return make


def _sixteen_bits(suffix: str) -> Maker:
    def make(face: Pixels, rng: np.random.Generator) -> Content:
        deep = face.astype(np.uint16) * 256 + rng.integers(0, 256, face.shape).astype(np.uint16)
        return Content("16-bit RGB", suffix, cv2.imencode(suffix, deep[..., ::-1])[1].tobytes(), face)

    return make


def _sixteen_bits_grey(face: Pixels, _: np.random.Generator) -> Content:
    grey = np.repeat(face[..., 1:2], 3, axis=2)
    data = encoded(Image.fromarray(face[..., 1].astype(np.uint16) * 256), "PNG")
    return Content("16-bit grey", ".png", data, grey)


def _floats(face: Pixels, _: np.random.Generator) -> Content:
    grey = np.repeat(face[..., 1:2], 3, axis=2)
    return Content(
        "float", ".tif", encoded(Image.fromarray(face[..., 1].astype(np.float32) / 255), "TIFF"), grey
    )


def _ycck(face: Pixels, _: np.random.Generator) -> Content:
    # Pillow writes no YCCK: its CMYK coder gets luma and chroma instead, and the marker says so afterwards.
    cmyk = Image.fromarray(face).convert("CMYK")
    inks = np.asarray(cmyk)
    luma = np.asarray(Image.fromarray(inks[..., :3].copy()).convert("YCbCr"))
    planes = Image.fromarray(np.dstack([255 - luma, inks[..., 3]]), "CMYK")
    data = bytearray(encoded(planes, "JPEG", quality=95))
    data[data.index(b"Adobe") + 11] = 2
    return Content("YCCK", ".jpg", bytes(data), np.asarray(cmyk.convert("RGB")), tolerance=8.0)


def _with_block(kind: str, **options: Callable[[np.random.Generator], object]) -> Maker:
    def make(face: Pixels, rng: np.random.Generator) -> Content:
        chosen = {name: value(rng) for name, value in options.items()}
        return Content(kind, ".jpg", encoded(Image.fromarray(face), "JPEG", quality=95, **chosen), face)

    return make


def _huge_exif(_: np.random.Generator) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0\0\0" + b"\0" * 60_000


def _profile(_: np.random.Generator) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _noise(size: int) -> Callable[[np.random.Generator], bytes]:
    return lambda rng: rng.bytes(size)


# Files that are not.


def _cut(kind: str, suffix: str, **options: object) -> Maker:
    def make(face: Pixels, rng: np.random.Generator) -> Content:
        data = encoded(Image.fromarray(face), kind, **options)
        # What is whole but for its last marker may still be decoded, and then must be right.
        return Content(f"cut {kind}", suffix, data[: rng.integers(1, len(data))], face, DAMAGED)

    return make


def _flipped(kind: str, suffix: str) -> Maker:
    def make(face: Pixels, rng: np.random.Generator) -> Content:
        data = bytearray(encoded(Image.fromarray(face), kind))
        for place in rng.integers(0, len(data), rng.integers(1, 20)):
            data[place] ^= 1 << int(rng.integers(0, 8))
        return Content(f"flipped {kind}", suffix, bytes(data), None, ODD)

    return make


def _fuzzed_header(kind: str, suffix: str) -> Maker:
    def make(face: Pixels, rng: np.random.Generator) -> Content:
        data = bytearray(encoded(Image.fromarray(face), kind))
        for place in rng.integers(2, min(64, len(data)), rng.integers(1, 6)):
            data[place] = int(rng.integers(0, 256))
        return Content(f"fuzzed {kind}", suffix, bytes(data), None, ODD)

    return make


def _wrong_type(start: bytes, suffix: str = ".jpg") -> Maker:
    def make(_: Pixels, rng: np.random.Generator) -> Content:
        return Content("wrong type", suffix, start + rng.bytes(200), None, frozenset({"not_an_image"}))

    return make


def _empty(_: Pixels, __: np.random.Generator) -> Content:
    return Content("empty", ".jpg", b"", None, frozenset({"empty"}))


def _zeros(_: Pixels, rng: np.random.Generator) -> Content:
    return Content("zeros", ".jpg", bytes(int(rng.integers(1, 5000))), None, frozenset({"not_an_image"}))


def _of_size(width: int, height: int, reason: str, kind: str = "PNG", suffix: str = ".png") -> Maker:
    def make(_: Pixels, rng: np.random.Generator) -> Content:
        image = Image.new("L", (width, height), int(rng.integers(0, 255)))
        data = encoded(image, kind) + rng.bytes(8)
        return Content(f"{width} x {height}", suffix, data, None, frozenset({reason}))

    return make


def _scan_bomb(face: Pixels, rng: np.random.Generator) -> Content:
    data = encoded(Image.fromarray(face), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return Content(
        "scan bomb", ".jpg", data[:-2] + scan * int(rng.integers(100, 400)) + data[-2:], None, DAMAGED
    )


def png_bomb(side: int, mode: int = 2) -> bytes:
    """A PNG whose header claims ``side`` x ``side`` pixels, with a few compressed zeros behind it."""
    header = struct.pack(">IIBBBBB", side, side, 8, mode, 0, 0, 0)
    body = zlib.compress(bytes(100_000))
    parts = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    chunks = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_bomb(side: int) -> bytes:
    """A JPEG whose frame header claims ``side`` x ``side`` pixels."""
    data = bytearray(encoded(Image.new("RGB", (64, 64)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def gif_bomb(side: int) -> bytes:
    """A GIF whose screen and frame claim ``side`` x ``side`` pixels."""
    data = bytearray(encoded(Image.new("P", (64, 64)), "GIF"))
    data[6:10] = struct.pack("<HH", side, side)
    frame = data.index(b",", 13)
    data[frame + 5 : frame + 9] = struct.pack("<HH", side, side)
    return bytes(data)


def webp_bomb(side: int) -> bytes:
    """An extended WebP whose canvas claims ``side`` x ``side`` pixels."""
    canvas = b"\x02\0\0\0" + (side - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(66)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff_bomb(side: int, tile: int = 0) -> bytes:
    """A TIFF that claims ``side`` x ``side`` pixels, or 64 x 64 in tiles of ``tile`` x ``tile``."""
    size, compression = (64, 8) if tile else (side, 1)
    tags = [(256, 4, 1, size), (257, 4, 1, size), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)]
    tags += [(277, 3, 1, 1)]
    tags += [(322, 4, 1, tile), (323, 4, 1, tile)] if tile else [(278, 4, 1, side)]
    where = (324, 325) if tile else (273, 279)
    end = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags = sorted([*tags, (where[0], 4, 1, end), (where[1], 4, 1, 1000)])
    rows = b"".join(struct.pack("<HHII", *row) for row in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + rows + bytes(4) + zlib.compress(bytes(10**6))


def _bomb(make: Callable[..., bytes], suffix: str, reasons: set[str], **options: int) -> Maker:
    def maker(_: Pixels, rng: np.random.Generator) -> Content:
        return Content(
            f"{make.__name__} {options}", suffix, make(**options) + rng.bytes(8), None, frozenset(reasons)
        )

    return maker


_BOMBS = [
    (png_bomb, ".png"),
    (jpeg_bomb, ".jpg"),
    (gif_bomb, ".gif"),
    (webp_bomb, ".webp"),
    (tiff_bomb, ".tif"),
]

_CODECS = [
    ("JPEG", ".jpg"), ("PNG", ".png"), ("GIF", ".gif"), ("WEBP", ".webp"), ("TIFF", ".tif"), ("BMP", ".bmp")
]  # fmt: skip

MAKERS: list[Maker] = [
    _plain("JPEG", ".jpg", quality=95), _plain("PNG", ".png"), _plain("PNG", ".jpg"), _plain("BMP", ".bmp"),
    _plain("WEBP", ".webp", lossless=True), _plain("GIF", ".gif", 12.0), _plain("PPM", ".ppm"),
    _plain("TIFF", ".tiff", compression="tiff_lzw"), _plain("TIFF", ".tif", compression="tiff_deflate"),
    _plain("JPEG", ".JPEG", progressive=True, quality=95), _plain("WEBP", ".webp", 12.0, quality=90),
    _of_mode("CMYK", "JPEG", ".jpg", 8.0), _ycck, _of_mode("CMYK", "TIFF", ".tif"),
    _of_mode("P", "PNG", ".png"),
    _of_mode("1", "PNG", ".png"), _of_mode("1", "TIFF", ".tif"), _of_mode("L", "JPEG", ".jpg", 8.0),
    _of_mode("LA", "PNG", ".png"), _of_mode("L", "PPM", ".pgm"), _clear, _clear_palette, _floats,
    _sixteen_bits(".png"), _sixteen_bits(".tiff"), _sixteen_bits_grey,
    _animated("GIF", ".gif"), _animated("WEBP", ".webp", lossless=True), _animated("PNG", ".png"),
    *(_turned(number, "JPEG", ".jpg") for number in range(1, 9)),
    *(_turned(n, "PNG", ".png") for n in (3, 5, 8)),
    _with_block("huge EXIF", exif=_huge_exif),
    _with_block("corrupt EXIF", exif=lambda rng: b"Exif\0\0" + rng.bytes(3000)),
    _with_block("ICC", icc_profile=_profile), _with_block("corrupt ICC", icc_profile=_noise(4000)),
    _with_block("huge ICC", icc_profile=_noise(1_000_000)),
    _with_block("huge comment", comment=_noise(65_000)),
    *(_cut(kind, suffix) for _ in range(3) for kind, suffix in _CODECS),
    _cut("JPEG", ".jpg", progressive=True), _cut("TIFF", ".tif", compression="tiff_lzw"), _cut("PPM", ".ppm"),
    *(_flipped(kind, suffix) for _ in range(2) for kind, suffix in _CODECS),
    *(_fuzzed_header(kind, suffix) for _ in range(2) for kind, suffix in (*_CODECS, ("PPM", ".ppm"))),
    _empty, _zeros, _wrong_type(b"<!DOCTYPE html><html>"),
    _wrong_type(b"%PDF-1.7\n"), _wrong_type(b"PK\x03\x04"),
    _wrong_type(b"\x7fELF\x02\x01\x01"), _wrong_type(b"<svg xmlns='http://www.w3.org/2000/svg'/>", ".png"),
    _wrong_type(b"404 not found\n", ".webp"), _wrong_type(b"", ".tif"),
    _wrong_type(b"\xff\xd8\xff\xe0", ".jpg"),
    *(_bomb(make, suffix, {"too_many_pixels"}, side=30_000) for make, suffix in _BOMBS),
    *(_bomb(make, suffix, {"too_many_pixels"}, side=50_000) for make, suffix in _BOMBS),
    _bomb(tiff_bomb, ".tif", {"too_many_pixels"}, side=64, tile=30_000), _scan_bomb,
    _of_size(1, 1, "too_small"), _of_size(1, 300, "too_small"), _of_size(300, 1, "too_small", "GIF", ".gif"),
    _of_size(40_000, 20, "too_many_pixels"),
]  # fmt: skip


# Names, and things that are no files.

NAMES = [
    "Ångström", "Ελένη", "Дмитрий", "שלום", "محمد", "देवनागरी", "ไทย", "日本語", "한국어", "አማርኛ", "ქართული",
    "👩🏽‍🦳 👴", "e\u0301combining", "\u202eright-to-left", "line\nbreak", "tab\there", "carriage\rreturn",
    "a'b\"c`d",
    "-rf", "--help", "$(reboot)", "; rm", "%00%2F", "a\\xffb", "back\\slash", "[bold]red", "{0}", "*?", "#",
    "~",
    "CON", "x" * 250, "é" * 125, "\x1b[31mred", "\x7f",
]  # fmt: skip
RAW_NAMES = [b"latin-\xe9", b"\xff\xfe", b"sjis-\x93\xfa\x96\x7b", b"half-\xe2\x82", b"mixed-\xc3\xa9-\xe9"]


@dataclass(frozen=True)
class Odd:
    """Something on disk that is no image file, at ``path``, and the ``reason`` it is left out for."""

    path: str
    reason: str


def not_files(folder: Path, outside: Path) -> list[Odd]:
    """A FIFO, a socket, links to devices, to nothing, to themselves and to folders, a file of 100 GB that
    takes no space, and (but for root) a file that may not be read. Folders named like images come too."""
    folder.mkdir()
    found = []

    def add(name: str, reason: str) -> Path:
        found.append(Odd(str(folder / name), reason))
        return folder / name

    os.mkfifo(add("fifo.jpg", "not_a_file"))
    here = os.getcwd()
    os.chdir(folder)  # a socket's path may have 108 bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
    os.chdir(here)
    found.append(Odd(str(folder / "socket.jpg"), "not_a_file"))
    for device in ("zero", "full", "null", "tty"):
        os.symlink(f"/dev/{device}", add(f"{device}.jpg", "not_a_file"))
    os.symlink("nowhere.jpg", add("dangling.jpg", "missing_file"))
    os.symlink("loop.jpg", add("loop.jpg", "unreadable"))
    os.symlink("second.jpg", add("first.jpg", "unreadable"))
    os.symlink("first.jpg", add("second.jpg", "unreadable"))
    os.symlink(folder, add("up.jpg", "linked_folder"))
    os.symlink(outside, add("outside", "linked_folder"))
    with open(add("sparse.jpg", "too_many_bytes"), "wb") as stream:
        stream.truncate(100 * 2**30)
    if os.geteuid() != 0:
        add("forbidden.jpg", "unreadable").touch(mode=0)
    (folder / "empty folder.jpg").mkdir()
    add(".hidden.jpg", "hidden").write_bytes(b"x")
    add("notes.txt", "not_an_image_name").write_bytes(b"x")
    return found
