"""A learning curve on disk, ``curve.jsonl``: one JSON line an epoch, and now and then one within an epoch;
and what the best epoch answered for the validation faces, ``validation.parquet``.

Lines within an epoch have the names of ``training.standing``, never ``epoch``: ``read_curve`` gives those of
whole epochs alone, and every reader of curves goes through it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.metrics import EPOCH, EPOCH_SECONDS, FACES_SO_FAR, SECONDS_SO_FAR, VAL_MAE_YEARS, WITHIN_EPOCH
from agesearch.storage import Location, unwritten

CURVE = "curve.jsonl"
#: Columns ``sample_id``, ``subject_id`` (null: unknown), ``age`` and ``predicted_age`` in years.
ANSWERS = "validation.parquet"

#: The answers of so many faces are kept at most, those with the smallest hashes: the same ones for any model.
MOST_ANSWERS = 10_000

Row = dict[str, float]


def append_row(folder: Location, row: Row) -> None:
    """Add a row; on storage that cannot append, the file is written anew.

    A figure that is no number is written as null. Raises ``StorageFullError`` where there is no room.
    """
    line = _line(row)
    file = folder / CURVE
    if not file.is_local:
        file.write_text((file.read_text() if file.exists() else "") + line)
        return
    folder.make_dir()
    try:
        with open(file.local(), "a", encoding="utf-8") as handle:
            handle.write(line)
    except OSError as error:
        raise unwritten(file, error) from error


def read_curve(folder: Location) -> list[Row]:
    """The rows of whole epochs so far; lines that a kill left torn or a disk damaged are left out."""
    return [row for row in _rows(folder) if WITHIN_EPOCH not in row]


def read_within(folder: Location) -> list[Row]:
    """The rows within epochs, of all epochs so far."""
    return [row for row in _rows(folder) if _is_within(row)]


def epoch_errors(folder: Location) -> dict[int, float]:
    """The validation error in years after each epoch that has one; of a repeated epoch, the last."""
    known = [(row.get(EPOCH), row.get(VAL_MAE_YEARS)) for row in read_curve(folder)]
    return {
        int(epoch): float(error)
        for epoch, error in known
        if isinstance(epoch, int | float) and isinstance(error, int | float) and math.isfinite(error)
    }


def trained_seconds(folder: Location) -> float:
    """Seconds that were spent on whole epochs, and on the one that was cut, by the curve."""
    rows = read_curve(folder)
    whole = sum(float(row.get(EPOCH_SECONDS) or 0.0) for row in rows)
    cut = [row[SECONDS_SO_FAR] or 0.0 for row in read_within(folder) if row[WITHIN_EPOCH] == len(rows) + 1]
    return whole + max(cut, default=0.0)


def keep_epochs(folder: Location, epochs: int, known: Sequence[Row] = (), faces: int = 0) -> list[Row]:
    """Forget rows after the first ``epochs`` epochs and ``faces`` faces of the next one, which a resumed run
    writes again; returns the whole epochs' rows that are kept.

    ``known`` are the rows of these epochs where a checkpoint has them; else those in the file count.
    """
    file = folder / CURVE
    if not known and not file.exists():
        return []
    rows = [row for row in known or read_curve(folder) if (row.get(EPOCH) or 0) <= epochs]
    within = [row for row in read_within(folder) if _place(row) <= (epochs + 1, faces)]
    file.write_text("".join(map(_line, _in_order(rows, within))))
    return rows


def _in_order(rows: Sequence[Row], within: Sequence[Row]) -> Iterator[Row]:
    """Each epoch's row behind those within it."""
    left = list(within)
    for row in rows:
        while left and left[0][WITHIN_EPOCH] <= (row.get(EPOCH) or 0):
            yield left.pop(0)
        yield row
    yield from left


def _rows(folder: Location) -> Iterator[Row]:
    file = folder / CURVE
    if not file.exists():
        return
    for line in file.read_bytes().decode("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _is_within(row: Row) -> bool:
    names = (WITHIN_EPOCH, FACES_SO_FAR)
    return all(isinstance(row.get(name), int | float) for name in names) and SECONDS_SO_FAR in row


def _place(row: Row) -> tuple[float, float]:
    return row[WITHIN_EPOCH], row[FACES_SO_FAR]


def _line(row: Row) -> str:
    numbers = {name: value if math.isfinite(value) else None for name, value in row.items()}
    return json.dumps(numbers, allow_nan=False) + "\n"


def write_answers(
    folder: Location,
    sample_id: Sequence[str],
    subject_id: Sequence[str | None],
    age: npt.NDArray[np.float32],
    predicted: npt.NDArray[np.float32],
    name: str = ANSWERS,
) -> None:
    """Keep what a training's best epoch said of the validation faces ``[N]``, in the order of their names."""
    rows = sorted(range(len(sample_id)), key=lambda row: sample_id[row])
    if len(rows) > MOST_ANSWERS:
        hashes = {row: hashlib.sha256(str(sample_id[row]).encode()).digest() for row in rows}
        kept = set(sorted(rows, key=hashes.__getitem__)[:MOST_ANSWERS])
        rows = [row for row in rows if row in kept]
    columns = {
        "sample_id": pa.array([str(sample_id[row]) for row in rows], pa.string()),
        "subject_id": pa.array([subject_id[row] for row in rows], pa.string()),
        "age": age[rows],
        "predicted_age": predicted[rows],
    }
    (folder / name).write_table(pa.table(columns))
