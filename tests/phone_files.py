"""Files as phones write them, made cheaply: motion photos, several pictures in a file, 108 megapixels."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

_END = b"\xff\xd9"


def jpeg_of(rgb: np.ndarray, **options: object) -> bytes:
    """``uint8 [H, W, 3]`` as JPEG bytes."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", **options)
    return stream.getvalue()


def video(size: int = 400_000, seed: int = 0) -> bytes:
    """An MP4 as far as a decoder of pictures can tell: a header, then noise with markers in it."""
    noise = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    # As many bytes FF DA (start of scan) as 6 MB of real video have by chance.
    return b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + noise + b"\xff\xda\x00\x0c" * 150


def samsung_motion(jpeg: bytes) -> bytes:
    """The video behind the end marker under a name, then Samsung's directory of trailers."""
    film = b"\x00\x00\x30\x0a\x10\x00\x00\x00MotionPhoto_Data" + video()
    directory = b"SEFH" + struct.pack("<III", 106, 1, len(film))
    return jpeg + film + directory + struct.pack("<I", len(directory)) + b"SEFT"


def google_motion(jpeg: bytes) -> bytes:
    """The video right behind the end marker; XMP in an APP1 segment says how long it is."""
    film = video(seed=1)
    xmp = b'http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta GCamera:MotionPhoto="1" Length="%d"/>' % len(film)
    return jpeg[:2] + _segment(0xE1, xmp) + jpeg[2:] + film


def with_thumbnail(jpeg: bytes, thumbnail: bytes) -> bytes:
    """An EXIF segment with a whole JPEG in it: its own scans and its own end."""
    exif = Image.Exif()
    exif[0x0112] = 1
    return jpeg[:2] + _segment(0xE1, b"Exif\x00\x00" + exif.tobytes()[6:] + thumbnail) + jpeg[2:]


def multi_picture(jpeg: bytes, others: list[bytes], *, broken: bool = False) -> bytes:
    """An MPF (CIPA DC-007) of a picture and ``others``; ``broken``: its index points beyond the file."""
    count = 1 + len(others)
    header = 2 + 4 + 4 + 8 + 2 + 3 * 12 + 4 + 16 * count  # from the segment's marker to its end
    where, entries = len(jpeg) + header, []
    for index, picture in enumerate([jpeg, *others]):
        size = len(picture) + (header if index == 0 else 0)
        start = 0 if index == 0 else where - 8 - 2
        entries.append(struct.pack(">IIIHH", 0x20030000 if index == 0 else 0, size, start, 0, 0))
        where += 0 if index == 0 else len(picture)
    if broken:
        entries = entries[:1]
    directory = struct.pack(">H", 3)
    directory += struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
    directory += struct.pack(">HHII", 0xB001, 4, 1, count)
    directory += struct.pack(">HHII", 0xB002, 7, 16 * count, 8 + 2 + 36 + 4)
    body = b"MPF\x00MM\x00*" + struct.pack(">I", 8) + directory + struct.pack(">I", 0) + b"".join(entries)
    return jpeg[:2] + _segment(0xE2, body) + jpeg[2:] + b"".join(others)


def huge_jpeg(width: int, height: int, grey: int = 140) -> bytes:
    """A flat JPEG of any size without its pixels ever in memory: one row of blocks, again and again."""
    row = jpeg_of(np.full((16, width, 3), grey, np.uint8), restart_marker_rows=1)
    header = bytearray(row)
    frame = row.index(b"\xff\xc0")
    header[frame + 5 : frame + 7] = height.to_bytes(2, "big")
    scan = row.index(b"\xff\xda")
    data = scan + 2 + int.from_bytes(row[scan + 2 : scan + 4], "big")
    blocks = row[data : row.rindex(_END)]
    rows = -(-height // 16)
    body = b"".join(blocks + bytes([0xFF, 0xD0 + index % 8]) for index in range(rows - 1)) + blocks
    return bytes(header[:data]) + body + _END


def many_scans(jpeg: bytes, times: int) -> bytes:
    """A progressive JPEG whose last scan comes ``times`` more: each costs a pass over the whole picture."""
    last, end = jpeg.rindex(b"\xff\xda"), jpeg.rindex(_END)
    return jpeg[:end] + jpeg[last:end] * times + jpeg[end:]


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
