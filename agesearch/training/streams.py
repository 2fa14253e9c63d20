"""Training batches of faces that do not fit in memory, mixed whatever order their source had.

A dataset's shards are in the order of their source, and many sources are sorted: by age, or person by person.
Batches of neighbours, or of a small shuffling buffer, would be of one age or one person: an epoch of such a
stream ended at an error of 43.9 years where 11.1 is right. So an epoch goes through *windows*: each has one
block of every stretch of the source, and all faces of a window are mixed. Needs neither Ray nor torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agesearch.data.images.augment import augmenter_of
from agesearch.models.prepare import Images, resized
from agesearch.specs import TrainSpec
from agesearch.training.batches import (
    SHARE_DRAW,
    Batch,
    Columns,
    FacePool,
    Rows,
    changed,
    kept_count,
    make_batch,
    refuse_other_views,
    shares,
)

#: The blocks of a window have about so many bytes (64 blocks, as ``reading.loading`` makes them) ...
WINDOW_BYTES = 1024**3
#: ... and are so many at least: two stretches of a source sorted by age are children and grandparents.
LEAST_BLOCKS = 16

Window = list[tuple[int, Rows]]


class Blocks(Protocol):
    """Faces in blocks that are read one by one: ``sizes`` is the number of faces of each, ``bytes`` of all.

    Blocks are in the order of the dataset's rows.
    """

    @property
    def sizes(self) -> Sequence[int]: ...

    @property
    def bytes(self) -> int: ...

    def read(self, index: int) -> Sequence[Columns]:
        """The faces of a block, in tables of columns that follow one another."""
        ...

    def ask(self, indices: Sequence[int]) -> None:
        """These blocks are read next: have them ready, without waiting."""
        ...


class StreamSource:
    """Epochs over ``blocks``; the same shares of faces, steps and batch sizes as ``PoolSource`` has.

    The order of blocks, of the faces in a window, and what is left out where the faces do not divide by
    ``world``, are drawn anew each epoch by ``spec.seed``.
    """

    def __init__(self, blocks: Blocks, spec: TrainSpec, *, rank: int = 0, world: int = 1) -> None:
        self._kept = _kept_of_each(blocks.sizes, spec)
        total = int(self._kept.sum())
        self.faces, self.steps = shares(total, spec, world)
        self.rank, self.world = rank, world
        self._blocks, self._spec = blocks, spec
        self._augment = augmenter_of(spec.augment, spec.seed)

    def epoch(self, index: int) -> Iterator[Batch]:
        """The batches of epoch ``index``."""
        sizes = [len(part) for part in np.array_split(np.arange(self.faces), self.steps)]
        waiting: list[tuple[Images, Columns]] = []
        lacking = sizes[0]
        for pool, order in self._pools(index):
            start = 0
            while start < len(order):
                rows = order[start : start + lacking]
                waiting.append(self._drawn(pool, rows, index))
                start, lacking = start + len(rows), lacking - len(rows)
                if lacking == 0:
                    yield make_batch(*_joined(waiting), self._spec, index)
                    waiting, sizes = [], sizes[1:]
                    lacking = sizes[0] if sizes else 0

    def labels(self) -> Columns:
        """The label columns of all faces that any worker trains on; blocks are read one at a time."""
        parts: list[Columns] = []
        for block in range(len(self._blocks.sizes)):
            tables = self._blocks.read(block)
            rows = self._rows_of(block)
            numbers = [name for name, column in tables[0].items() if column.ndim == 1]
            parts.append({name: np.concatenate([table[name] for table in tables])[rows] for name in numbers})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _pools(self, epoch: int) -> Iterator[tuple[FacePool, Rows]]:
        """Window by window, the blocks that this worker reads, and the mixed order of its faces in them."""
        windows = self._windows(epoch)
        for number, window in enumerate(windows):
            following = windows[number + 1] if number + 1 < len(windows) else []
            self._blocks.ask([block for block, _ in following])
            tables = [self._blocks.read(block) for block, _ in window]
            pool = FacePool([one for some in tables for one in some], self._spec.model.input_size)
            if pool.views:
                refuse_other_views(self._spec.augment, pool.views)
            starts = np.cumsum([0, *(self._blocks.sizes[block] for block, _ in window)])
            rows = np.concatenate([start + rows for start, (_, rows) in zip(starts, window, strict=False)])
            draw = np.random.default_rng([self._spec.seed, epoch, self.rank, number])
            yield pool, draw.permutation(rows)

    def _windows(self, epoch: int) -> list[Window]:
        """This worker's share of an epoch: of the faces in the order of all windows, a part in ``world``."""
        fitting = max(LEAST_BLOCKS, int(WINDOW_BYTES * len(self._blocks.sizes) / max(1, self._blocks.bytes)))
        draw = np.random.default_rng([self._spec.seed, epoch])
        start, left = self.rank * self.faces, self.faces
        mine: list[Window] = []
        for blocks in mixed_windows(len(self._blocks.sizes), fitting, self.world, draw):
            window: Window = []
            for block in blocks:
                skipped = min(start, int(self._kept[block]))
                taken = min(left, int(self._kept[block]) - skipped)
                start, left = start - skipped, left - taken
                if taken:
                    window.append((block, self._part_of(block, epoch, skipped, taken)))
            if window:
                mine.append(window)
        return mine

    def _part_of(self, block: int, epoch: int, first: int, count: int) -> Rows:
        """Those rows of a block that one worker has: which of them is drawn, where others have the rest."""
        rows = self._rows_of(block)
        if count == len(rows):
            return rows
        draw = np.random.default_rng([self._spec.seed, epoch, block])
        return draw.permutation(rows)[first : first + count]

    def _rows_of(self, block: int) -> Rows:
        """The rows of a block that ``share_of_faces`` leaves, the same ones for a seed."""
        size, kept = self._blocks.sizes[block], int(self._kept[block])
        if kept == size:
            return np.arange(size)
        draw = np.random.default_rng([self._spec.seed, SHARE_DRAW, block])
        return np.sort(draw.permutation(size)[:kept])

    def _drawn(self, pool: FacePool, rows: Rows, epoch: int) -> tuple[Images, Columns]:
        columns = pool.picked(rows, epoch)
        images: Any = pool.crops(rows)
        if not self._spec.augment.fixed_views:
            images = resized(images, self._spec.model.input_size)
        return changed(images, columns["sample_id"], self._spec, self._augment, epoch), columns


def mixed_windows(count: int, fitting: int, world: int, draw: np.random.Generator) -> list[list[int]]:
    """Blocks ``0..count - 1`` in windows of at most ``fitting``, each with one block of every stretch.

    With W windows, a stretch is W neighbouring blocks, each of which goes to another window. There is a
    window at least for each of ``world`` workers where there are blocks enough. Blocks of a window are in
    random order, so that a part of a window spans the source too.
    """
    windows = min(count, max(-(-count // fitting), world))
    found: list[list[int]] = [[] for _ in range(windows)]
    for first in range(0, count, windows):
        stretch = range(first, min(first + windows, count))
        for window, block in zip(draw.permutation(windows), stretch, strict=False):
            found[window].append(block)
    return [draw.permutation(window).tolist() for window in found if window]


def _kept_of_each(sizes: Sequence[int], spec: TrainSpec) -> npt.NDArray[np.intp]:
    """How many faces of each block are trained on: ``kept_count`` of them in all, evenly."""
    ends = np.cumsum(sizes)
    faces = int(ends[-1]) if len(ends) else 0
    whole = np.floor(ends * (kept_count(faces, spec) / max(1, faces)) + 0.5).astype(np.intp)
    return np.diff(whole, prepend=0)


def _joined(parts: Sequence[tuple[Images, Columns]]) -> tuple[Images, Columns]:
    if len(parts) == 1:
        return parts[0]
    images, columns = zip(*parts, strict=True)
    names = columns[0]
    return np.concatenate(images), {name: np.concatenate([c[name] for c in columns]) for name in names}
