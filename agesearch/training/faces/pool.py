"""Faces in memory, and epochs over them. Needs neither Ray nor torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.ages import FloatArray
from agesearch.data.images.augment import Augmenter, augmenter_of
from agesearch.errors import InputError
from agesearch.models.prepare import Images, resized
from agesearch.specs import TrainSpec
from agesearch.training.faces.batches import (
    ANSWERS,
    Batch,
    Columns,
    changed,
    make_batch,
    of_view,
    refuse_other_views,
)
from agesearch.training.faces.plan import EpochPlan, Rows

#: Faces resized once, or their fixed views, are kept up to this many bytes; beyond, they are made anew.
KEPT_BYTES = 512 * 1024**2


class FacePool:
    """Faces in memory, as blocks of columns (``image`` uint8 [n, S, S, 3], ``sample_id``, ages, PMFs).

    The blocks' pixels are used where they lie; only their resized form is made, once.
    """

    def __init__(self, blocks: Sequence[Columns], input_size: int) -> None:
        if not blocks:
            raise InputError("There are no faces to train or validate on.")
        self._blocks = blocks
        self._size = input_size
        self._starts = np.cumsum([0, *(len(block["sample_id"]) for block in blocks)])
        names = [name for name in blocks[0] if name not in ("image", *ANSWERS)]
        self.columns = {name: np.concatenate([block[name] for block in blocks]) for name in names}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def ids(self) -> npt.NDArray[Any]:
        """The ``sample_id`` of each face [N]."""
        return self.columns["sample_id"]

    @property
    def age(self) -> FloatArray:
        """Years [N], NaN where no exact age is known."""
        return self.columns["age"].astype(np.float32)

    @property
    def views(self) -> int:
        """For how many views of each face a teacher's answers are here; 0 without a teacher."""
        shapes = [self._blocks[0][name].shape for name in ANSWERS if name in self._blocks[0]]
        return max((shape[1] if len(shape) == 3 else 1 for shape in shapes), default=0)

    @cached_property
    def _kept(self) -> Images | None:
        """All faces resized, where there is room for them."""
        if len(self) * self._size**2 * 3 > KEPT_BYTES:
            return None
        return np.concatenate([resized(block["image"], self._size) for block in self._blocks])

    def images(self, rows: Rows) -> Images:
        """Resized faces ``uint8 [B, S, S, 3]`` of these rows."""
        return resized(self.crops(rows), self._size) if self._kept is None else self._kept[rows]

    def crops(self, rows: Rows) -> list[Images]:
        """The stored crops of these rows, of the size they have."""
        return [self._blocks[block]["image"][row] for block, row in self._places(rows)]

    def picked(self, rows: Rows, epoch: int) -> dict[str, npt.NDArray[Any]]:
        """All columns of these rows but the pixels ``[B, ...]``, a teacher's answers for an epoch's view."""
        own = {name: column[rows] for name, column in self.columns.items()}
        return own | self.answers(rows, epoch)

    def answers(self, rows: Rows, epoch: int) -> dict[str, npt.NDArray[Any]]:
        """A teacher's answers for the view of an epoch: columns ``[B, ...]``, none without a teacher."""
        places = self._places(rows)
        return {
            name: np.stack([of_view(self._blocks[block][name][row], epoch, 1) for block, row in places])
            for name in ANSWERS
            if name in self._blocks[0]
        }

    def _places(self, rows: Rows) -> list[tuple[int, int]]:
        """The block of each row, and its place in it."""
        blocks = np.searchsorted(self._starts, rows, side="right") - 1
        return list(zip(blocks.tolist(), (rows - self._starts[blocks]).tolist(), strict=True))


class PoolSource:
    """Epochs over a ``FacePool``, as ``EpochPlan`` plans them.

    ``sizes`` are the numbers of faces of the shards they came from (default: all of one). Drawing 2,048 faces
    so takes 2 ms an epoch; Ray Data's shuffled iteration of the same takes 100 ms.
    """

    def __init__(
        self,
        pool: FacePool,
        spec: TrainSpec,
        *,
        sizes: Sequence[int] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._plan = EpochPlan([len(pool)] if sizes is None else sizes, spec, world)
        self.faces, self.steps = self._plan.faces, self._plan.steps
        self.rank, self.world = rank, world
        self._pool = pool
        self._spec = spec
        if pool.views:
            refuse_other_views(spec.augment, pool.views)
        self._augment = augmenter_of(spec.augment, spec.seed)
        self._views = _KeptViews(pool, spec, self._augment)

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``index`` from step ``start`` on."""
        for step in self._plan.batches(index, start, self.rank):
            columns = self._pool.picked(step.rows, index)
            yield make_batch(self._images(step.rows, index), columns, self._spec, index, step.faces)

    def labels(self) -> Iterator[Columns]:
        """The label columns of all faces that are trained on, by whichever worker, shard by shard."""
        for shard in self._plan.shards:
            rows = self._plan.kept(shard)
            yield {name: column[rows] for name, column in self._pool.columns.items()}

    def _images(self, rows: Rows, epoch: int) -> Images:
        if self._spec.augment.fixed_views:
            return self._views.images(rows, epoch)
        ids = self._pool.columns["sample_id"][rows]
        return changed(self._pool.images(rows), ids, self._spec, self._augment, epoch)


class _KeptViews:
    """The fixed views of a pool's faces, resized; each is drawn once where there is room for all of them."""

    def __init__(self, pool: FacePool, spec: TrainSpec, augment: Augmenter) -> None:
        self._pool, self._spec, self._augment = pool, spec, augment
        self._shape = (len(pool), spec.model.input_size, spec.model.input_size, 3)
        self._fits = spec.augment.fixed_views * math.prod(self._shape) <= KEPT_BYTES
        self._kept: dict[int, tuple[Images, npt.NDArray[np.bool_]]] = {}

    def images(self, rows: Rows, epoch: int) -> Images:
        """The faces of these rows in the view of an epoch."""
        if not self._fits:
            return self._drawn(rows, epoch)
        view = epoch % self._spec.augment.fixed_views
        if view not in self._kept:
            self._kept[view] = np.empty(self._shape, np.uint8), np.zeros(len(self._pool), dtype=bool)
        images, known = self._kept[view]
        missing = rows[~known[rows]]
        if len(missing):
            images[missing] = self._drawn(missing, epoch)
            known[missing] = True
        return images[rows]

    def _drawn(self, rows: Rows, epoch: int) -> Images:
        ids = self._pool.columns["sample_id"][rows]
        return changed(self._pool.crops(rows), ids, self._spec, self._augment, epoch)
