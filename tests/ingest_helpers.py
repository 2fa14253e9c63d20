"""A small source on disk, and what two datasets must share to count as equal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from agesearch.data.dataset.ledger import LEDGER, read_head, write_ledger
from agesearch.data.dataset.records import read_manifest
from agesearch.data.ingest import run as ingest_module
from agesearch.data.ingest.run import IngestSpec
from agesearch.data.ingest.work_unit import UnitContext, process_unit
from agesearch.specs import CropSpec, SplitSpec
from agesearch.storage import Location

Row = tuple[str, str, str]


@dataclass
class Source:
    """A CSV of ``rows`` (file, age, subject) beside a folder of images; ``write`` makes it so on disk."""

    root: Path
    rows: list[Row] = field(default_factory=list)

    def image(self, name: str, shade: int, size: int = 40) -> None:
        """Write an image whose bytes depend on ``shade`` and ``size`` alone."""
        (self.root / "images").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(shade).integers(0, 255, (size, size, 3), np.uint8)
        Image.fromarray(pixels).save(self.root / "images" / name)

    def add(self, name: str, age: object = 30, subject: str = "", shade: int | None = None) -> None:
        """Add a row and, given a shade, its image."""
        if shade is not None:
            self.image(name, shade)
        self.rows.append((name, str(age), subject))

    def write(self) -> None:
        """Write the CSV."""
        lines = ["file,age,subject", *(",".join(row) for row in self.rows)]
        (self.root / "faces.csv").write_text("\n".join(lines) + "\n")

    def spec(self, **options: Any) -> IngestSpec:
        """The spec of an ingest of whole images, 32 px."""
        fields = {
            "source": "csv",
            "root": str(self.root / "faces.csv"),
            "images": str(self.root / "images"),
            "crop": CropSpec(detector="none", size=32),
            "split": SplitSpec(val=0.3, test=0.3),
        }
        return IngestSpec(**(fields | options))


def small_source(root: Path, faces: int = 12) -> Source:
    """Faces of two subjects each, some without; a duplicate, a torn file, a missing one and a bad age."""
    source = Source(root)
    for index in range(faces):
        source.add(f"{index}.png", 20 + index, f"s{index // 3}" if index % 4 else "", shade=index)
    source.add("again.png", 77, "twin", shade=3)
    (root / "images" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    source.add("torn.jpg")
    source.add("absent.jpg")
    source.add("5.png", -4)
    source.write()
    return source


def content(dataset: Path | str | Location) -> dict[str, Any]:
    """What must be equal whatever way a dataset was made: its shards to the byte, its quarantine as a set,
    its counts, and what its ledger says.
    """
    folder = Location.of(dataset)
    manifest = read_manifest(folder)
    shards = {file.name: sha256(file.read_bytes()).hexdigest() for file in (folder / "shards").children()}
    left_out = (folder / "quarantine.parquet").read_table().to_pylist()
    ledger = (folder / "ledger.parquet").read_table().to_pylist()
    ignored = {"created"}
    return {
        "manifest": manifest.model_dump(exclude=ignored),
        "shards": shards,
        "left_out": sorted(repr(row) for row in left_out),
        "ledger": [repr(row) for row in ledger],
    }


def lay_in_order(dataset: Path | Location, rows_per_shard: int = 5) -> None:
    """Make a dataset what one was before rows were mixed: shards in the order of the source, by number."""
    folder = Location.of(dataset)
    rows = (folder / "shards").read_table().sort_by([("age", "ascending"), ("sample_id", "ascending")])
    (folder / "shards").delete()
    names = {}
    for number, start in enumerate(range(0, len(rows), rows_per_shard)):
        shard = folder / "shards" / f"{number:05d}.parquet"
        shard.write_table(rows.slice(start, rows_per_shard))
        names |= dict.fromkeys(shard.read_table()["sample_id"].to_pylist(), shard.name)
    document = (folder / "dataset.json").read_json()
    document.pop("hash_shards")
    (folder / "dataset.json").write_json(document)
    if (folder / LEDGER).exists():
        head, ledger = read_head(folder), (folder / LEDGER).read_table().to_pylist()
        assert head is not None
        placed = [row | {"shard": row["shard"] and names[row["sample_id"]]} for row in ledger]
        write_ledger(folder / LEDGER, head, [placed])


def without_ray(patch: pytest.MonkeyPatch) -> None:
    """Do the units of every ingest in this process, one after the other."""

    def results(work: list[Location], context: UnitContext, tell: object) -> Iterator[pa.Table]:
        for place in work:
            yield ingest_module.workers._checked(process_unit(place.read_table(), context))

    patch.setattr(ingest_module.workers, "results", results)
    patch.setattr(ingest_module, "ray_session", lambda *_, **__: nullcontext(SimpleNamespace(cpus=1)))


def later(path: Path) -> None:
    """Give a file another time of writing."""
    os.utime(path, ns=(1, os.stat(path).st_mtime_ns + 1_000_000_000))
