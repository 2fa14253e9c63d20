"""Photographs for measuring an ingest, made from the faces that ship inside; the same ones every time."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from agesearch.data.dataset.shards import row_batches
from agesearch.data.reading.demo_pack import demo_pack

#: Sides of a photograph in pixels, and the share of the shorter one that the face's crop takes.
WIDTH, HEIGHT = 640, 480
_SHARE = (0.45, 0.8)
_TINY = 48


def write_photos(folder: Path, count: int, seed: int = 0) -> Path:
    """Write ``count`` JPEG photographs of 640 x 480 with one face each, and their CSV, whose path it returns.

    Each face lies at its own place and size before a blurred background, with some noise over both, so that
    no two files are the same and a detector has its usual work.
    """
    draw = np.random.default_rng(seed)
    faces = list(_pack_faces(min(count, 512)))
    lines = ["file,age"]
    (folder / "photos").mkdir(parents=True)
    for index in range(count):
        age, face = faces[index % len(faces)]
        name = f"{index:06d}.jpg"
        _photo(face, draw).save(folder / "photos" / name, quality=90)
        lines.append(f"{name},{age:g}")
    return _csv(folder, lines)


def write_tiny(folder: Path, count: int) -> Path:
    """Write ``count`` tiny JPEG files, all different by the bytes after the picture's end, and their CSV."""
    _, face = next(_pack_faces(1))
    buffer = BytesIO()
    face.resize((_TINY, _TINY)).save(buffer, "JPEG", quality=80)
    data = buffer.getvalue()
    lines = ["file,age,subject"]
    for index in range(count):
        place = folder / "photos" / f"{index // 1000:04d}"
        if index % 1000 == 0:
            place.mkdir(parents=True)
        name = f"{index:07d}.jpg"
        (place / name).write_bytes(data + index.to_bytes(8, "big"))
        lines.append(f"{place.name}/{name},{index % 100},s{index // 3}")
    return _csv(folder, lines)


def _csv(folder: Path, lines: list[str]) -> Path:
    path = folder / "photos.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _pack_faces(count: int) -> Iterator[tuple[float, Image.Image]]:
    taken = 0
    for batch in row_batches(demo_pack(), None, ["age", "image"]):
        for row in batch.to_pylist():
            if taken == count:
                return
            taken += 1
            yield row["age"], Image.open(BytesIO(row["image"])).convert("RGB")


def _photo(face: Image.Image, draw: np.random.Generator) -> Image.Image:
    background = face.resize((WIDTH // 8, HEIGHT // 8)).filter(ImageFilter.GaussianBlur(8))
    picture = background.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    side = int(HEIGHT * draw.uniform(*_SHARE))
    place = (int(draw.integers(0, WIDTH - side)), int(draw.integers(0, HEIGHT - side)))
    picture.paste(face.resize((side, side), Image.Resampling.BICUBIC), place)
    noise = draw.integers(-6, 7, (HEIGHT, WIDTH, 3), dtype=np.int16)
    return Image.fromarray(np.clip(np.asarray(picture, np.int16) + noise, 0, 255).astype(np.uint8))
