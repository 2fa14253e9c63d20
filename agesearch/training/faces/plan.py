"""Which faces an epoch shows, in which order and in which batches: a pure function of what decides it.

Whoever brings the faces (``pool``: memory, ``stream``: shards) follows the plan, so that a training gets the
same batches wherever its faces lie and however many workers share them.

A dataset of today is mixed: any shard is a fair sample. Older shards are in the order of their source, and
many sources are sorted, by age or person by person: batches of neighbours, or of a small shuffling buffer,
would be of one age or one person, and an epoch of such a stream ended at an error of 43.9 years where 11.1 is
right. So an epoch goes through *windows*: each has one shard of every stretch of the set, and all faces of a
window are mixed. A set of up to ``WINDOW_FACES`` is one window: a permutation of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agesearch.errors import InputError
from agesearch.specs import TrainSpec

#: Faces that are mixed at once. A number of faces, and no size of memory: it decides the order of an epoch.
WINDOW_FACES = 32_768

#: ``share_of_faces`` takes faces of so many shards at least: two of a sorted source are children and
#: grandparents.
LEAST_SHARDS = 16

#: Draws the faces that ``share_of_faces`` leaves apart from the epochs, whose numbers are smaller.
_SHARE_DRAW = 2**32 - 1

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Step:
    """One worker's part of a batch: its ``rows`` of the set, of ``faces`` that all workers have together.

    The first of them lie in window ``first``, the last in window ``last``.
    """

    rows: Rows
    faces: int
    first: int
    last: int


class EpochPlan:
    """The epochs of ``spec`` over a set of ``sizes[i]`` faces in shard i, for ``world`` workers.

    Faces are numbered through all shards, from 0. An epoch has ``faces`` faces in ``steps`` batches, whose
    sizes differ by one at most; of a batch, worker r has every ``world``-th face from the r-th on. So all
    workers together have each face once, all have equally many batches (or the one that has more would wait
    for ever), and the parts of a batch differ by one face at most.

    Fewer than 2 faces a worker are an ``InputError``: batch normalisation cannot learn from one face, so no
    part may be that small.
    """

    def __init__(self, sizes: Sequence[int], spec: TrainSpec, world: int = 1) -> None:
        self.sizes = np.asarray(sizes, dtype=np.intp)
        self.starts: Rows = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.intp)
        self.world, self._seed = world, spec.seed
        total = int(self.starts[-1])
        self.faces = kept_count(total, spec.share_of_faces)
        if self.faces < 2 * world:
            raise InputError(
                f"Training needs at least 2 faces a worker, but {self.faces} faces have {world}."
            )
        self.steps = min(-(-self.faces // spec.optim.batch_size), self.faces // (2 * world))
        self._few = self._some_of_all() if self.faces < total <= WINDOW_FACES else None
        self._counts = self._kept_counts()
        #: The shards that are read, in their order.
        self.shards: list[int] = np.flatnonzero(self._counts).tolist()

    def kept(self, shard: int) -> Rows:
        """The faces of a shard that are trained on, ascending: the same ones in every epoch."""
        start, size, count = int(self.starts[shard]), int(self.sizes[shard]), int(self._counts[shard])
        if self._few is not None:
            first = np.searchsorted(self._few, start)
            return self._few[first : first + count]
        if count == size:
            return np.arange(start, start + size)
        draw = np.random.default_rng([self._seed, _SHARE_DRAW, shard])
        return start + np.sort(draw.permutation(size)[:count])

    def windows(self, epoch: int) -> list[list[int]]:
        """The shards of each window of an epoch."""
        count = min(-(-self.faces // WINDOW_FACES), len(self.shards))
        if count == 1:
            return [self.shards]
        mixed = mixed_windows(len(self.shards), count, self._draw(epoch))
        return [[self.shards[place] for place in window] for window in mixed]

    def own(self, epoch: int, window: int, rank: int = 0) -> Rows:
        """The faces of a window that a worker has, in the order of its batches."""
        return self._own(self.windows(epoch), epoch, window, rank)[0]

    def batches(self, epoch: int, start: int = 0, rank: int = 0) -> Iterator[Step]:
        """A worker's parts of an epoch's batches, from step ``start`` on."""
        windows = self.windows(epoch)
        ends = np.cumsum([self._faces_of(window) for window in windows])
        waiting, first = np.empty(0, np.intp), -1
        step = start
        for number in range(int(np.searchsorted(ends, self._start(start), side="right")), len(windows)):
            rows, steps = self._own(windows, epoch, number, rank)
            rows, steps = rows[steps >= start], steps[steps >= start]
            while step < self.steps and self._start(step + 1) <= ends[number]:
                mine = rows[slice(*np.searchsorted(steps, [step, step + 1]))]
                joined = np.concatenate([waiting, mine]) if len(waiting) else mine
                whole = self._start(step + 1) - self._start(step)
                yield Step(joined, whole, number if first < 0 else first, number)
                waiting, first = np.empty(0, np.intp), -1
                step += 1
            rest = rows[np.searchsorted(steps, step) :]
            if len(rest):
                waiting, first = np.concatenate([waiting, rest]), number if first < 0 else first

    def _own(self, windows: Sequence[list[int]], epoch: int, number: int, rank: int) -> tuple[Rows, Rows]:
        """A worker's faces of a window, and the step of each."""
        rows = self._mixed(windows, epoch, number)
        places = sum(map(self._faces_of, windows[:number])) + np.arange(len(rows))
        steps = self._steps_of(places)
        mine = (places - self._starts_of(steps)) % self.world == rank
        return rows[mine], steps[mine]

    def _mixed(self, windows: Sequence[list[int]], epoch: int, number: int) -> Rows:
        """All faces of a window in their order."""
        rows = np.concatenate([self.kept(shard) for shard in windows[number]])
        return (self._draw(epoch, number) if len(windows) > 1 else self._draw(epoch)).permutation(rows)

    def _faces_of(self, window: Sequence[int]) -> int:
        return int(self._counts[window].sum())

    def _start(self, step: int) -> int:
        """How many faces come before a batch: the first ones have one more where the faces do not divide."""
        each, more = divmod(self.faces, self.steps)
        return step * each + min(step, more)

    def _starts_of(self, steps: Rows) -> Rows:
        each, more = divmod(self.faces, self.steps)
        return steps * each + np.minimum(steps, more)

    def _steps_of(self, places: Rows) -> Rows:
        """The batch of each place in an epoch."""
        each, more = divmod(self.faces, self.steps)
        larger = more * (each + 1)
        return np.where(places < larger, places // (each + 1), more + (places - larger) // each)

    def _some_of_all(self) -> Rows:
        """The faces that ``share_of_faces`` leaves of a set that is one window."""
        draw = np.random.default_rng([self._seed, _SHARE_DRAW])
        return np.sort(draw.permutation(int(self.starts[-1]))[: self.faces])

    def _kept_counts(self) -> npt.NDArray[np.intp]:
        """How many faces of each shard are trained on.

        Of a large set, ``share_of_faces`` takes whole shards and a part of one more, from all stretches of
        the set: only these are read. Where they would be fewer than ``LEAST_SHARDS``, it takes parts of so
        many.
        """
        if self.faces == self.starts[-1]:
            return self.sizes.copy()
        if self._few is not None:
            return np.diff(np.searchsorted(self._few, self.starts)).astype(np.intp)
        held = np.flatnonzero(self.sizes)
        wanted = max(LEAST_SHARDS, round(len(held) * self.faces / int(self.starts[-1])))
        windows = mixed_windows(len(held), -(-len(held) // wanted), self._draw(_SHARE_DRAW))
        order = held[[place for window in windows for place in window]]
        ends = np.cumsum(self.sizes[order])
        enough = int(np.searchsorted(ends, self.faces)) + 1
        chosen = order[: max(enough, LEAST_SHARDS)]
        whole = ends[: len(chosen)]
        taken = np.minimum(whole, self.faces)
        if enough < len(chosen):
            taken = np.floor(whole * (self.faces / whole[-1]) + 0.5).astype(np.intp)
        counts = np.zeros(len(self.sizes), np.intp)
        counts[chosen] = np.diff(taken, prepend=0)
        return counts

    def _draw(self, *number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *number])


def kept_count(faces: int, share: float) -> int:
    """How many faces ``share_of_faces`` leaves to train on: two at least."""
    return min(faces, max(2, round(faces * share)))


def mixed_windows(count: int, windows: int, draw: np.random.Generator) -> list[list[int]]:
    """Shards ``0..count - 1`` in so many windows, each with one shard of every stretch.

    With W windows, a stretch is W neighbouring shards, each of which goes to another window. Shards of a
    window are in random order, so that a part of a window spans the set too.
    """
    found: list[list[int]] = [[] for _ in range(windows)]
    for first in range(0, count, windows):
        stretch = range(first, min(first + windows, count))
        for window, shard in zip(draw.permutation(windows), stretch, strict=False):
            found[window].append(shard)
    return [draw.permutation(window).tolist() for window in found if window]
