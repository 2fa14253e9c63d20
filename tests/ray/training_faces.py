"""Tiny datasets for training tests: faces whose brightness is their age."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest
from agesearch.data.images.crop import encode_crop
from agesearch.specs import AugmentSpec, CropSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.storage import Location

CROP = CropSpec(size=32)
SPEC = TrainSpec(
    model=ModelSpec(arch="lcnet_035", input_size=32),
    optim=OptimSpec(epochs=3, batch_size=16, learning_rate=3e-3, warmup_epochs=0.5),
    augment=AugmentSpec(strength=0.5),
)


def write_faces(
    where: Path, count: int = 60, *, name: str = "bright", labelled: bool = True, by_age: int = 0
) -> Path:
    """A dataset of two shards: four fifths train, the rest val. With ``by_age``, so many shards sorted by
    age.
    """
    rng = np.random.default_rng(0)
    rows = []
    for index in range(count):
        age = float(rng.uniform(5, 90))
        image = (age * 2.5 + rng.normal(0, 4, (32, 32, 3))).clip(0, 255).astype(np.uint8)
        split = "val" if index % 5 == 0 else "train"
        known = labelled or split == "val"
        rows.append(
            {
                "sample_id": f"{index:04d}",
                "image": encode_crop(image, CROP),
                "age": age if known else None,
                "source": name,
                "split": split,
            }
        )
    folder = Location.of(where)
    if by_age:
        rows.sort(key=lambda row: float(row["age"] or 0.0))
    size = -(-len(rows) // by_age) if by_age else 0
    for shard in range(by_age or 2):
        some = rows[shard * size : (shard + 1) * size] if by_age else rows[shard::2]
        table = pa.Table.from_pylist(some, schema=SCHEMA)
        (folder / SHARDS / f"{shard}.parquet").write_table(table)
    counts = {part: sum(row["split"] == part for row in rows) for part in ("train", "val")}
    manifest = Manifest(
        name=name, label_kind="real", crop=CROP, counts=counts, content_digest=f"{name}{count}"
    )
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))
    return where
