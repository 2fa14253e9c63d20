"""Epochs over faces that do not fit in memory, shard by shard. Needs neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from agesearch.data.images.augment import augmenter_of
from agesearch.models.prepare import resized
from agesearch.specs import TrainSpec
from agesearch.training.faces.batches import Batch, Columns, changed, make_batch, refuse_other_views
from agesearch.training.faces.plan import EpochPlan, Rows
from agesearch.training.faces.pool import FacePool


class Blocks(Protocol):
    """Faces in blocks that are read one by one: ``sizes`` is the number of faces of each."""

    @property
    def sizes(self) -> Sequence[int]: ...

    def read(self, index: int) -> Sequence[Columns]:
        """The faces of a block, in tables of columns that follow one another."""
        ...

    def ask(self, indices: Sequence[int]) -> None:
        """These blocks are read next: have them ready, without waiting."""
        ...


class StreamSource:
    """Epochs over ``blocks``, as ``EpochPlan`` plans them: those of a window are in memory."""

    def __init__(self, blocks: Blocks, spec: TrainSpec, *, rank: int = 0, world: int = 1) -> None:
        self._plan = EpochPlan(blocks.sizes, spec, world)
        self.faces, self.steps = self._plan.faces, self._plan.steps
        self.rank, self.world = rank, world
        self._blocks, self._spec = blocks, spec
        self._augment = augmenter_of(spec.augment, spec.seed)

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``index`` from step ``start`` on."""
        windows, held = self._plan.windows(index), (-1, -1)
        for step in self._plan.batches(index, start, self.rank):
            if held != (step.first, step.last):
                held = step.first, step.last
                self._blocks.ask([block for window in windows[step.last + 1 :][:1] for block in window])
                pool, places = self._pool(
                    [b for window in windows[step.first : step.last + 1] for b in window]
                )
            blocks = np.searchsorted(self._plan.starts, step.rows, side="right") - 1
            yield self._batch(pool, places[blocks] + step.rows - self._plan.starts[blocks], index, step.faces)

    def labels(self) -> Iterator[Columns]:
        """The label columns of all faces that any worker trains on; blocks are read one at a time."""
        for block in self._plan.shards:
            tables = self._blocks.read(block)
            rows = self._plan.kept(block) - self._plan.starts[block]
            numbers = [name for name, column in tables[0].items() if column.ndim == 1]
            yield {name: np.concatenate([table[name] for table in tables])[rows] for name in numbers}

    def _pool(self, blocks: Sequence[int]) -> tuple[FacePool, Rows]:
        """These blocks in memory, and where each begins."""
        tables = [table for block in blocks for table in self._blocks.read(block)]
        pool = FacePool(tables, self._spec.model.input_size)
        if pool.views:
            refuse_other_views(self._spec.augment, pool.views)
        places = np.zeros(len(self._plan.sizes), np.intp)
        places[blocks] = np.cumsum([0, *self._plan.sizes[blocks]])[:-1]
        return pool, places

    def _batch(self, pool: FacePool, rows: Rows, epoch: int, of_faces: int) -> Batch:
        columns = pool.picked(rows, epoch)
        images: Any = pool.crops(rows)
        if not self._spec.augment.fixed_views:
            images = resized(images, self._spec.model.input_size)
        drawn = changed(images, columns["sample_id"], self._spec, self._augment, epoch)
        return make_batch(drawn, columns, self._spec, epoch, of_faces)
