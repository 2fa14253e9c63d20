"""As many faces as are asked for, made from the pack inside the package; the same ones every time.

Each is a jittered face of the pack, encoded as a dataset stores its crops, so that no two are the same
pixels. ``PICTURES`` of them, one after the other, show the same person; persons come in the order of their
age, as in a source that lists a folder an age.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from agesearch.data.dataset.identity import identify
from agesearch.data.dataset.records import Manifest, Split, read_manifest
from agesearch.data.dataset.shards import row_batches
from agesearch.data.dataset.writer import DatasetWriter
from agesearch.data.images.augment import Augmenter
from agesearch.data.images.crop import decode_crop, encode_crop
from agesearch.data.images.transforms import Pixels
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.machine import cores
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import AugmentSpec, CropSpec
from agesearch.storage import Location, exclusive

#: Pictures of each person.
PICTURES = 20
#: The fewest faces that have a person in each split.
LEAST_FACES = 200

STAGE = "making faces"

#: Changes every face at least a little: no two are equal.
_JITTER = AugmentSpec(policy="greco", strength=0.5)
_AT_ONCE = 256

Row = dict[str, Any]


@dataclass(frozen=True)
class _Pack:
    """The faces that others are made from, in the order of their age."""

    faces: Sequence[tuple[float, Pixels]]
    crop: CropSpec
    licence: str


def write_dataset(out: Location, count: int, on_progress: Listener = silent) -> Manifest:
    """Write a dataset of ``count`` faces through the product's own writer."""
    pack = _pack()
    with exclusive(out, "The dataset"):
        writer = DatasetWriter(
            out,
            name=f"scale-{count}",
            label_kind="synthetic",
            licence=pack.licence,
            crop=pack.crop,
            detector="none",
        )
        for rows in _rows(pack, count):
            writer.add(rows)
            on_progress(Progress(STAGE, writer.faces, count))
        return writer.finish()


def write_photos(folder: Path, count: int, on_progress: Listener = silent) -> Path:
    """Write the same faces as files, a thousand a folder, and their CSV, whose path it returns."""
    path, written = folder / "photos.csv", 0
    with path.open("w", encoding="utf-8") as csv:
        csv.write("file,age,subject,split\n")
        for rows in _rows(_pack(), count):
            for row in rows:
                name = f"{written // 1000:05d}/{written:08d}.jpg"
                place = folder / "photos" / name
                if written % 1000 == 0:
                    place.parent.mkdir(parents=True)
                place.write_bytes(row["image"])
                csv.write(f"{name},{row['age']:g},{row['subject_id']},{row['split']}\n")
                written += 1
            on_progress(Progress(STAGE, written, count))
    return path


def split_of_person(person: int) -> Split:
    """One in twenty is tested, one in fifty validated: of every age alike."""
    if person % 20 == 7:
        return Split.TEST
    return Split.VAL if person % 50 == 3 else Split.TRAIN


def _rows(pack: _Pack, count: int) -> Iterator[list[Row]]:
    """All faces in the order of the source; threads make them, few of them ahead of who takes them."""
    jitter = Augmenter(_JITTER, seed=0)
    made: deque[Future[list[Row]]] = deque()
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(cores()) as threads:
        for start in range(0, count, _AT_ONCE):
            made.append(threads.submit(_some_rows, pack, jitter, count, start))
            if len(made) > 2 * cores():
                yield made.popleft().result()
        while made:
            yield made.popleft().result()


def _some_rows(pack: _Pack, jitter: Augmenter, count: int, start: int) -> list[Row]:
    persons = -(-count // PICTURES)
    rows = []
    for number in range(start, min(start + _AT_ONCE, count)):
        person = number // PICTURES
        age, face = pack.faces[person * len(pack.faces) // persons]
        image = encode_crop(jitter(face, 0, str(number)), pack.crop)
        rows.append(
            {
                "sample_id": identify(image).sample_id,
                "image": image,
                "age": age,
                "subject_id": f"p{person:07d}",
                "source": "scale",
                "split": str(split_of_person(person)),
            }
        )
    return rows


def _pack() -> _Pack:
    folder = demo_pack()
    manifest = read_manifest(folder)
    found = [
        (float(row["age"]), decode_crop(row["image"]))
        for batch in row_batches(folder, None, ["age", "image"])
        for row in batch.to_pylist()
    ]
    crop = manifest.crop.model_copy(update={"detector": "none"})
    return _Pack(sorted(found, key=lambda face: face[0]), crop, manifest.licence)
