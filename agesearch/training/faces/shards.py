"""Faces as they are stored, for trainings: what is asked of them, and a few of them decoded at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agesearch.data.dataset.arrays import stored_crop
from agesearch.models.prepare import Images, resized
from agesearch.training.faces.batches import Columns
from agesearch.training.faces.plan import Rows


class Encoded(Protocol):
    """Some faces: their encoded crops, and their columns."""

    @property
    def image(self) -> Sequence[Any]: ...

    @property
    def columns(self) -> Columns: ...


class Shards(Protocol):
    """Faces as they are stored: ``sizes[i]`` of them in shard i, as crops of ``size`` pixels.

    ``widths`` are the views, and the values of each, of a teacher's answers by their column.
    """

    @property
    def size(self) -> int: ...

    @property
    def sizes(self) -> Sequence[int]: ...

    @property
    def widths(self) -> Mapping[str, tuple[int, int]]: ...

    def read(self, shard: int, rows: Rows, view: int | None = None) -> Encoded:
        """The given faces of a shard, with a teacher's answers for a view."""
        ...

    def numbers(self, shard: int) -> Columns:
        """The label columns of all faces of a shard."""
        ...

    def ids(self, shard: int) -> npt.NDArray[Any]:
        """The ``sample_id`` of all faces of a shard."""
        ...


class ShardPool:
    """Faces that are decoded each time they are asked for, in place of a ``pool.FacePool``: validation faces
    that do not fit in memory.

    Rows should be asked for in ascending order: one shard at a time is in memory.
    """

    def __init__(self, shards: Shards, input_size: int) -> None:
        self._shards, self._size = shards, input_size
        self._starts = np.cumsum([0, *shards.sizes])
        self._last: tuple[int, Encoded] | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The label columns of all faces ``[N]``; no image is read."""
        parts = [self._shards.numbers(shard) for shard in range(len(self._shards.sizes))]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @cached_property
    def ids(self) -> npt.NDArray[Any]:
        """The ``sample_id`` of each face ``[N]``, read where it is asked for."""
        return np.concatenate([self._shards.ids(shard) for shard in range(len(self._shards.sizes))])

    def images(self, rows: Rows) -> Images:
        """Resized faces ``uint8 [B, S, S, 3]`` of these rows."""
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        places = zip(shards.tolist(), (rows - self._starts[shards]).tolist(), strict=True)
        crops = [stored_crop(self._of(shard).image[row].as_py(), self._shards.size) for shard, row in places]
        return resized(crops, self._size)

    def _of(self, shard: int) -> Encoded:
        if self._last is None or self._last[0] != shard:
            self._last = shard, self._shards.read(shard, np.arange(self._shards.sizes[shard]), 0)
        return self._last[1]
