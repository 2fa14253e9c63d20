"""A unit of an ingest's work: some records in, their faces and their rows of the ledger out.

Runs in a worker process. The worker writes both files into the staging folder, the ledger last: a unit whose
ledger is there is finished, whatever becomes of the run. No Ray here, so that a test can call it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agesearch.data.dataset.commit import LEDGERS
from agesearch.data.dataset.identity import identify
from agesearch.data.dataset.ledger import LEDGER_SCHEMA
from agesearch.data.dataset.records import SCHEMA
from agesearch.data.dataset.splits import split_of
from agesearch.data.images.decode import BadImage
from agesearch.data.images.detectors import Detector, open_detector
from agesearch.data.images.files import read_image
from agesearch.data.images.memory import give_back_large_pieces
from agesearch.data.images.recipe import same_detector
from agesearch.data.ingest.extract import outcomes_of, record_table
from agesearch.data.ingest.record_index import record_of
from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.specs import CropSpec, SplitSpec
from agesearch.storage import Location

#: What a worker gets: see ``records.RecordIndex.work``.
WORK_SCHEMA = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("key", pa.binary(16), nullable=False),
        pa.field("within", pa.string(), nullable=False),
        pa.field("record", pa.string(), nullable=False),
        pa.field("modified", pa.int64()),
        pa.field("expected", pa.string()),
        pa.field("settled", pa.bool_()),
    ]
)
#: What it gives back; ``error`` is what ended it, in one line, and stands alone then. ``unseen``: the file
#: was there when the source was read, and this worker cannot read it: its machine may lack the file. Such
#: a row is not finished, unless the work calls the matter ``settled``: nobody else can read it either.
RESULT_SCHEMA = pa.schema(
    [
        pa.field("position", pa.int64()),
        *(pa.field(field.name, field.type) for field in LEDGER_SCHEMA),
        pa.field("error", pa.string()),
        pa.field("unseen", pa.bool_()),
    ]
)
#: Reasons that may be the worker's machine's, not the file's.
_OF_MACHINE = ("missing_file", "unreadable")

#: What is known of a record that became a face.
_OF_FACES = ("sample_id", "photo_digest", "split")
FACES, WORK = "faces", "work"


@dataclass(frozen=True)
class UnitContext:
    """What every unit of a run shares: the recipe, and the folder where units are staged."""

    staging: str
    crop: dict[str, Any]
    split: dict[str, Any]


def process_unit(work: pa.Table, context: UnitContext) -> pa.Table:
    """Work on the records of a table of ``WORK_SCHEMA`` and stage what comes of them; rows of
    ``RESULT_SCHEMA`` in the same order. A failure that is no image's fault, such as a full disk, comes as
    ``error``.
    """
    try:
        return _done(work, context)
    except AgeSearchError as error:
        return failure(str(error))
    except (OSError, MemoryError, pa.ArrowException) as error:
        return failure(f"a worker failed: {type(error).__name__}: {first_line(error)}")


def failure(message: str) -> pa.Table:
    """The result of a unit that could not be worked on."""
    return pa.Table.from_pylist([{"error": message}], schema=RESULT_SCHEMA)


def _done(work: pa.Table, context: UnitContext) -> pa.Table:
    rows = work.to_pylist()
    split = SplitSpec.model_validate(context.split)
    results = [_unchanged(row, split) for row in rows]
    fresh = [row for row, result in zip(rows, results, strict=True) if result is None]
    made = iter(_fresh(fresh, context, split) if fresh else [])
    whole = [result or next(made) for result in results]
    return pa.Table.from_pylist(whole, schema=RESULT_SCHEMA)


def _unchanged(row: dict[str, Any], split: SplitSpec) -> dict[str, Any] | None:
    """The result of a record whose file holds the bytes (and box) of a known face: that crop can stay.

    It is not staged, since it is worth nothing without the dataset it was compared with.
    """
    if row["expected"] is None:
        return None
    record = record_of(row["record"])
    try:
        data = read_image(record.path)
    except BadImage:
        return None
    face = identify(data, record.box)
    if face.sample_id != row["expected"]:
        return None
    part = split_of(record, face.photo_sha256, split)
    return _result(row, sample_id=face.sample_id, photo_digest=face.photo_digest, split=part.value)


def _fresh(rows: list[dict[str, Any]], context: UnitContext, split: SplitSpec) -> list[dict[str, Any]]:
    """Detect, crop and encode; stage the faces, then the ledger."""
    crop = CropSpec.model_validate(context.crop)
    records = record_table([record_of(row["record"]) for row in rows])
    outcomes = outcomes_of(records, _detector_of(crop), crop, split)
    name = _name_of(rows)
    facts = outcomes.select([*_OF_FACES, "reason", "detail"]).to_pylist()
    results, holds, seen = [], [], set()
    for row, outcome in zip(rows, facts, strict=True):
        is_face = outcome["reason"] is None
        holds.append(is_face and outcome["sample_id"] not in seen)
        seen.add(outcome["sample_id"])
        if not is_face:
            outcome |= dict.fromkeys(_OF_FACES)
        unseen = outcome["reason"] in _OF_MACHINE and row["modified"] is not None and not row["settled"]
        results.append(_result(row, **outcome, shard=name if holds[-1] else None, unseen=unseen))
    staging = Location.of(context.staging)
    if any(holds):
        faces = outcomes.filter(pa.array(holds)).select(SCHEMA.names).cast(SCHEMA)
        stage(staging / FACES / name, faces)
    if finished := [result for result in results if not result["unseen"]]:
        stage_results(staging, name, finished)
    return results


def stage_results(staging: Location, name: str, results: list[dict[str, Any]]) -> None:
    """Write a unit's rows of the ledger: from now on it is finished."""
    stage(staging / LEDGERS / name, pa.Table.from_pylist(results, schema=LEDGER_SCHEMA))


def stage(place: Location, table: pa.Table) -> None:
    """Write a small Parquet file in one go: an object store gets the whole file or none."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    place.write_bytes(sink.getvalue())


def crashed(row: dict[str, Any]) -> dict[str, Any]:
    """The result of a record that takes its worker down."""
    detail = "the process that worked on this image died, alone on it and twice"
    return _result(row, reason="crashed_worker", detail=detail)


def _name_of(rows: list[dict[str, Any]]) -> str:
    """The same work has the same name, so that a unit done twice lies there once."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row["key"] + f"{row['modified']};".encode())
    return f"{digest.hexdigest()[:24]}.parquet"


def _result(row: dict[str, Any], **outcome: Any) -> dict[str, Any]:
    same = {name: row[name] for name in ("position", "key", "modified")} | {"path": row["within"]}
    return dict.fromkeys(LEDGER_SCHEMA.names) | same | outcome


def _detector_of(crop: CropSpec) -> Detector:
    """The detector of the run's recipe; an ``InputError`` where this worker has another one."""
    detector = _detector(crop.detector)
    wanted = crop.detected_by
    if wanted is not None and not same_detector(wanted, detector.identity):
        raise InputError(
            f"The faces are to be found by {wanted}, but a worker has {detector.identity}: install the same "
            f"detector on every machine."
        )
    return detector


@lru_cache(maxsize=2)
def _detector(name: str) -> Detector:
    """Opened once a worker process, which from then on keeps the memory of a photograph for the next one."""
    give_back_large_pieces()
    return open_detector(name)
