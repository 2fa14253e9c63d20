"""Photographs that a machine of the cluster does not see, though the machine that read the labels does.

Where folders are not shared, or a node has no credentials for an object store, its workers would find every
file missing. Such a node is left out of the ingest and its records go to others; a record counts as missing
only where this machine cannot read its file either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from agesearch.cluster.left_out import LeftOutNodes
from agesearch.cluster.nodes import unreadable
from agesearch.data.ingest.record_index import record_of
from agesearch.data.ingest.work_unit import WORK, WORK_SCHEMA, UnitContext, stage
from agesearch.storage import Location

#: Photographs that every node is asked for before the work begins, spread over the source.
_SAMPLES = 4
_AGAIN = "again"


class LeftOut:
    """The nodes that take no part, by Ray's id, and the records that they could not read."""

    def __init__(self, context: UnitContext, tell: Callable[[str], None]) -> None:
        remedy = (
            "put the photographs and the dataset into folders that the nodes share, or behind a URI that "
            "they can read. What is done is kept."
        )
        self._nodes = LeftOutNodes("the ingest", remedy, tell)
        self.nodes = self._nodes.reasons
        self._staging = Location.of(context.staging)
        self._rows: list[dict[str, Any]] = []
        self._queues = 0

    def ask(self, work: Sequence[Location]) -> None:
        """Leave out the nodes that do not see the work or a sample of its photographs, before it begins.

        ``InputError`` where none is left.
        """
        self._nodes.ask(lambda: [str(work[0]), *_samples(work)])

    def add(self, rows: Iterable[dict[str, Any]], node: str, why: str) -> None:
        """Take records (rows of ``WORK_SCHEMA``) that a worker on ``node`` could not read; ``why`` tells of
        one of them. They are worked on again, by another node unless this machine cannot read them either.
        """
        seen = False
        for row in rows:
            settled = row["modified"] is None or unreadable(record_of(row["record"]).path) is not None
            seen |= not settled
            self._rows.append(row | {"settled": settled})
        if seen:
            self._nodes.add(node, why)

    def queue(self, in_unit: int) -> list[Location]:
        """The records taken since the last call, as units of work for the nodes that are left.

        ``InputError`` where none is.
        """
        rows, self._rows = self._rows, []
        if not rows:
            return []
        self._nodes.check()
        self._queues += 1
        places = []
        for start in range(0, len(rows), in_unit):
            name = f"{_AGAIN}-{self._queues:03d}-{start:06d}.parquet"
            places.append(self._staging / WORK / name)
            stage(places[-1], pa.Table.from_pylist(rows[start : start + in_unit], schema=WORK_SCHEMA))
        return places


def _samples(work: Sequence[Location]) -> list[str]:
    """Paths of photographs that this machine can read, of units spread over the work."""
    found = []
    for number in {round(part * (len(work) - 1) / _SAMPLES) for part in range(_SAMPLES + 1)}:
        for row in work[number].read_table().slice(0, 1).to_pylist():
            path = record_of(row["record"]).path
            if row["modified"] is not None and unreadable(path) is None:
                found.append(path)
    return found
