"""Small datasets cut from the synthetic pack: Adience-like with folds and groups, or by age with splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from agesearch.ages import ADIENCE_GROUPS
from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest, Turn, read_manifest
from agesearch.data.dataset.shards import read_rows
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.zoo import build
from agesearch.specs import ModelSpec
from agesearch.storage import Location

FOLDS = tuple(
    Turn(
        name=f"fold {test}",
        train=tuple(fold for fold in range(5) if fold not in (test, (test + 1) % 5)),
        val=((test + 1) % 5,),
        test=(test,),
    )
    for test in range(5)
)


def write_pack(
    where: Path,
    count: int,
    change: Callable[[int, dict[str, Any]], dict[str, Any] | None],
    **facts: Any,
) -> str:
    """A dataset of ``count`` faces of the pack, each as ``change(index, row)`` makes it (None: left out)."""
    pack = demo_pack()
    rows = []
    for row in read_rows(pack, None, SCHEMA.names).sort_by("sample_id").to_pylist():
        changed = change(len(rows), row)
        if changed is not None:
            rows.append(changed)
        if len(rows) == count:
            break
    folder = Location.of(where)
    (folder / SHARDS / "0.parquet").write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    counts = {name: sum(row["split"] == name for row in rows) for name in ("train", "val", "test")}
    manifest = Manifest(
        counts=counts, content_digest=f"{where.name}{count}", crop=read_manifest(pack).crop, **facts
    )
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))
    return str(where)


def adience_like(where: Path, count: int = 60, turns: Sequence[Turn] = FOLDS) -> str:
    """Faces inside one of Adience's groups, labelled by it alone, in five folds; fold 5 has no labels."""

    def grouped(index: int, row: dict[str, Any]) -> dict[str, Any] | None:
        group = next((g for g in ADIENCE_GROUPS if g[0] <= row["age"] <= g[1]), None)
        if group is None:
            return None
        fold = 5 if index >= count - 4 else index % 5
        low, high = (None, None) if fold == 5 else group
        return row | {"age": None, "age_low": low, "age_high": high, "fold": fold, "split": "train"}

    return write_pack(where, count, grouped, name="adience", label_kind="group", turns=tuple(turns))


def with_ages(where: Path, count: int = 40, *, start: int = 0) -> str:
    """Faces with ages, half of them training; ``start`` tells which ones of the pack."""
    splits = ("train", "train", "val", "test")
    seen = iter(range(10**6))

    def chosen(index: int, row: dict[str, Any]) -> dict[str, Any] | None:
        return row | {"split": splits[index % 4]} if next(seen) >= start else None

    return write_pack(where, count, chosen, name=where.name, label_kind="synthetic")


def start_model(where: Path, **changes: Any) -> str:
    """The folder of a small network, not trained at all."""
    spec = ModelSpec.model_validate({"arch": "lcnet_035", "input_size": 48, **changes})
    torch.manual_seed(0)
    crop = read_manifest(demo_pack()).crop
    write_model(str(where), build(spec).state_dict(), ModelManifest(kind="teacher", model=spec, crop=crop))
    return str(where)
