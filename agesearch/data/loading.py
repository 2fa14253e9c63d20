"""A split as a Ray Dataset that every trial shares: decoded once and held in the object store.

Rows: ``sample_id``, ``image`` uint8 [S, S, 3] RGB, ``age``, ``age_std``, ``age_low``, ``age_high``,
``weight`` (NaN where unknown), and with targets ``teacher_pmf`` float16 [101].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.ages import BINS
from agesearch.data.arrays import NUMBERS, decode_column, numbers
from agesearch.data.parts import Part
from agesearch.data.records import Split, read_manifest
from agesearch.data.shards import read_rows, row_batches, shard_names
from agesearch.errors import InputError
from agesearch.storage import Location

RawBatch = dict[str, npt.NDArray[Any]]

#: Up to so many faces the driver decodes them itself: 2,048 take 1 s, starting Ray Data's workers 3 to 9 s.
FACES_DECODED_HERE = 8192

_COLUMNS = ["sample_id", "image", *NUMBERS]


def load_split(dataset: str | Location, part: Split | Part | None, *, targets: Location | None = None) -> Any:
    """A ``ray.data.MaterializedDataset`` of the faces of a split or another part (None: of every split).

    ``targets`` is a Parquet file of ``agesearch.distill.targets``; a face that it does not hold is an
    ``InputError``, as is a part without faces.
    """
    folder = Location.of(dataset)
    size = read_manifest(folder).crop.size
    rows = Part.of(part)
    ids = _strings(read_rows(folder, rows, ["sample_id"]))
    if len(ids) == 0:
        raise InputError(f"'{folder}' has no faces in {rows}.")
    known = None if targets is None else _sorted_targets(targets)
    if known is not None and not np.isin(ids, known[0]).all():
        raise InputError(f"The teacher targets '{targets}' lack faces of '{folder}': remove them, and retry.")
    if len(ids) <= FACES_DECODED_HERE:
        return _decoded_here(folder, rows, size, known)
    return _decoded_by_workers(folder, rows, size, known)


def resident(dataset: Any) -> list[RawBatch]:
    """The faces of a materialised dataset in blocks of arrays; pixels lie in the object store, not copied."""
    tables = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return [
        {name: _array(part.column(name)) for name in part.schema.names}
        for table in tables
        for part in table.to_batches()
        if part.num_rows
    ]


def streamed(dataset: Any, batch_size: int, seed: int, *, buffer: int = 4096) -> Iterator[RawBatch]:
    """Batches of a dataset too large to hold, shuffled within a seeded buffer of faces."""
    yield from dataset.iter_batches(
        batch_size=batch_size,
        batch_format="numpy",
        local_shuffle_buffer_size=buffer,
        local_shuffle_seed=seed,
    )


def _decoded_here(folder: Location, part: Part, size: int, known: Any) -> Any:
    import ray.data
    from ray.data.extensions import ArrowTensorArray

    batch = _decode(read_rows(folder, part, _COLUMNS), size, known)
    tensors = ("image", "teacher_pmf")
    columns = {k: ArrowTensorArray.from_numpy(v) if k in tensors else pa.array(v) for k, v in batch.items()}
    return ray.data.from_arrow(pa.table(columns))


def _decoded_by_workers(folder: Location, part: Part, size: int, known: Any) -> Any:
    import ray
    import ray.data

    names = shard_names(folder)
    shards = ray.data.from_items([{"shard": name} for name in names], override_num_blocks=len(names))
    shared = None if known is None else ray.put(known)

    def decode(named: Any) -> Iterator[RawBatch]:
        targets = None if shared is None else ray.get(shared)
        for batch in row_batches(folder, part, _COLUMNS, rows=256, shards=named["shard"].to_pylist()):
            yield _decode(pa.Table.from_batches([batch]), size, targets)

    return shards.map_batches(decode, batch_format="pyarrow", batch_size=None).materialize()


def _decode(table: pa.Table, size: int, known: Any) -> RawBatch:
    ids = _strings(table)
    batch: RawBatch = {"sample_id": ids, "image": decode_column(table.column("image"), size)}
    batch |= {name: numbers(table.column(name)) for name in NUMBERS}
    if known is not None:
        batch["teacher_pmf"] = known[1][np.searchsorted(known[0], ids)]
    return batch


def _sorted_targets(targets: Location) -> tuple[npt.NDArray[Any], npt.NDArray[np.float16]]:
    """Sample ids in ascending order, and their PMFs [N, 101]."""
    table = targets.read_table(["sample_id", "pmf"])
    ids = _strings(table)
    pmf = table.column("pmf").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    order = np.argsort(ids)
    return ids[order], pmf.reshape(-1, BINS).astype(np.float16)[order]


def _strings(table: pa.Table) -> npt.NDArray[Any]:
    return np.array(table.column("sample_id").to_pylist(), dtype=str)


def _array(column: Any) -> npt.NDArray[Any]:
    try:
        values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=True)
    except pa.ArrowInvalid:  # texts have no array form of their own
        values = column.to_numpy(zero_copy_only=False)
    return values
