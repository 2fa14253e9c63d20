"""What a dataset holds, told from its manifest, its label columns and its quarantine; no crop is decoded.

Reads the shards batch by batch, so that memory does not grow with the dataset.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from agesearch.ages import BINS, DECADES, decade_name
from agesearch.data.dataset.records import QUARANTINE, Manifest, Split, read_manifest
from agesearch.data.dataset.shards import open_shards, row_batches
from agesearch.errors import InputError
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import name_of, without_places
from agesearch.storage import Location

UNLABELLED = "no age"
UNKNOWN = "unknown"
_EXAMPLES = 5
_STAGE, _CHOOSING = "inspect", "contact sheet"
_LABELS = ["age", "age_low", "age_high", "split", "sex", "ethnicity", "source", "label_kind"]
#: What faces are counted by, besides their age.
_GROUPED = ("split", "sex", "ethnicity", "source", "label_kind")


@dataclass(frozen=True)
class LeftOut:
    """Rows that were left out for one reason, with a few of them as ``(path, detail)``."""

    reason: str
    count: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True)
class Inspection:
    """A dataset at a glance. ``ages`` counts faces by decade (``30-39``; ``no age``) and split; ``values``
    counts them by a field (``sex``, ``ethnicity``, ``source``, ``label_kind``), its value and the split;
    ``years`` by the same (and by ``split``) and the year of age, 101 counts each (a group: its middle).
    """

    dataset: str
    manifest: Manifest
    ages: dict[str, dict[str, int]]
    values: dict[str, dict[str, dict[str, int]]]
    years: dict[str, dict[str, list[int]]]
    left_out: list[LeftOut] = field(default_factory=list)

    def totals(self, name: str) -> dict[str, int]:
        """Faces by the value of a field, most frequent first."""
        return {value: sum(counts.values()) for value, counts in self.values[name].items()}

    def document(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "dataset": name_of(self.dataset),
            "faces": self.manifest.faces,
            "manifest": self.manifest.model_dump(mode="json"),
            "ages": self.ages,
            "sexes": self.totals("sex"),
            "ethnicities": self.totals("ethnicity"),
            "sources": self.totals("source"),
            "label_kinds": self.totals("label_kind"),
            "by_split": self.values,
            "left_out": without_places([vars(item) for item in self.left_out]),
        }


@dataclass(frozen=True)
class Face:
    """A face of the contact sheet: its crop as JPEG bytes and its age in years (a group's middle)."""

    sample_id: str
    image: bytes
    age: float | None
    split: str
    source: str


def inspect_dataset(dataset: str | Location, on_progress: Listener = silent) -> Inspection:
    """Count a dataset; an ``InputError`` where it is none or is damaged."""
    folder = Location.of(dataset)
    manifest = read_manifest(folder)
    counted: dict[str, Counter[tuple[str, str, int | None]]] = {name: Counter() for name in _GROUPED}
    done = 0
    for batch in row_batches(folder, None, _LABELS):
        on_progress(Progress(_STAGE, done, manifest.faces))
        done += len(batch)
        for name, counter in counted.items():
            counter.update(_grouped(batch, name, manifest.label_kind))
    on_progress(Progress(_STAGE, done, manifest.faces))
    by_split = counted["split"]
    ages = {name: {split.value: 0 for split in Split} for name in (*map(decade_name, DECADES), UNLABELLED)}
    for (_, split, year), count in by_split.items():
        ages[_decade_of(year)][split] += count
    _check_counts(folder, manifest, ages)
    return Inspection(
        dataset=str(folder),
        manifest=manifest,
        ages={name: counts for name, counts in ages.items() if name != UNLABELLED or any(counts.values())},
        values={name: _by_split(counter) for name, counter in counted.items() if name != "split"},
        years={name: _by_year(counter) for name, counter in counted.items()},
        left_out=_left_out(folder),
    )


def faces_by_decade(
    dataset: str | Location, each: int, on_progress: Listener = silent
) -> dict[str, list[Face]]:
    """Up to ``each`` faces of every decade, youngest first: a fair and repeatable draw (the smallest sample
    ids, which are hashes).
    """
    folder = Location.of(dataset)
    chosen: dict[str, list[tuple[str, float | None]]] = {}
    done = 0
    for batch in row_batches(folder, None, ["sample_id", "age", "age_low", "age_high"]):
        on_progress(Progress(_CHOOSING, done, None, note="choosing faces"))
        done += len(batch)
        for sample_id, age in zip(batch["sample_id"].to_pylist(), _ages(batch).to_pylist(), strict=True):
            chosen.setdefault(_decade_of(age), []).append((sample_id, age))
        chosen = {name: sorted(faces)[:each] for name, faces in chosen.items()}
    ages = {sample_id: age for faces in chosen.values() for sample_id, age in faces}
    wanted = pc.field("sample_id").isin(pa.array(list(ages), pa.string()))
    on_progress(Progress(_CHOOSING, done, None, note="reading the chosen"))
    rows = open_shards(folder).to_table(columns=["sample_id", "image", "split", "source"], filter=wanted)
    found = {row["sample_id"]: Face(**row, age=ages[row["sample_id"]]) for row in rows.to_pylist()}
    on_progress(Progress(_CHOOSING, done, done))
    order = [*map(decade_name, DECADES), UNLABELLED]
    return {
        name: sorted((found[sample_id] for sample_id, _ in chosen[name]), key=lambda face: face.age or 0.0)
        for name in order
        if name in chosen
    }


def _decade_of(age: float | None) -> str:
    return UNLABELLED if age is None else decade_name(min(age // 10 * 10, DECADES[-1]))


def _ages(batch: pa.RecordBatch) -> pa.Array:
    """Ages in years; of a group its middle."""
    middle = pc.divide(pc.add(batch["age_low"], batch["age_high"]), pa.scalar(2.0, pa.float32()))
    return pc.coalesce(batch["age"], middle)


def _grouped(batch: pa.RecordBatch, name: str, kind: str) -> dict[tuple[str, str, int | None], int]:
    """Faces of a batch by value of a column, split and year of age."""
    values = pc.fill_null(batch[name], kind if name == "label_kind" else UNKNOWN)
    years = pc.cast(pc.floor(_ages(batch)), pa.int16())
    table = pa.table({"value": values, "split": batch["split"], "year": years})
    rows = table.group_by(["value", "split", "year"]).aggregate([([], "count_all")]).to_pylist()
    return {(row["value"], row["split"], row["year"]): row["count_all"] for row in rows}


def _by_split(counter: Counter[tuple[str, str, int | None]]) -> dict[str, dict[str, int]]:
    """Value -> split -> faces, the most frequent value first."""
    found: dict[str, dict[str, int]] = {}
    for (value, split, _), count in counter.items():
        splits = found.setdefault(value, {name.value: 0 for name in Split})
        splits[split] += count
    return dict(sorted(found.items(), key=lambda item: (-sum(item[1].values()), item[0])))


def _by_year(counter: Counter[tuple[str, str, int | None]]) -> dict[str, list[int]]:
    """Value -> faces of each year of age, in the order of ``_by_split``."""
    found = {value: [0] * BINS for value in _by_split(counter)}
    for (value, _, year), count in counter.items():
        if year is not None:
            found[value][year] += count
    return found


def _check_counts(folder: Location, manifest: Manifest, ages: dict[str, dict[str, int]]) -> None:
    counted = sum(sum(counts.values()) for counts in ages.values())
    if counted != manifest.faces:
        raise InputError(
            f"'{folder}' is damaged: its shards hold {counted} faces, its manifest says {manifest.faces}. "
            f"Ingest it again."
        )


def _left_out(folder: Location) -> list[LeftOut]:
    """The quarantine by reason, most frequent first, read batch by batch."""
    place = folder / QUARANTINE
    if not place.exists():
        return []
    counts: Counter[str] = Counter()
    examples: dict[str, list[tuple[str, str]]] = {}
    rows = pads.dataset(place.path, filesystem=place.filesystem, format="parquet")
    for batch in rows.to_batches(columns=["path", "reason", "detail"]):
        reasons = batch["reason"].to_pylist()
        counts.update(reasons)
        for index, reason in enumerate(reasons):
            known = examples.setdefault(reason, [])
            if len(known) < _EXAMPLES:
                known.append((batch["path"][index].as_py(), batch["detail"][index].as_py() or ""))
    return [LeftOut(reason, count, examples[reason]) for reason, count in counts.most_common()]
