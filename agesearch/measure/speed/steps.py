"""What an answer costs besides the network: decoding the photograph, finding the face, cutting it out, and
making the network's input of it; each timed by itself on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from agesearch.data.dataset.shards import read_rows
from agesearch.data.images.crop import crop_face, decode_crop
from agesearch.data.images.decode import decode_photograph
from agesearch.data.images.locate import detect, enough_for
from agesearch.data.images.recipe import open_recorded
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.measure.speed.subjects import Subject
from agesearch.models.prepare import prepare
from agesearch.specs import Spec

#: Calls of a step, and the seconds after which no more are made.
_CALLS, _SECONDS = 50, 2.0

#: The side of the photograph that is made of a face of the package, where none is given.
_PHOTO_SIDE = 960


class StepRow(Spec):
    """A step and its time in ms; ``of`` says on what it worked, ``calls`` how often."""

    step: str
    of: str
    calls: int
    latency_ms_p50: float
    latency_ms_p95: float


def time_steps(subject: Subject, photo: bytes | None = None) -> list[StepRow]:
    """The steps before a model's network, for a photograph (encoded; None: a face of the package, enlarged).

    Raises ``BadImage`` for what is no image.
    """
    content = photo or _demo_photo()
    return [_timed(step, of, call) for step, of, call in _steps(subject, content)]


def _steps(subject: Subject, content: bytes) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        enough = enough_for(subject.crop)
        photograph = decode_photograph(content, enough=enough)
        pixels = photograph.pixels
        height, width = pixels.shape[:2]
        shown = f"{width} x {height} px"
        whole = f"{len(content):,} bytes, {photograph.width} x {photograph.height} px"
        yield "decode photograph", whole, lambda: decode_photograph(content, enough=enough)
        detector, _ = open_recorded(subject.crop)
        faces = detect(photograph, detector, subject.crop)
        yield "find faces", shown, lambda: detect(photograph, detector, subject.crop)
        side = float(min(width, height))
        face: Any = faces[0] if faces else ((width - side) / 2, (height - side) / 2, side, side)
        crop = crop_face(pixels, face, subject.crop)
        words = f"{crop.shape[0]} px"
        yield "crop", f"{shown} to {words}", lambda: crop_face(pixels, face, subject.crop)
        encoded = cv2.imencode(".jpg", crop[..., ::-1])[1].tobytes()
        yield "decode stored crop", f"{len(encoded):,} bytes, {words}", lambda: decode_crop(encoded)
        side_in = subject.scorer.input_size
        yield "prepare input", f"{words} to {side_in} px", lambda: prepare([crop], side_in)
    finally:
        cv2.setNumThreads(threads)


def _timed(step: str, of: str, call: Callable[[], Any]) -> StepRow:
    call()
    seconds: list[float] = []
    while len(seconds) < _CALLS and sum(seconds) < _SECONDS:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.percentile(np.asarray(seconds) * 1000.0, [50, 95])
    return StepRow(
        step=step,
        of=of,
        calls=len(seconds),
        latency_ms_p50=round(float(p50), 4),
        latency_ms_p95=round(float(p95), 4),
    )


def _demo_photo() -> bytes:
    """A rendered face of the package in the middle of a grey photograph."""
    rows = read_rows(demo_pack(), None, ["sample_id", "image"]).sort_by("sample_id")
    face = decode_crop(rows.column("image")[0].as_py())
    photo = np.full((_PHOTO_SIDE, _PHOTO_SIDE, 3), 128, dtype=np.uint8)
    side = _PHOTO_SIDE // 2
    start = (_PHOTO_SIDE - side) // 2
    inside = slice(start, start + side)
    photo[inside, inside] = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".jpg", photo[..., ::-1])[1].tobytes())
