"""Small datasets with the labels, folds and subjects of the published ones, and networks to judge them by.

A face is a grey square whose brightness is its age, so that a model that reads it is right by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agesearch.ages import ADIENCE_GROUPS, FloatArray, gaussian_pmf
from agesearch.data.dataset.records import LabelKind, Manifest, Turn
from agesearch.data.dataset.writer import DatasetWriter
from agesearch.data.images.crop import encode_crop
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.zoo import build
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location

CROP = CropSpec(size=32, detector="none")
FOLDS = tuple(
    Turn(
        name=f"{turn}",
        train=tuple((turn + step) % 5 for step in (2, 3, 4)),
        val=((turn + 1) % 5,),
        test=(turn,),
    )
    for turn in range(5)
)


class Brightness:
    """A predictor that answers a face's brightness / 2 as its age, ``offset`` years too old."""

    input_size = 32

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset
        self.seen = 0

    def pmf(self, images: Any) -> FloatArray:
        self.seen += len(images)
        ages = np.array([np.mean(image) / 2 for image in images]) + self.offset
        return gaussian_pmf(np.clip(ages, 0, 100), np.full(len(ages), 0.5))


def write_set(
    where: Path,
    rows: Sequence[Mapping[str, Any]],
    kind: LabelKind,
    turns: tuple[Turn, ...] = (),
    name: str = "",
) -> Manifest:
    """A dataset of rows; ``shows`` is the age a face looks like (default: its age or its group's middle)."""
    writer = DatasetWriter(
        Location.of(where),
        name=name or where.name,
        label_kind=kind,
        licence="none",
        crop=CROP,
        detector="none",
        turns=turns,
        rows_per_shard=40,
    )
    for index, row in enumerate(rows):
        known = {"sample_id": f"{index:05d}", "source": name or where.name, "split": "test", **row}
        middle = (row.get("age_low", 0) + row.get("age_high", 0)) / 2
        shown = known.pop("shows", row.get("age", middle))
        grey = np.full((32, 32, 3), round(2 * shown), dtype=np.uint8)
        writer.add([{**known, "image": encode_crop(grey, CROP)}])
    return writer.finish()


def adience_like(where: Path) -> Manifest:
    """5 folds of 8 faces, one a group; the last label of fold 4 is one that the protocol does not know."""
    rows = [
        {
            "age_low": low,
            "age_high": 12 if (low, fold) == (8, 2) else high,
            "fold": fold,
            "split": "train",
            "sex": "female" if fold % 2 else "male",
            "subject_id": f"user-{fold}-{low}",
        }
        for fold in range(5)
        for low, high in ADIENCE_GROUPS
    ]
    rows.append({"age_low": 38, "age_high": 48, "fold": 4, "split": "train"})
    return write_set(where, rows, "group", FOLDS)


def lap_like(where: Path) -> Manifest:
    """Apparent ages with stds in three splits; of the 12 test faces the last has no std."""
    rows: list[dict[str, Any]] = []
    for split, count in (("train", 12), ("val", 6), ("test", 12)):
        for index in range(count):
            std = None if (split, index) == ("test", 11) else 2.0 + index % 3
            rows.append({"age": 5.0 + 7 * index, "age_std": std, "split": split})
    return write_set(where, rows, "apparent")


def fgnet_like(where: Path) -> Manifest:
    """4 persons with 2, 3, 4 and 5 faces, and one face of nobody known."""
    rows = [
        {"age": 4.0 + 6 * index, "subject_id": f"{person:03d}", "split": "train"}
        for person in range(1, 5)
        for index in range(person + 1)
    ]
    return write_set(where, [*rows, {"age": 30.0}], "real")


def mixed(where: Path) -> Manifest:
    """8 real, 6 apparent, 4 group labels and 2 faces without any, from two sources."""
    rows: list[dict[str, Any]] = []
    rows += [{"age": 10.0 * i + 5, "label_kind": "real", "source": "a", "sex": "male"} for i in range(8)]
    rows += [{"age": 10.0 * i + 2, "label_kind": "apparent", "source": "b"} for i in range(6)]
    rows += [
        {"age_low": 25.0, "age_high": 32.0, "label_kind": "group", "shows": 25 + 4 * i} for i in range(4)
    ]
    return write_set(where, [*rows, {"shows": 1}, {"shows": 2}], "mixed")


def tiny_model(where: Path, *, crop: CropSpec = CROP, data_digest: str = "", seed: int = 0) -> Path:
    """An untrained network in a model folder."""
    import torch

    torch.manual_seed(seed)
    spec = ModelSpec(arch="lcnet_035", input_size=32)
    net = build(spec)
    manifest = ModelManifest(
        kind="teacher", model=spec, crop=crop, data_digest=data_digest, parameters=net.parameter_count
    )
    write_model(str(where), net.state_dict(), manifest)
    return where
