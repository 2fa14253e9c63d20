"""Make staged files a dataset, so that a kill at any moment leaves the earlier one or is finished later.

Until all is staged the earlier dataset stays as it is. Then the plan of what to move and delete is written,
and only renames remain; whoever opens the folder to write next ends a plan that was cut short. Readers see no
manifest, hence no dataset, while it is carried out: at no moment does a manifest describe files that are not
there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agesearch.data.dataset.layout import shard_name
from agesearch.data.dataset.records import (
    CROISSANT,
    MANIFEST,
    QUARANTINE,
    QUARANTINE_SCHEMA,
    SHARDS,
    Manifest,
    Rejected,
)
from agesearch.errors import AgeSearchError, first_line
from agesearch.storage import Location

STAGING = ".staging"
_PLAN = "publish.json"
_ROWS_AT_ONCE = 4096
#: Rows of work that were staged: gone before the plan is, so that nobody takes moved files for staged ones.
LEDGERS = "ledgers"

#: Files of the staging folder, and where in the dataset they go.
Moves = list[tuple[str, str]]


def stage_shards(out: Location, shards: Iterable[tuple[int, pa.Table]]) -> Moves:
    """Write shards, by number, into the staging folder; says where they go."""
    moves = []
    for number, rows in shards:
        place = f"{SHARDS}/{shard_name(number)}"
        (out / STAGING / place).write_table(rows)
        moves.append((place, place))
    return moves


def shard_files(out: Location) -> list[str]:
    """What lies in the folder of shards, as paths in the dataset."""
    return [f"{SHARDS}/{child.name}" for child in (out / SHARDS).children()]


def publish(out: Location, manifest: Manifest, moves: Moves, deletes: Iterable[str]) -> None:
    """Carry out ``deletes`` (paths in the dataset), then ``moves`` (path in the staging folder -> path in the
    dataset, where it replaces what is there); the manifest comes last.
    """
    staging = out / STAGING
    (staging / MANIFEST).write_json(manifest.model_dump(mode="json"))
    # A plan that is carried out a second time must not delete what it has moved.
    replaced = {path for _, path in moves}
    gone = [path for path in (*deletes, CROISSANT) if path not in replaced]
    (staging / _PLAN).write_json({"moves": moves, "deletes": gone})
    finish_publishing(out)


def is_publishing(out: Location) -> bool:
    """Whether a plan was written and not carried out to its end."""
    return (out / STAGING / _PLAN).exists()


def finish_publishing(out: Location) -> bool:
    """Carry out what is left of a plan; whether there was one. The caller holds the lock."""
    staging = out / STAGING
    if not is_publishing(out):
        return False
    try:
        if (staging / MANIFEST).exists():
            _carry_out(out, (staging / _PLAN).read_json())
        (staging / LEDGERS).delete()
        staging.delete()
    except OSError as error:
        raise AgeSearchError(
            f"'{out}' is made but could not be put in place: {first_line(error)}. The same command does it."
        ) from error
    return True


def _carry_out(out: Location, plan: Any) -> None:
    staging = out / STAGING
    (out / MANIFEST).delete()
    for path in plan["deletes"]:
        (out / path).delete()
    (out / SHARDS).make_dir()
    for source, path in plan["moves"]:
        if (staging / source).exists():  # else it was moved before the run was cut short
            _move(staging / source, out / path)
    _move(staging / MANIFEST, out / MANIFEST)


class Quarantine:
    """Writes what was left out into the staging folder as it comes, a few thousand rows in memory at most."""

    def __init__(self, staging: Location) -> None:
        self._place = staging / QUARANTINE
        self._rows: list[dict[str, Any]] = []
        self._stack = ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self.reasons: Counter[str] = Counter()

    def add(self, left_out: Iterable[Rejected]) -> None:
        """Take rows."""
        for item in left_out:
            self.reasons[item.reason] += 1
            self._rows.append(vars(item))
            if len(self._rows) >= _ROWS_AT_ONCE:
                self._flush()

    def finish(self) -> dict[str, int]:
        """Close the file; the number of rows by reason."""
        self._flush()
        self._stack.close()
        return dict(sorted(self.reasons.items()))

    def discard(self) -> None:
        """Close the file, whatever is in it."""
        with suppress(AgeSearchError, OSError):
            self._stack.close()

    def _flush(self) -> None:
        if self._writer is None:
            place = self._stack.enter_context(self._place.staged())
            writer = pq.ParquetWriter(
                place.path, QUARANTINE_SCHEMA, filesystem=place.filesystem, compression="zstd"
            )
            self._writer = self._stack.enter_context(writer)
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=QUARANTINE_SCHEMA))
        self._rows = []


def _move(source: Location, target: Location) -> None:
    target.filesystem.move(source.path, target.path)
