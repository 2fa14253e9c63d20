"""The record index of an ingest: every record of the source, matched with what earlier runs know of it.

It lives in a temporary database on disk (``disk_set.open_index``), so that the driver's memory does not grow
with the source. A *container* is a Parquet file of faces: a shard of the dataset, or a staged one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from agesearch.data.dataset.disk_set import open_index
from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.images.files import printable
from agesearch.data.ingest.survey import Entry

#: Left out for what may be gone tomorrow: the network, a permission. Tried again whenever a run works at all.
RETRIED = ("unreadable",)
_AT_ONCE = 4096

_TABLES = """
CREATE TABLE records (
    position INTEGER PRIMARY KEY, key BLOB, path TEXT, within TEXT, source TEXT, record TEXT,
    modified INTEGER, expected TEXT, sample_id TEXT, photo_digest TEXT, split TEXT, reason TEXT, detail TEXT,
    done INTEGER NOT NULL);
CREATE TABLE known (
    key BLOB PRIMARY KEY, within TEXT, modified INTEGER, sample_id TEXT, photo_digest TEXT, split TEXT,
    reason TEXT, detail TEXT, staged INTEGER NOT NULL);
CREATE TABLE earlier (key BLOB PRIMARY KEY, within TEXT, sample_id TEXT, split TEXT, reason TEXT);
CREATE TABLE crops (
    container INTEGER, sample_id TEXT, key BLOB, split TEXT,
    PRIMARY KEY (container, sample_id)) WITHOUT ROWID;
CREATE TABLE containers (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, staged INTEGER, ordinal INTEGER);
"""


#: Columns of a ledger, in the order of the tables ``known`` and ``earlier``, and what is found of a record.
_KNOWN = ("key", "path", "modified", "sample_id", "photo_digest", "split", "reason", "detail")
_EARLIER = ("key", "path", "sample_id", "split", "reason")
_OUTCOME = ("sample_id", "photo_digest", "split", "reason", "detail")
_TAKE_CROP = "INSERT OR REPLACE INTO crops VALUES (?, ?, ?, ?)"


@dataclass(frozen=True)
class Changes:
    """Records since the dataset was last made: ``kept`` as they were, ``new``, ``changed`` (another label or
    file content under the same path), ``gone``.
    """

    kept: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0


class RecordIndex:
    """Records in the order of the source: ``add`` all, ``add_known`` what earlier runs found, ``match`` the
    two, and ``add_outcomes`` of the rest.
    """

    def __init__(self) -> None:
        self.database = open_index(_TABLES)
        self._waiting: list[tuple[Any, ...]] = []
        self._count = 0

    def close(self) -> None:
        """Forget everything."""
        self.database.close()

    def add(self, entry: Entry) -> None:
        """Take the next row of the source."""
        item = entry.item
        left_out = isinstance(item, Rejected)
        self._waiting.append(
            (
                self._count,
                None if left_out else entry.key,
                printable(item.path),
                printable(entry.within),
                printable(item.source),
                None if left_out else _written(item),
                entry.modified,
                item.reason if isinstance(item, Rejected) else None,
                printable(item.detail) if isinstance(item, Rejected) else None,
                left_out,
            )
        )
        self._count += 1
        if len(self._waiting) >= _AT_ONCE:
            self._store()

    def add_known(self, rows: pa.RecordBatch | pa.Table, *, staged: bool) -> None:
        """Take rows of a ledger: of the dataset as it is, or of units that a killed run had staged."""
        known, crops = [], []
        for row in rows.to_pylist():
            known.append([*(row[name] for name in _KNOWN), staged])
            if row["shard"] is not None:
                crops.append(self._crop(row, staged=staged))
        self.database.executemany(
            f"INSERT OR REPLACE INTO known VALUES ({_marks(len(_KNOWN) + 1)})",
            known,
        )
        if not staged:
            before = [[row[name] for name in _EARLIER] for row in rows.to_pylist()]
            self.database.executemany(f"INSERT INTO earlier VALUES ({_marks(len(_EARLIER))})", before)
        self.database.executemany(_TAKE_CROP, crops)

    def match(self) -> None:
        """Settle every record that is known; of the rest, note the face that its file held before."""
        self._store()
        self._number_equals()
        run = self.database.execute
        run("CREATE UNIQUE INDEX by_key ON records (key)")
        run("CREATE INDEX known_within ON known (within) WHERE sample_id IS NOT NULL")
        run(
            f"""UPDATE records SET sample_id = k.sample_id, photo_digest = k.photo_digest, split = k.split,
            reason = k.reason, detail = k.detail, done = 1 FROM known AS k WHERE k.key = records.key
            AND k.modified IS records.modified AND coalesce(k.reason, '') NOT IN ({_marks(len(RETRIED))})""",
            RETRIED,
        )
        run(
            """UPDATE records SET expected = (SELECT sample_id FROM known
            WHERE known.within = records.within AND known.sample_id IS NOT NULL LIMIT 1) WHERE done = 0"""
        )

    def work(self) -> Iterator[dict[str, Any]]:
        """The records to work on, in the order of the source; settling others meanwhile is allowed."""
        names = ("position", "key", "within", "record", "modified", "expected")
        last = -1
        while True:
            rows = self.database.execute(
                f"SELECT {', '.join(names)} FROM records WHERE done = 0 AND position > ? "
                f"ORDER BY position LIMIT {_AT_ONCE}",
                (last,),
            ).fetchall()
            if not rows:
                return
            yield from (dict(zip(names, row, strict=True)) | {"settled": False} for row in rows)
            last = rows[-1][0]

    def add_outcomes(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take what became of records: rows of a ledger with their ``position``."""
        for row in rows:
            self.database.execute(
                f"UPDATE records SET {', '.join(f'{name} = ?' for name in _OUTCOME)}, done = 1 "
                "WHERE position = ?",
                [*(row[name] for name in _OUTCOME), row["position"]],
            )
            if row["shard"] is not None:
                # A unit that was done twice (its result was lost on the way) is there once.
                self.database.execute(_TAKE_CROP, self._crop(row, staged=True))

    def counts(self) -> tuple[int, int, int]:
        """Rows of the source, those that are done, and those among them that are left out."""
        row = self.database.execute(
            "SELECT count(*), coalesce(sum(done), 0), coalesce(sum(reason IS NOT NULL), 0) FROM records"
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def resumed(self) -> int:
        """Records that a run before this one had finished but not published."""
        return self._number("SELECT count(*) FROM records JOIN known USING (key) WHERE staged AND done")

    def changes(self) -> Changes:
        """What differs from the dataset as it was."""
        same = "k.sample_id IS r.sample_id AND k.split IS r.split AND k.reason IS r.reason"
        self.database.execute("CREATE TABLE IF NOT EXISTS met (key BLOB PRIMARY KEY)")
        self.database.execute("DELETE FROM met")
        self.database.execute(
            f"INSERT INTO met SELECT r.key FROM records r JOIN earlier k USING (key) WHERE {same}"
        )
        kept = self._number("SELECT count(*) FROM met")
        fresh = "SELECT within FROM records WHERE key IS NOT NULL AND key NOT IN (SELECT key FROM met)"
        stale = "SELECT within FROM earlier WHERE key NOT IN (SELECT key FROM met)"
        changed = self._number(f"SELECT count(*) FROM ({fresh} AND within IN ({stale}))")
        new = self._number(f"SELECT count(*) FROM ({fresh})") - changed
        gone = self._number(f"SELECT count(*) FROM ({stale} AND within NOT IN ({fresh}))")
        return Changes(kept, new, changed, gone)

    def _number(self, query: str) -> int:
        return int(self.database.execute(query).fetchone()[0])

    def _store(self) -> None:
        self.database.executemany(
            "INSERT INTO records (position, key, path, within, source, record, modified, reason, detail, "
            "done) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._waiting,
        )
        self._waiting = []

    def _number_equals(self) -> None:
        """Rows of a source may be equal; the second and later ones get keys of their own."""
        repeated = self.database.execute(
            """SELECT position, key, nth FROM (SELECT position, key, row_number() OVER (
            PARTITION BY key ORDER BY position) AS nth FROM records WHERE key IS NOT NULL) WHERE nth > 1"""
        )
        self.database.execute("CREATE TABLE renamed (position INTEGER PRIMARY KEY, key BLOB)")
        while rows := repeated.fetchmany(_AT_ONCE):
            keys = [(position, _nth_key(key, nth)) for position, key, nth in rows]
            self.database.executemany("INSERT INTO renamed VALUES (?, ?)", keys)
        self.database.execute(
            "UPDATE records SET key = renamed.key FROM renamed WHERE renamed.position = records.position"
        )

    def _crop(self, row: dict[str, Any], *, staged: bool) -> tuple[Any, ...]:
        """A row of a ledger as one of ``crops``: its face lies in a container, in that split."""
        container = self._container(row["shard"], staged=staged)
        return container, row["sample_id"], row["key"], row["moved_to"] or row["split"]

    def _container(self, name: str, *, staged: bool) -> int:
        label = f"staged:{name}" if staged else name
        found = self.database.execute("SELECT id FROM containers WHERE name = ?", (label,)).fetchone()
        if found:
            return int(found[0])
        made = self.database.execute("INSERT INTO containers (name, staged) VALUES (?, ?)", (label, staged))
        return int(made.lastrowid or 0)


def record_of(written: str) -> SourceRecord:
    """A record as the index keeps it -> the record."""
    fields = json.loads(written)
    box, split = fields.pop("box"), fields.pop("split")
    return SourceRecord(
        **fields, split=None if split is None else Split(split), box=None if box is None else tuple(box)
    )


def _written(record: SourceRecord | Rejected) -> str:
    fields = asdict(record)
    return json.dumps({k: printable(v) if isinstance(v, str) else v for k, v in fields.items()})


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _nth_key(key: bytes, nth: int) -> bytes:
    return hashlib.blake2b(key + str(nth).encode(), digest_size=16).digest()
