"""A split as a Ray Dataset that every trial shares: decoded once and held in the object store.

Rows: ``sample_id``, ``image`` uint8 [S, S, 3] RGB, ``age``, ``age_std``, ``age_low``, ``age_high``,
``weight`` (NaN where unknown), with targets ``teacher_pmf`` float16 [V, 101] and with an order teacher's
``teacher_features`` float16 [V, F], for V views of each face.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.data.dataset.arrays import NUMBERS, decode_column, numbers
from agesearch.data.dataset.records import Part, Split, read_manifest
from agesearch.data.dataset.shards import read_rows, row_batches, shard_names
from agesearch.data.reading.teacher_outputs import StoredAnswers
from agesearch.errors import InputError
from agesearch.storage import Location

RawBatch = dict[str, npt.NDArray[Any]]

#: Up to so many faces the driver decodes them itself: 2,048 take 1 s, starting Ray Data's workers 3 to 9 s.
FACES_DECODED_HERE = 8192

#: Blocks of a large dataset are about so large: small enough that a stream holds blocks of many places.
BLOCK_BYTES = 16 * 1024**2

_ROWS_AT_ONCE = 256
_COLUMNS = ["sample_id", "image", *NUMBERS]


@dataclass(frozen=True)
class _Join:
    """Answers that become a column: ``files`` has one file a view, ``stored`` is their column."""

    name: str
    stored: str
    files: tuple[Location, ...]

    def check(self, folder: Location, ids: npt.NDArray[Any]) -> None:
        """An ``InputError`` where a face has no answer: the views of one teacher have the same faces."""
        first, *others = (StoredAnswers(file, self.stored) for file in self.files)
        fits = np.isin(ids, first.ids()).all()
        if not fits or any(other.rows != first.rows for other in others):
            raise InputError(
                f"The teacher targets '{self.files[0]}' lack faces of '{folder}': remove them, and retry."
            )


def load_split(
    dataset: str | Location,
    part: Split | Part | None,
    *,
    targets: Location | Sequence[Location] | None = None,
    features: Location | Sequence[Location] | None = None,
) -> Any:
    """A ``ray.data.MaterializedDataset`` of the faces of a split or another part (None: of every split).

    ``targets`` and ``features`` are files of ``agesearch.distill.targets``, one a view; a face that one does
    not hold is an ``InputError``, as is a part without faces. Answers are read shard by shard.
    """
    folder = Location.of(dataset)
    size = read_manifest(folder).crop.size
    rows = Part.of(part)
    ids = _strings(read_rows(folder, rows, ["sample_id"]))
    if len(ids) == 0:
        raise InputError(f"'{folder}' has no faces in {rows}.")
    joins = [
        _Join(name, stored, (where,) if isinstance(where, Location) else tuple(where))
        for name, stored, where in (
            ("teacher_pmf", "pmf", targets),
            ("teacher_features", "features", features),
        )
        if where is not None
    ]
    for join in joins:
        join.check(folder, ids)
    if len(ids) <= FACES_DECODED_HERE:
        return _decoded_here(folder, rows, size, joins)
    return _decoded_by_workers(folder, rows, size, joins)


def resident(dataset: Any) -> list[RawBatch]:
    """The faces of a materialised dataset in blocks of arrays; pixels lie in the object store, not copied."""
    tables = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return [block for table in tables for block in _arrays(table)]


class StoredBlocks:
    """The blocks of a materialised dataset, in the order of its rows, read one by one from the object store.

    ``sizes`` is the number of faces of each, ``bytes`` what all of them take.
    """

    def __init__(self, dataset: Any) -> None:
        known = [entry for bundle in dataset.iter_internal_ref_bundles() for entry in bundle.blocks]
        held = [(entry.ref, entry.metadata) for entry in known if entry.metadata.num_rows]
        self._refs = [ref for ref, _ in held]
        self.sizes = [int(facts.num_rows) for _, facts in held]
        self.bytes = sum(int(facts.size_bytes or 0) for _, facts in held)

    def read(self, index: int) -> list[RawBatch]:
        """The faces of a block in tables of arrays; pixels lie in the object store, not copied."""
        import ray

        return _arrays(ray.get(self._refs[index]))

    def ask(self, indices: Sequence[int]) -> None:
        """Have these blocks brought here, without waiting."""
        import ray

        if indices:
            ray.wait([self._refs[index] for index in indices], timeout=0, fetch_local=True)


def known_ages(dataset: Any) -> npt.NDArray[np.float32]:
    """The exact ages in years of a materialised dataset's faces; its blocks are read one at a time."""
    blocks = StoredBlocks(dataset)
    ages = [table["age"].copy() for index in range(len(blocks.sizes)) for table in blocks.read(index)]
    known: npt.NDArray[np.float32] = np.concatenate([np.empty(0, np.float32), *ages])
    return known[np.isfinite(known)]


def _decoded_here(folder: Location, part: Part, size: int, joins: Sequence[_Join]) -> Any:
    import ray.data
    from ray.data.extensions import ArrowTensorArray

    def table(block: RawBatch) -> pa.Table:
        return pa.table(
            {k: ArrowTensorArray.from_numpy(v) if v.ndim > 1 else pa.array(v) for k, v in block.items()}
        )

    names = shard_names(folder)
    tables = [table(block) for name in names for block in _blocks(folder, part, size, joins, name)]
    return ray.data.from_arrow(pa.concat_tables(tables))


def _decoded_by_workers(folder: Location, part: Part, size: int, joins: Sequence[_Join]) -> Any:
    import ray.data

    names = shard_names(folder)
    shards = ray.data.from_items([{"shard": name} for name in names], override_num_blocks=len(names))
    shards.context.execution_options.preserve_order = True  # the same data give the same order of faces
    shards.context.target_max_block_size = BLOCK_BYTES

    def decode(named: Any) -> Iterator[RawBatch]:
        for name in named["shard"].to_pylist():
            yield from _blocks(folder, part, size, joins, name)

    return shards.map_batches(decode, batch_format="pyarrow", batch_size=None).materialize()


def _blocks(
    folder: Location, part: Part, size: int, joins: Sequence[_Join], shard: str
) -> Iterator[RawBatch]:
    """The faces of one shard, decoded, a few at a time."""
    known: dict[str, list[StoredAnswers]] = {}
    for batch in row_batches(folder, part, _COLUMNS, rows=_ROWS_AT_ONCE, shards=[shard]):
        table = pa.Table.from_batches([batch])
        ids = _strings(table)
        block: RawBatch = {"sample_id": ids, "image": decode_column(table.column("image"), size)}
        block |= {name: numbers(table.column(name)) for name in NUMBERS}
        for join in joins:
            if join.name not in known:
                known[join.name] = [StoredAnswers(file, join.stored) for file in join.files]
            answers = [stored.of(shard, ids) for stored in known[join.name]]
            block[join.name] = np.stack(answers, axis=1)
        yield block


def _arrays(table: pa.Table) -> list[RawBatch]:
    return [
        {name: _array(part.column(name)) for name in part.schema.names}
        for part in table.to_batches()
        if part.num_rows
    ]


def _strings(table: pa.Table) -> npt.NDArray[Any]:
    return np.array(table.column("sample_id").to_pylist(), dtype=str)


def _array(column: Any) -> npt.NDArray[Any]:
    try:
        values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=True)
    except pa.ArrowInvalid:  # texts have no array form of their own
        values = column.to_numpy(zero_copy_only=False)
    return values
