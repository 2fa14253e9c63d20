"""A split for training: a small one decoded once in Ray's object store, which every trial shares; a large
one as it is stored, which each training reads shard by shard.

Decoded rows: ``sample_id``, ``image`` uint8 [S, S, 3] RGB, ``age``, ``age_std``, ``age_low``, ``age_high``,
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

from agesearch.data.dataset.arrays import decode_column
from agesearch.data.dataset.records import Part, Split
from agesearch.data.reading.stored_faces import StoredFaces
from agesearch.storage import Location

RawBatch = dict[str, npt.NDArray[Any]]

#: Faces whose pixels take more are not decoded into the object store (20,000 faces of 112 px fit).
RESIDENT_BYTES = 768 * 1024**2
#: The same for a validation split, whose faces are asked for once an epoch: decoding them anew costs little.
RESIDENT_VAL_BYTES = 256 * 1024**2

#: Up to so many faces the driver decodes them itself: 2,048 take 1 s, starting Ray Data's workers 3 to 9 s.
FACES_DECODED_HERE = 8192

#: Blocks of a dataset are about so large.
BLOCK_BYTES = 16 * 1024**2

_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class SplitFaces:
    """The faces of a split: where they are stored and, in the same order and decoded, a
    ``ray.data.MaterializedDataset`` of them; None where they would take too much memory.
    """

    stored: StoredFaces
    held: Any = None

    def count(self) -> int:
        """How many faces there are."""
        return len(self.stored)


def load_split(
    dataset: str | Location,
    part: Split | Part | None,
    *,
    targets: Location | Sequence[Location] | None = None,
    features: Location | Sequence[Location] | None = None,
) -> SplitFaces:
    """The faces of a split or another part (None: of every split), decoded where ``RESIDENT_BYTES`` (of
    those for validation, ``RESIDENT_VAL_BYTES``) hold them.

    ``targets`` and ``features`` are files of ``agesearch.distill.targets``, one a view; a face that one does
    not hold is an ``InputError``, as is a part without faces. Answers are read shard by shard.
    """
    stored = StoredFaces.of(dataset, part, targets=targets, features=features)
    limit = min(RESIDENT_BYTES, RESIDENT_VAL_BYTES) if stored.part.split == Split.VAL else RESIDENT_BYTES
    if len(stored) * stored.size**2 * 3 > limit:
        return SplitFaces(stored)
    decoded = _decoded_here if len(stored) <= FACES_DECODED_HERE else _decoded_by_workers
    return SplitFaces(stored, decoded(stored))


def resident(faces: SplitFaces) -> list[RawBatch]:
    """All faces of a split in blocks of arrays; pixels lie in the object store, not copied, where they are
    held there.
    """
    if faces.held is None:
        return [block for shard in range(len(faces.stored.shards)) for block in _blocks(faces.stored, shard)]
    tables = faces.held.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return [block for table in tables for block in _arrays(table)]


def known_ages(faces: SplitFaces) -> npt.NDArray[np.float32]:
    """The exact ages in years of a split's faces that have one; no image is copied or decoded."""
    if faces.held is None:
        return faces.stored.ages()
    ages = np.concatenate([block["age"] for block in resident(faces)])
    known: npt.NDArray[np.float32] = ages[np.isfinite(ages)]
    return known


def _decoded_here(stored: StoredFaces) -> Any:
    import ray.data
    from ray.data.extensions import ArrowTensorArray

    def table(block: RawBatch) -> pa.Table:
        return pa.table(
            {k: ArrowTensorArray.from_numpy(v) if v.ndim > 1 else pa.array(v) for k, v in block.items()}
        )

    shards = range(len(stored.shards))
    tables = [table(block) for shard in shards for block in _blocks(stored, shard)]
    return ray.data.from_arrow(pa.concat_tables(tables))


def _decoded_by_workers(stored: StoredFaces) -> Any:
    import ray.data

    count = len(stored.shards)
    shards = ray.data.from_items([{"shard": shard} for shard in range(count)], override_num_blocks=count)
    shards.context.execution_options.preserve_order = True  # the same data give the same order of faces
    shards.context.target_max_block_size = BLOCK_BYTES

    def decode(named: Any) -> Iterator[RawBatch]:
        for shard in named["shard"].to_pylist():
            yield from _blocks(stored, shard)

    return shards.map_batches(decode, batch_format="pyarrow", batch_size=None).materialize()


def _blocks(stored: StoredFaces, shard: int) -> Iterator[RawBatch]:
    """The faces of one shard, decoded, a few at a time, with a teacher's answers for all views."""
    faces = stored.read(shard, np.arange(stored.sizes[shard]))
    for start in range(0, len(faces), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        numbers = {name: column[some] for name, column in faces.columns.items()}
        yield {"image": decode_column(faces.image[some], stored.size), **numbers}


def _arrays(table: pa.Table) -> list[RawBatch]:
    return [
        {name: _array(part.column(name)) for name in part.schema.names}
        for part in table.to_batches()
        if part.num_rows
    ]


def _array(column: Any) -> npt.NDArray[Any]:
    try:
        values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=True)
    except pa.ArrowInvalid:  # texts have no array form of their own
        values = column.to_numpy(zero_copy_only=False)
    return values
