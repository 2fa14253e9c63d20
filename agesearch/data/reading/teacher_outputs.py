"""What a frozen teacher answered for the faces of a dataset, as files: one Parquet a view.

A row is a ``sample_id`` and the answer, float16 ``[W]``. The rows of a shard of the dataset are a row group
of their own, named in the file's metadata, so that who reads shard by shard needs no more than one shard's
answers in memory. The metadata also names the very dataset (content, crops, layout) that was answered for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from agesearch.data.dataset.layout import Partition, shard_name
from agesearch.data.dataset.records import Manifest
from agesearch.errors import InputError, first_line
from agesearch.specs import digest_of
from agesearch.storage import Location

Strings = npt.NDArray[np.str_]
Halves = npt.NDArray[np.float16]

#: The folder of answers beside a dataset's shards.
TARGETS = "targets"

_DIGEST = re.compile(r"[0-9a-f]{16}")
_ROWS_AT_ONCE = 4096

_DATASET = b"agesearch.dataset"
_SHARDS = b"agesearch.shards"
_ABOUT = b"agesearch.about"


def data_key(manifest: Manifest) -> str:
    """16 hex digits that name a dataset's faces as a teacher sees them: its content and its crops."""
    return digest_of([manifest.content_digest, manifest.crop.model_dump(mode="json")])


def stored_key(manifest: Manifest) -> str:
    """What a file of answers names as its dataset: its faces, and how many shards by hash hold them, since
    answers lie shard by shard. Of a dataset that is not mixed it is ``data_key`` alone.
    """
    shards = manifest.hash_shards
    return data_key(manifest) if shards is None else f"{data_key(manifest)}-{shards}"


def answers_table(ids: Sequence[str], column: str, values: npt.NDArray[Any]) -> pa.Table:
    """Rows of a file of answers: ``values`` is ``[n, W]``, and is kept as float16."""
    limit = np.finfo(np.float16).max  # a feature beyond it would become infinite
    halves = np.clip(values, -limit, limit).astype(np.float16)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(halves.reshape(-1)), values.shape[1])
    return pa.table({"sample_id": pa.array(ids, pa.string()), column: lists})


class AnswersWriter:
    """Writes a file of answers row group by row group; it appears, whole, when the block ends without error.

    ``finish`` must be called last: it says which dataset the answers are for.
    """

    def __init__(self, out: Location) -> None:
        self._out = out
        self._stack = ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self._shards: list[str] = []

    def __enter__(self) -> Self:
        self._place = self._stack.enter_context(self._out.staged())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        self._stack.__exit__(kind, error, trace)

    def write(self, shard: str, table: pa.Table) -> None:
        """Add the answers for a shard's faces."""
        if not len(table):
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._place.path, table.schema, filesystem=self._place.filesystem, compression="zstd"
            )
        self._writer.write_table(table.combine_chunks(), row_group_size=len(table))
        self._shards.append(shard)

    def finish(self, data: str, about: Mapping[str, Any]) -> None:
        """Name the dataset (``stored_key``), and say for people what this is."""
        if self._writer is None:
            raise InputError(f"There are no faces to answer for, so '{self._out}' was not written.")
        self._writer.add_key_value_metadata(
            {
                _DATASET: data.encode(),
                _SHARDS: json.dumps(self._shards).encode(),
                _ABOUT: json.dumps(dict(about), sort_keys=True).encode(),
            }
        )


def is_digest(name: str) -> bool:
    """Whether a folder's name may be the digest of a teacher, or of views."""
    return _DIGEST.fullmatch(name) is not None


def answer_files(dataset: Location) -> list[tuple[str, list[Location]]]:
    """The files of answers beside a dataset, folder by folder: those of one teacher (its digest) and one kind
    of view.
    """
    found = []
    for teacher in (dataset / TARGETS).children():
        for place in (teacher, *(child for child in teacher.children() if is_digest(child.name))):
            files = [file for file in place.children() if file.name.endswith(".parquet")]
            found += [(teacher.name, files)] if files else []
    return found


def answered(file: Location, data: str, faces: int) -> bool:
    """Whether the file is there, whole, and for all faces of this very dataset."""
    return _answers_for(file, faces) == data


def grouped_otherwise(file: Location, manifest: Manifest) -> bool:
    """Whether the file has the answers for this very dataset, from before its rows were mixed anew."""
    found = _answers_for(file, manifest.faces)
    same_faces = found is not None and found.partition("-")[0] == data_key(manifest)
    return same_faces and manifest.is_mixed and found != stored_key(manifest)


def regroup(file: Location, manifest: Manifest, out: Location, scratch: Location) -> None:
    """Write the answers in ``file`` to ``out`` (which may be the same) by the shards that hold the faces now.

    The dataset must be mixed. Memory does not grow with the file; what does not fit goes to ``scratch``.
    """
    with closing(Partition(scratch)) as rows:
        try:
            about = about_answers(file)
            answers = pq.ParquetFile(file.path, filesystem=file.filesystem)
            for batch in answers.iter_batches(_ROWS_AT_ONCE):
                rows.add(pa.Table.from_batches([batch]).replace_schema_metadata(None))
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(file, error) from error
        about.pop("rows")
        write_answers(out, rows, manifest, about)


def write_answers(out: Location, rows: Partition, manifest: Manifest, about: Mapping[str, Any]) -> None:
    """Write a file of answers for a mixed dataset from rows in any order."""
    with AnswersWriter(out) as writer:
        for number, table in rows.shards(manifest.hash_shards or 1):
            writer.write(shard_name(number), table)
        writer.finish(stored_key(manifest), about)


def _answers_for(file: Location, faces: int) -> str | None:
    """The key of the dataset that a file has so many answers for; None where it is not there or damaged."""
    if not file.exists():
        return None
    try:
        known = pq.ParquetFile(file.path, filesystem=file.filesystem).metadata
    except (pa.ArrowInvalid, OSError):  # damaged: it is computed again
        return None
    if known.num_rows != faces:
        return None
    return str((known.metadata or {}).get(_DATASET, b"").decode())


def about_answers(file: Location) -> dict[str, Any]:
    """What a file of answers says of itself: ``rows``, and what its writer told of teacher and view."""
    known = pq.ParquetFile(file.path, filesystem=file.filesystem).metadata
    about: dict[str, Any] = json.loads((known.metadata or {}).get(_ABOUT, b"{}"))
    return about | {"rows": known.num_rows}


class StoredAnswers:
    """A file of answers, read shard by shard; ``column`` holds the answers."""

    def __init__(self, file: Location, column: str) -> None:
        if not file.exists():
            raise InputError(f"There are no teacher targets at '{file}'.")
        self._place, self._column = file, column
        try:
            self._file = pq.ParquetFile(file.path, filesystem=file.filesystem)
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(self._place, error) from error
        if column not in self._file.schema_arrow.names:
            raise InputError(
                f"'{file}' has no column '{column}': it holds other answers than were asked for."
            )
        named = (self._file.metadata.metadata or {}).get(_SHARDS)
        self._last: tuple[str, tuple[Strings, Halves]] | None = None
        self._groups = None if named is None else {name: i for i, name in enumerate(json.loads(named))}

    @property
    def rows(self) -> int:
        """How many faces were answered for."""
        return int(self._file.metadata.num_rows)

    @property
    def width(self) -> int:
        """How many values an answer has."""
        return int(self._file.schema_arrow.field(self._column).type.list_size)

    def has(self, shard: str, ids: Strings) -> bool:
        """Whether there are answers for these faces of a shard."""
        if self._groups is None:
            return self._places(self._whole[0], ids) is not None
        group = self._groups.get(shard)
        return group is not None and self._places(self._ids(group), ids) is not None

    def of(self, shard: str, ids: Strings) -> Halves:
        """The answers ``float16 [n, W]`` for these faces of a shard; one that is missing is an
        ``InputError``.
        """
        known, values = self._known(shard)
        places = self._places(known, ids)
        if places is None:
            raise InputError(f"The teacher targets '{self._place}' lack faces: remove them, and retry.")
        found: Halves = values[places]
        return found

    def _ids(self, group: int) -> Strings:
        return np.sort(_strings(self._read(group, ["sample_id"])))

    def _known(self, shard: str) -> tuple[Strings, Halves]:
        return self._whole if self._groups is None else self._of_shard(shard)

    @staticmethod
    def _places(known: Strings, ids: Strings) -> npt.NDArray[np.intp] | None:
        """Where these faces lie among the known ones; None where one does not."""
        places = np.minimum(np.searchsorted(known, ids), max(0, len(known) - 1))
        return None if len(known) == 0 or not np.array_equal(known[places], ids) else places

    def _of_shard(self, shard: str) -> tuple[Strings, Halves]:
        if self._last is None or self._last[0] != shard:
            group = (self._groups or {}).get(shard)
            none = np.empty(0, dtype=str), np.empty((0, 0), dtype=np.float16)
            self._last = (shard, none if group is None else self._sorted(group))
        return self._last[1]

    @cached_property
    def _whole(self) -> tuple[Strings, Halves]:
        return self._sorted(None)

    def _sorted(self, group: int | None) -> tuple[Strings, Halves]:
        """Sample ids in ascending order, and their answers."""
        table = self._read(group, ["sample_id", self._column])
        column = table.column(self._column).combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        ids = _strings(table)
        order = np.argsort(ids)
        return ids[order], flat.reshape(len(ids), -1).astype(np.float16, copy=False)[order]

    def _read(self, group: int | None, columns: list[str]) -> pa.Table:
        try:
            if group is None:
                return self._file.read(columns=columns)
            return self._file.read_row_group(group, columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(self._place, error) from error


def _strings(table: pa.Table) -> Strings:
    return np.array(table.column("sample_id").to_pylist(), dtype=str)


def _damaged(file: Location, error: Exception) -> InputError:
    return InputError(f"'{file}' is damaged: {first_line(error)} Remove it, and retry.")
