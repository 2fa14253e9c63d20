"""What a dataset holds, told from its manifest, its label columns and its quarantine; no crop is decoded.

Reads the shards batch by batch, so that memory does not grow with the dataset.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from agesearch.ages import MAX_AGE
from agesearch.data.records import QUARANTINE, Manifest, Split, read_manifest
from agesearch.data.shards import open_shards, row_batches
from agesearch.errors import InputError
from agesearch.storage import Location

DECADES = tuple(range(0, MAX_AGE, 10))
UNLABELLED = "no age"
UNKNOWN = "unknown"
_EXAMPLES = 5
_LABELS = ["age", "age_low", "age_high", "split", "sex", "ethnicity", "source"]


@dataclass(frozen=True)
class LeftOut:
    """Rows that were left out for one reason, with a few of them as ``(path, detail)``."""

    reason: str
    count: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True)
class Inspection:
    """A dataset at a glance. ``ages`` counts faces by decade (``30-39``; ``no age``) and split; ``sexes``,
    ``ethnicities`` and ``sources`` count faces by value.
    """

    dataset: str
    manifest: Manifest
    ages: dict[str, dict[str, int]]
    sexes: dict[str, int]
    ethnicities: dict[str, int]
    sources: dict[str, int]
    left_out: list[LeftOut] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "dataset": self.dataset,
            "faces": self.manifest.faces,
            "manifest": self.manifest.model_dump(mode="json"),
            "ages": self.ages,
            "sexes": self.sexes,
            "ethnicities": self.ethnicities,
            "sources": self.sources,
            "left_out": [vars(item) for item in self.left_out],
        }


@dataclass(frozen=True)
class Face:
    """A face of the contact sheet: its crop as JPEG bytes and its age in years (a group's middle)."""

    sample_id: str
    image: bytes
    age: float | None
    split: str
    source: str


def inspect_dataset(dataset: str | Location) -> Inspection:
    """Count a dataset; an ``InputError`` where it is none or is damaged."""
    folder = Location.of(dataset)
    manifest = read_manifest(folder)
    ages = {name: {split.value: 0 for split in Split} for name in (*map(decade_name, DECADES), UNLABELLED)}
    values: dict[str, Counter[str]] = {name: Counter() for name in ("sex", "ethnicity", "source")}
    for batch in row_batches(folder, None, _LABELS):
        for age, split in zip(_ages(batch), batch["split"].to_pylist(), strict=True):
            ages[_decade_of(age)][split] += 1
        for name, counter in values.items():
            counter.update(value or UNKNOWN for value in batch[name].to_pylist())
    _check_counts(folder, manifest, ages)
    return Inspection(
        dataset=str(folder),
        manifest=manifest,
        ages={name: counts for name, counts in ages.items() if name != UNLABELLED or any(counts.values())},
        sexes=dict(values["sex"].most_common()),
        ethnicities=dict(values["ethnicity"].most_common()),
        sources=dict(values["source"].most_common()),
        left_out=_left_out(folder),
    )


def faces_by_decade(dataset: str | Location, each: int) -> dict[str, list[Face]]:
    """Up to ``each`` faces of every decade, youngest first: a fair and repeatable draw (the smallest sample
    ids, which are hashes).
    """
    folder = Location.of(dataset)
    chosen: dict[str, list[tuple[str, float | None]]] = {}
    for batch in row_batches(folder, None, ["sample_id", "age", "age_low", "age_high"]):
        for sample_id, age in zip(batch["sample_id"].to_pylist(), _ages(batch), strict=True):
            chosen.setdefault(_decade_of(age), []).append((sample_id, age))
        chosen = {name: sorted(faces)[:each] for name, faces in chosen.items()}
    ages = {sample_id: age for faces in chosen.values() for sample_id, age in faces}
    wanted = pc.field("sample_id").isin(list(ages))
    rows = open_shards(folder).to_table(columns=["sample_id", "image", "split", "source"], filter=wanted)
    found = {row["sample_id"]: Face(**row, age=ages[row["sample_id"]]) for row in rows.to_pylist()}
    order = [*map(decade_name, DECADES), UNLABELLED]
    return {
        name: sorted((found[sample_id] for sample_id, _ in chosen[name]), key=lambda face: face.age or 0.0)
        for name in order
        if name in chosen
    }


def decade_name(first: int) -> str:
    """``30-39``; the last one takes 100 in."""
    return f"{first}-{first + 9 if first + 10 < MAX_AGE else MAX_AGE}"


def _decade_of(age: float | None) -> str:
    return UNLABELLED if age is None else decade_name(min(int(age // 10) * 10, DECADES[-1]))


def _ages(batch: pa.RecordBatch) -> list[float | None]:
    """Ages in years; of a group its middle."""
    middle = pc.divide(pc.add(batch["age_low"], batch["age_high"]), pa.scalar(2.0, pa.float32()))
    ages: list[float | None] = pc.coalesce(batch["age"], middle).to_pylist()
    return ages


def _check_counts(folder: Location, manifest: Manifest, ages: dict[str, dict[str, int]]) -> None:
    counted = sum(sum(counts.values()) for counts in ages.values())
    if counted != manifest.faces:
        raise InputError(
            f"'{folder}' is damaged: its shards hold {counted} faces, its manifest says {manifest.faces}. "
            f"Ingest it again."
        )


def _left_out(folder: Location) -> list[LeftOut]:
    """The quarantine by reason, most frequent first."""
    if not (folder / QUARANTINE).exists():
        return []
    table = (folder / QUARANTINE).read_table(["path", "reason", "detail"])
    counts: Counter[str] = Counter(table["reason"].to_pylist())
    found = []
    for reason, count in counts.most_common():
        rows = table.filter(pc.equal(table["reason"], reason)).slice(0, _EXAMPLES).to_pylist()
        found.append(LeftOut(reason, count, [(row["path"], row["detail"] or "") for row in rows]))
    return found
