"""What every public dataset must do once it is ingested: hold the reader's labels, and be evaluated."""

from __future__ import annotations

from pathlib import Path

from published_sets import tiny_model

from agesearch.data.dataset.records import SourceRecord, Split, read_manifest
from agesearch.data.dataset.shards import read_rows
from agesearch.data.ingest.run import IngestSpec
from agesearch.data.sources import SOURCES
from agesearch.measure.evaluate import Evaluation, evaluate
from agesearch.measure.protocols import protocol_named
from agesearch.storage import Location

LABELS = ["age", "age_std", "age_low", "age_high", "subject_id", "sex", "ethnicity", "source", "fold"]
#: The protocol that a dataset is published with; the others are scored by the standard one.
PROTOCOLS = {"adience": "adience", "lfw+": "lfw+", "fgnet": "lopo", "paplham": "paplham"}


def assert_rows_are_the_readers_records(spec: IngestSpec, dataset: Path) -> None:
    """Every record that became a face kept its labels, and nothing else did."""
    rows = read_rows(dataset, None, LABELS).to_pylist()
    records = [r for r in SOURCES[spec.source].read(spec.options()) if isinstance(r, SourceRecord)]
    left = [str([_shown(getattr(record, name)) for name in LABELS]) for record in records]
    for row in rows:
        left.remove(str([_shown(row[name]) for name in LABELS]))
    manifest = read_manifest(dataset)
    outside = manifest.left_out.get("bad_box", 0)  # such a box costs a record only when the image is open
    assert len(left) <= outside, f"these records are no rows: {left}"


def evaluated(source: str, dataset: Path, model_folder: Path) -> Evaluation:
    """The record of an untrained model's scores by the dataset's own protocol."""
    name = PROTOCOLS.get(source, "standard")
    counts = read_manifest(dataset).counts
    split = next(part for part in (Split.TEST, Split.VAL, Split.TRAIN) if counts[part])
    protocol = protocol_named(name, split=split if name == "standard" else None)
    return evaluate({"tiny": Location.of(tiny_model(model_folder))}, dataset, protocol).record


def _shown(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value
