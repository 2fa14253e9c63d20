"""What a JPEG says of itself before a pixel is decoded: its frame, its scans, and where it ends.

Phones write more than a picture into the file: thumbnails inside the EXIF, further pictures (MPF), the video
of a motion photo behind the end marker. So the segments are walked as a decoder walks them (ITU-T T.81,
annex B), bodies are skipped by their length, and what comes after the end marker is not looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: The bytes every JPEG begins with.
MAGIC = b"\xff\xd8\xff"

# Entropy-coded data holds FF 00 (a stuffed FF) and restart markers, which end no scan. A decoder that looks
# for the next segment skips all else up to FF and a marker, too, so one search serves both.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
#: Markers below have no body: TEM and reserved ones.
_FIRST_WITH_BODY = 0xC0
#: Start-of-frame markers; the other three of the range define tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Huffman-coded DCT frames, sequential or progressive: those that can be decoded at a fraction of their size.
_SCALABLE = frozenset({0xC0, 0xC1, 0xC2})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_COEFFICIENT_BYTES = 2


@dataclass(frozen=True)
class JpegFrame:
    """The structure of a JPEG up to its end marker.

    ``segments`` counts markers, ``scans`` the scans among them; counting ends soon after ``limit`` segments.
    ``scales`` says whether a decoder can reduce it in the DCT. ``whole_bytes`` is the memory that its
    coefficients take where several scans make one picture, in bytes; 0 where it is decoded row by row.
    """

    segments: int = 0
    scans: int = 0
    scales: bool = False
    whole_bytes: int = 0


def read_frame(data: bytes, limit: int) -> JpegFrame:
    """Walk the segments of a JPEG's bytes; damaged ones give what was found up to there."""
    segments = scans = frame = coefficients = 0
    at = len(MAGIC) - 1
    while segments <= limit and (found := _MARKER.search(data, at)) is not None:
        at, marker = found.end(), data[found.start() + 1]
        if marker == _END:
            break
        segments += 1
        scans += marker == _SCAN
        if marker < _FIRST_WITH_BODY or marker == _START:
            continue
        body = data[at + 2 : at + max(2, int.from_bytes(data[at : at + 2], "big"))]
        if marker in _FRAMES:
            frame, coefficients = marker, max(coefficients, _coefficients(body))
        at += 2 + len(body)
    in_one_go = scans <= 1 and frame not in _PROGRESSIVE
    return JpegFrame(
        segments, scans, frame in _SCALABLE, 0 if in_one_go else coefficients * _COEFFICIENT_BYTES
    )


def _coefficients(body: bytes) -> int:
    """The coefficients of a frame, from the body of its header: those of each component by its sampling."""
    if len(body) < 6:
        return 0
    pixels = int.from_bytes(body[1:3], "big") * int.from_bytes(body[3:5], "big")
    sampling = [(factors >> 4, factors & 15) for factors in body[7 : 6 + 3 * body[5] : 3]]
    across = max((h for h, _ in sampling), default=0) * max((v for _, v in sampling), default=0)
    return pixels * sum(h * v for h, v in sampling) // across if across else 0
