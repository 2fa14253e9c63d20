"""Which shard holds a face, and at which place in it: a pure function of the set of faces.

The key of a face is a hash of its ``sample_id``. Of B shards (a power of two), number i holds the faces whose
keys lie in the i-th of B equal ranges, sorted by key. So any run of shards is a fair sample of the dataset
whatever order its source had, a dataset that grew has the files that one made at once would have, and a few
new faces change only the shards that they fall into.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.storage import Location, unwritten

#: The most rows of a shard, on average: about 10 MB of 112-pixel crops, small enough to hold some in memory.
ROWS_PER_SHARD = 2048

_HASH = b"agesearch.rows"
_KEY_BITS = 64
#: A partition that outgrows memory is spread over so many files, and each of these, where it is more than a
#: shard, over as many again.
_FILE_BITS = 6
_WAITING_BYTES = 32 * 1024**2

Keys = npt.NDArray[np.uint64]


def shard_count(faces: int, rows_per_shard: int | None = None) -> int:
    """The smallest power of two of shards that hold at most ``rows_per_shard`` (None: ``ROWS_PER_SHARD``)
    faces each, on average.
    """
    return 1 << max(0, -(-faces // (rows_per_shard or ROWS_PER_SHARD)) - 1).bit_length()


def row_keys(ids: Sequence[str]) -> Keys:
    """The keys of faces by their ``sample_id``, uint64 [N]."""
    digests = (
        hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, person=_HASH) for name in ids
    )
    return np.frombuffer(b"".join(digest.digest() for digest in digests), dtype=">u8").astype(np.uint64)


def shard_numbers(keys: Keys, count: int) -> npt.NDArray[np.intp]:
    """Which of ``count`` shards (a power of two) has each key."""
    return _top_bits(keys, 0, count.bit_length() - 1)


def shard_name(number: int) -> str:
    """``00012.parquet``."""
    return f"{number:05d}.parquet"


class Partition:
    """Rows of any columns with a ``sample_id``, added in any order and taken shard by shard.

    Some tens of MB are held in memory, the rest in nameless files that go with the process, however that
    ends: in the folder ``scratch`` where it is local, else in the temporary folder. ``close`` it.
    """

    def __init__(self, scratch: Location | None = None, *, skipped_bits: int = 0) -> None:
        self.rows = 0
        self._scratch = scratch.make_dir().path if scratch is not None and scratch.is_local else None
        self._skipped = skipped_bits  # the keys of a part of a larger partition are equal so far
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._files: list[_Spilled] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows; all must have the same columns."""
        if not len(rows):
            return
        self.rows += len(rows)
        self._waiting.append(rows)
        self._waiting_bytes += rows.nbytes
        if self._waiting_bytes >= _WAITING_BYTES:
            self._spill()

    def shards(self, count: int) -> Iterator[tuple[int, pa.Table]]:
        """The number and the sorted rows of each of ``count`` shards (a power of two) that has any, in order;
        the partition is empty then.
        """
        if not self._files:
            waiting, self._waiting = self._waiting, []
            if waiting:
                yield from _cut(pa.concat_tables(waiting), count)
            return
        self._spill()
        bits = count.bit_length() - 1 - self._skipped
        files, self._files = self._files, []
        together = 1 << max(0, _FILE_BITS - bits)  # files of one shard
        for first in range(0, len(files), together):
            some = files[first : first + together]
            if bits <= _FILE_BITS:
                tables = [table for file in some for table in file.take()]
                if tables:
                    yield from _cut(pa.concat_tables(tables), count)
                continue
            with closing(self._part()) as part:
                for table in some[0].take():
                    part.add(table)
                yield from part.shards(count)

    def close(self) -> None:
        """Forget everything."""
        for file in self._files:
            file.close()
        self._waiting, self._files = [], []

    def _part(self) -> Partition:
        part = Partition(skipped_bits=self._skipped + _FILE_BITS)
        part._scratch = self._scratch
        return part

    def _spill(self) -> None:
        """Move what waits in memory to the files."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        numbers = _top_bits(row_keys(table["sample_id"].to_pylist()), self._skipped, _FILE_BITS)
        order = np.argsort(numbers, kind="stable")
        ends = np.searchsorted(numbers[order], np.arange(1 << _FILE_BITS), side="right")
        table = table.combine_chunks().take(pa.array(order))
        try:
            self._files = self._files or [_Spilled(self._scratch) for _ in ends]
            for file, start, end in zip(self._files, [0, *ends[:-1]], ends, strict=True):
                file.write(table.slice(start, end - start))
        except OSError as error:
            raise unwritten(Location.of(self._scratch or tempfile.gettempdir()), error) from error


class _Spilled:
    """Tables in a nameless file, written and then read once."""

    def __init__(self, folder: str | None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open until it was read
        self._writer: pa.RecordBatchStreamWriter | None = None

    def write(self, table: pa.Table) -> None:
        if not len(table):
            return
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._file, table.schema)
        self._writer.write_table(table)

    def take(self) -> Iterator[pa.Table]:
        if self._writer is not None:
            self._writer.close()
            self._file.seek(0)
            with pa.ipc.open_stream(self._file) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch])
        self.close()

    def close(self) -> None:
        self._file.close()


def _top_bits(keys: Keys, skipped: int, bits: int) -> npt.NDArray[np.intp]:
    """The number that ``bits`` bits of each key make, after its first ``skipped``."""
    if bits == 0:
        return np.zeros(len(keys), np.intp)
    return ((keys << np.uint64(skipped)) >> np.uint64(_KEY_BITS - bits)).astype(np.intp)


def _cut(table: pa.Table, count: int) -> Iterator[tuple[int, pa.Table]]:
    """Rows in the order of their keys, shard by shard."""
    ids = table["sample_id"].to_pylist()
    keys = row_keys(ids)
    order = np.argsort(keys, kind="stable")
    if (np.diff(keys[order]) == 0).any():  # two faces of one key: by their names
        order = np.lexsort((np.array(ids, dtype=str), keys))
    numbers = shard_numbers(keys[order], count)
    table = table.combine_chunks().take(pa.array(order))
    starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for start, end in zip(starts, starts[1:], strict=False):
        if end > start:
            yield int(numbers[start]), table.slice(start, end - start).combine_chunks()
