"""Put a dataset together from the faces that are there: shards of the dataset as it was, and staged ones.

The rules that make an update equal to a fresh ingest: of all records that show the same face (``sample_id``),
the first in the order of the source is the row, the others are duplicates; and which shard a row lies in, and
where, is decided by a hash of its face (``dataset.layout``). Shards whose rows all stay as they are, are
kept; the others are made of the crops that stay or were staged, no image is decoded again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from agesearch.data.dataset.commit import STAGING, Moves, Quarantine, shard_files, stage_shards
from agesearch.data.dataset.counts import COUNTED_COLUMNS, RowCounts
from agesearch.data.dataset.disk_set import run_script
from agesearch.data.dataset.layout import (
    Partition,
    row_keys,
    shard_count,
    shard_name,
    shard_numbers,
)
from agesearch.data.dataset.records import SCHEMA, SHARDS, Rejected, SourceRecord
from agesearch.data.dataset.splits import tied_splits
from agesearch.data.dataset.writer import duplicate
from agesearch.data.ingest.record_index import RecordIndex, record_of
from agesearch.data.ingest.work_unit import FACES
from agesearch.errors import InputError
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import SplitSpec
from agesearch.storage import Location

_AT_ONCE = 4096
_STAGE = "assemble"

_PREPARE = """
CREATE TABLE winners (sample_id TEXT PRIMARY KEY, position INTEGER, split TEXT) WITHOUT ROWID;
INSERT INTO winners SELECT sample_id, MIN(position), split FROM records WHERE sample_id IS NOT NULL
    GROUP BY sample_id;
CREATE UNIQUE INDEX winners_by_position ON winners (position);
"""
_HAS_BOXES = """
SELECT EXISTS (SELECT 1 FROM records WHERE sample_id IS NOT NULL AND sample_id IS NOT photo_digest)
"""
#: Who is on the photographs of the rows whose split was drawn.
_SHOWN = """
CREATE TABLE shown AS SELECT r.position, r.photo_digest AS photo,
    coalesce('subject:' || json_extract(r.record, '$.subject_id'), 'image:' || r.photo_digest) AS who
    FROM winners w JOIN records r ON r.position = w.position WHERE json_extract(r.record, '$.split') IS NULL;
CREATE TABLE tied (who TEXT PRIMARY KEY, split TEXT) WITHOUT ROWID;
"""
_ON_SHARED = """
SELECT photo, who FROM shown WHERE photo IN (
    SELECT photo FROM shown GROUP BY photo HAVING count(DISTINCT who) > 1)
"""
_MOVE = """
UPDATE winners SET split = tied.split FROM shown JOIN tied USING (who) WHERE shown.position = winners.position
"""
_CONTAINERS = """
SELECT k.id, k.name, k.staged, MIN(r.position), COUNT(c.sample_id) FROM containers k
LEFT JOIN crops c ON c.container = k.id LEFT JOIN records r ON r.key = c.key GROUP BY k.id
"""
#: Whose crop is taken, and the number of the shard that the face lies in.
_CHOOSE = """
CREATE TABLE chosen (sample_id TEXT PRIMARY KEY, ordinal INTEGER, number INTEGER) WITHOUT ROWID;
INSERT INTO chosen SELECT sample_id, MIN(k.ordinal), number_of(sample_id) FROM crops c
    JOIN containers k ON k.id = c.container JOIN winners USING (sample_id) GROUP BY sample_id;
"""
#: The rows of a container: the face, whether this container's crop is taken, whether its labels stay, and
#: the record that it stands for.
_FROM_CROPS = """
FROM crops c JOIN containers k ON k.id = c.container LEFT JOIN chosen ch ON ch.sample_id = c.sample_id
LEFT JOIN winners w ON w.sample_id = c.sample_id LEFT JOIN records r ON r.position = w.position
WHERE k.id = ?
"""
_IS_TAKEN, _SAME_LABELS = "ch.ordinal IS k.ordinal", "c.key IS r.key AND c.split IS w.split"
_ROWS = f"SELECT c.sample_id, {_IS_TAKEN}, {_SAME_LABELS}, r.record, w.split {_FROM_CROPS}"
_STAYING = f"SELECT coalesce(sum({_IS_TAKEN} AND {_SAME_LABELS}), 0) {_FROM_CROPS}"
_LEDGER = """
SELECT r.key, r.within AS path, r.modified, r.sample_id, r.photo_digest, r.split,
    nullif(w.split, r.split) AS moved_to, r.reason, r.detail, ch.number AS shard
FROM records r LEFT JOIN winners w ON w.position = r.position
LEFT JOIN chosen ch ON ch.sample_id = w.sample_id WHERE r.key IS NOT NULL ORDER BY r.position
"""
_LEFT_OUT = """
SELECT r.path, r.reason, r.detail, r.source, r.sample_id, r.record, first.record FROM records r
LEFT JOIN winners own ON own.position = r.position LEFT JOIN winners w ON w.sample_id = r.sample_id
LEFT JOIN records first ON first.position = w.position WHERE own.position IS NULL ORDER BY r.position
"""


class Assembly:
    """The files of the new dataset; ``build`` stages what must be written, and fills the public fields.

    ``moves`` and ``deletes`` are what ``publish`` takes; ``counts`` has counted every row, which lie in
    ``hash_shards`` shards; ``contradictions`` (after ``quarantine``) are the duplicates whose age is not that
    of the row that was taken.
    """

    def __init__(self, records: RecordIndex, out: Location, split: SplitSpec) -> None:
        self.counts = RowCounts()
        self.hash_shards = 1
        self.moves: Moves = []
        self.deletes: list[str] = []
        self.contradictions = 0
        self._database = records.database
        self._split = split
        self._out, self._staging = out, out / STAGING

    def build(self, earlier_shards: int | None, on_progress: Listener = silent) -> None:
        """Decide for every container; an ``InputError`` where the dataset lacks faces that its ledger has.

        ``earlier_shards`` is the number of shards by hash that the dataset was in (None: by no hash).
        """
        on_progress(Progress(_STAGE, 0, None, note="choosing among duplicates"))
        (self._staging / SHARDS).delete()  # of a run that was cut short here
        containers = self._order()
        sizes = dict(self._database.execute("SELECT number, count(*) FROM chosen GROUP BY number"))
        whole = {shard_name(number): rows for number, rows in sizes.items()}
        kept: set[str] = set()
        with closing(Partition(self._staging)) as rows:
            for number, (container, name, staged, total) in enumerate(containers):
                on_progress(Progress(_STAGE, number, len(containers), note="files of faces"))
                (stay,) = self._database.execute(_STAYING, (container,)).fetchone()
                is_same = not staged and earlier_shards == self.hash_shards
                if is_same and total == stay == whole.get(name):
                    self._keep(self._out / SHARDS / name, total)
                    kept.add(f"{SHARDS}/{name}")
                else:
                    self._copy(container, self._file(name, staged=staged), total, rows)
            self.moves = self._stage(rows, len(sizes) - len(kept), on_progress)
        self.deletes = [path for path in shard_files(self._out) if path not in kept]

    def quarantine(self, quarantine: Quarantine) -> None:
        """Give everything that was left out to the quarantine, in the order of the source."""
        rows = self._database.execute(_LEFT_OUT)
        for path, reason, detail, source, sample_id, record, first in rows:
            if reason is None:
                ages = _two_ages(record, first)
                self.contradictions += ages is not None
                quarantine.add([duplicate(path, sample_id, source, ages)])
            else:
                quarantine.add([Rejected(path, reason, detail or "", source or "")])

    def ledger(self) -> Iterator[list[dict[str, Any]]]:
        """The rows of the new ledger, a few thousand at once."""
        rows = self._database.execute(_LEDGER)
        *names, _ = [column[0] for column in rows.description]
        while some := rows.fetchmany(_AT_ONCE):
            yield [
                dict(zip(names, row, strict=True)) | {"shard": None if number is None else shard_name(number)}
                for *row, number in some
            ]

    def _order(self) -> list[tuple[int, str, bool, int]]:
        """The containers in order (shards by name, then staged ones by their first record): id, name, whether
        it is staged, faces in it.
        """
        run_script(self._database, _PREPARE)
        self._join_splits()
        found = self._database.execute(_CONTAINERS).fetchall()
        found.sort(key=lambda row: (row[2], -1 if row[3] is None or not row[2] else row[3], row[1]))
        numbers = [(ordinal, row[0]) for ordinal, row in enumerate(found)]
        self._database.executemany("UPDATE containers SET ordinal = ? WHERE id = ?", numbers)
        (faces,) = self._database.execute("SELECT count(*) FROM winners").fetchone()
        self.hash_shards = shard_count(faces)
        self._database.create_function("number_of", 1, self._number_of, deterministic=True)
        run_script(self._database, _CHOOSE)
        lost = self._database.execute(
            "SELECT count(*) FROM winners WHERE sample_id NOT IN (SELECT sample_id FROM chosen)"
        ).fetchone()[0]
        if lost:
            raise _damaged(self._out, f"{lost} faces of its ledger are in no shard")
        return [(row[0], row[1].removeprefix("staged:"), bool(row[2]), row[4]) for row in found]

    def _join_splits(self) -> None:
        """Put all faces of a photograph into one split, with everything else of the persons on it."""
        if not self._database.execute(_HAS_BOXES).fetchone()[0]:
            return
        run_script(self._database, _SHOWN)
        tied = tied_splits(self._database.execute(_ON_SHARED), self._split)
        self._database.executemany(
            "INSERT INTO tied VALUES (?, ?)", [(who, split.value) for who, split in tied.items()]
        )
        self._database.execute(_MOVE)

    def _file(self, name: str, *, staged: bool) -> Location:
        return self._staging / FACES / name if staged else self._out / SHARDS / name

    def _number_of(self, sample_id: str) -> int:
        return int(shard_numbers(row_keys([sample_id]), self.hash_shards)[0])

    def _keep(self, shard: Location, rows: int) -> None:
        self._check(table := shard.read_table(COUNTED_COLUMNS), shard, rows)
        self.counts.add_table(table)

    def _copy(self, container: int, file: Location, rows: int, taken: Partition) -> None:
        """Take the rows that stay."""
        facts = {row[0]: row[1:] for row in self._database.execute(_ROWS, (container,))}
        if not any(mine for mine, *_ in facts.values()):
            return
        self._check(table := file.read_table(), file, rows)
        table = table.select(SCHEMA.names).cast(SCHEMA)
        ids = table["sample_id"].to_pylist()
        as_is = [facts[sample_id][:2] == (1, 1) for sample_id in ids]
        other = [facts[sample_id][:2] == (1, 0) for sample_id in ids]
        parts = [table.filter(pa.array(as_is, pa.bool_()))]
        if any(other):
            rows_ = table.filter(pa.array(other, pa.bool_())).to_pylist()
            labelled = [_labelled(row, *facts[row["sample_id"]][2:]) for row in rows_]
            parts.append(pa.Table.from_pylist(labelled, schema=SCHEMA))
        for part in parts:
            self.counts.add_table(part)
            taken.add(part)

    def _stage(self, rows: Partition, total: int, on_progress: Listener) -> Moves:
        def told() -> Iterator[tuple[int, pa.Table]]:
            for done, shard in enumerate(rows.shards(self.hash_shards)):
                on_progress(Progress(_STAGE, done, total, note="shards"))
                yield shard
            on_progress(Progress(_STAGE, total, total, note="shards"))

        return stage_shards(self._out, told())

    def _check(self, table: pa.Table, file: Location, rows: int) -> None:
        if len(table) != rows:
            raise _damaged(self._out, f"'{file}' holds {len(table)} faces, its ledger says {rows}")


def _labelled(row: dict[str, Any], record: str, split: str) -> dict[str, Any]:
    """A row with the labels of another record that shows the same face."""
    labels = asdict(record_of(record))
    labels.pop("box")  # the row's own is where the face was found
    return row | {name: value for name, value in labels.items() if name in row} | {"split": split}


def _two_ages(record: str, first: str) -> tuple[str, str] | None:
    """The ages of a record and of the one taken in its place, where both have one and they differ."""
    here, taken = _age_text(record_of(record)), _age_text(record_of(first))
    return (here, taken) if here and taken and here != taken else None


def _age_text(record: SourceRecord) -> str:
    if record.age is not None:
        return f"{record.age:g}"
    return "" if record.age_low is None else f"{record.age_low:g}-{record.age_high:g}"


def _damaged(out: Location, what: str) -> InputError:
    return InputError(f"'{out}' is damaged: {what}. Ingest it again with --replace.")
