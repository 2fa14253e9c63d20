"""Epochs over faces that do not fit in memory: encoded until a step needs them. Needs neither Ray nor torch.

A thread reads the next window's shards, others decode, resize and augment the next batches, while the network
trains on one: OpenCV and Arrow let the others run. In memory are two windows of encoded faces and a few
batches, however many faces there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.data.dataset.arrays import stored_crop
from agesearch.data.images.augment import augmenter_of
from agesearch.models.prepare import resized
from agesearch.specs import TrainSpec
from agesearch.training.faces.batches import Batch, Columns, changed, make_batch, refuse_other_views
from agesearch.training.faces.plan import EpochPlan, Rows
from agesearch.training.faces.shards import Encoded, Shards

#: Batches that are made ahead of the one that is trained on, besides one for each thread.
AHEAD = 2


class StreamSource:
    """Epochs over the faces of ``shards``, as ``EpochPlan`` plans them; ``threads`` make the batches ahead.

    With none of them a batch is made when it is asked for: where every core has a training of its own,
    threads only get into its way.
    """

    def __init__(
        self, shards: Shards, spec: TrainSpec, *, rank: int = 0, world: int = 1, threads: int = 1
    ) -> None:
        self._plan = EpochPlan(shards.sizes, spec, world)
        self.faces, self.steps = self._plan.faces, self._plan.steps
        self.rank, self.world = rank, world
        self._shards, self._spec, self._threads = shards, spec, threads
        self._augment = augmenter_of(spec.augment, spec.seed)
        for views, _ in shards.widths.values():
            refuse_other_views(spec.augment, views)

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``index`` from step ``start`` on."""
        making: deque[Future[Batch]] = deque()
        readers = ThreadPoolExecutor(1, "agesearch-read")
        makers = ThreadPoolExecutor(max(1, self._threads), "agesearch-batch")
        try:
            windows = _Windows(self._plan, self._shards, self._view(index), index, self.rank, readers)
            for step in self._plan.batches(index, start, self.rank):
                faces = windows.between(step.first, step.last)
                if not self._threads:
                    yield self._batch(faces, step.rows, index, step.faces)
                    continue
                making.append(makers.submit(self._batch, faces, step.rows, index, step.faces))
                if len(making) > self._threads + AHEAD:
                    yield making.popleft().result()
            while making:
                yield making.popleft().result()
        finally:
            for pool in (makers, readers):
                pool.shutdown(wait=True, cancel_futures=True)

    def labels(self) -> Iterator[Columns]:
        """The label columns of all faces that any worker trains on, shard by shard; no image is read."""
        for shard in self._plan.shards:
            rows = self._plan.kept(shard) - self._plan.starts[shard]
            yield {name: column[rows] for name, column in self._shards.numbers(shard).items()}

    def _view(self, epoch: int) -> int:
        return epoch % max(1, self._spec.augment.fixed_views)

    def _batch(self, windows: Sequence[_Window], rows: Rows, epoch: int, of_faces: int) -> Batch:
        windows = [window for window in windows if len(window)]
        parts = [window.find(rows) for window in windows]
        images: Any = [None] * len(rows)
        for window, (wanted, places) in zip(windows, parts, strict=True):
            for place, data in zip(wanted.tolist(), window.images(places), strict=True):
                images[place] = stored_crop(data, self._shards.size)
        columns = _in_order(windows, parts, len(rows))
        if not self._spec.augment.fixed_views:
            images = resized(images, self._spec.model.input_size)
        drawn = changed(images, columns["sample_id"], self._spec, self._augment, epoch)
        return make_batch(drawn, columns, self._spec, epoch, of_faces)


class _Window:
    """A worker's faces of a window, encoded, by their number in the set."""

    def __init__(self, parts: Sequence[tuple[Rows, Encoded]]) -> None:
        self._rows = np.concatenate([np.empty(0, np.intp), *(rows for rows, _ in parts)])
        self._images = [faces.image for _, faces in parts]
        self._starts = np.cumsum([0, *(len(rows) for rows, _ in parts)])
        names = parts[0][1].columns if parts else ()
        self.columns = {name: np.concatenate([faces.columns[name] for _, faces in parts]) for name in names}

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, rows: Rows) -> tuple[Rows, Rows]:
        """Which of ``rows`` (their places in it) are here, and where."""
        places = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
        wanted = np.flatnonzero(self._rows[places] == rows)
        return wanted, places[wanted]

    def images(self, places: Rows) -> Iterator[bytes]:
        """The encoded crops of these faces."""
        parts = np.searchsorted(self._starts, places, side="right") - 1
        for part, row in zip(parts.tolist(), (places - self._starts[parts]).tolist(), strict=True):
            yield self._images[part][row].as_py()


class _Windows:
    """The windows of an epoch that are in memory; the one after them is being read."""

    def __init__(
        self,
        plan: EpochPlan,
        shards: Shards,
        view: int,
        epoch: int,
        rank: int,
        readers: ThreadPoolExecutor,
    ) -> None:
        self._plan, self._shards, self._view = plan, shards, view
        self._epoch, self._rank, self._readers = epoch, rank, readers
        self._count = len(plan.windows(epoch))
        self._read: dict[int, Future[_Window]] = {}

    def between(self, first: int, last: int) -> list[_Window]:
        """These windows; those before are let go, the next one is read meanwhile."""
        for number in range(first, min(last + 2, self._count)):
            if number not in self._read:
                self._read[number] = self._readers.submit(self._window, number)
        for number in [number for number in self._read if number < first]:
            del self._read[number]
        return [self._read[number].result() for number in range(first, last + 1)]

    def _window(self, number: int) -> _Window:
        rows = np.sort(self._plan.own(self._epoch, number, self._rank))
        starts = self._plan.starts
        parts = []
        for shard in sorted(set((np.searchsorted(starts, rows, side="right") - 1).tolist())):
            mine = rows[slice(*np.searchsorted(rows, starts[shard : shard + 2]))]
            parts.append((mine, self._shards.read(shard, mine - starts[shard], self._view)))
        return _Window(parts)


def _in_order(
    windows: Sequence[_Window], parts: Sequence[tuple[Rows, Rows]], count: int
) -> dict[str, npt.NDArray[Any]]:
    """The columns of a batch's faces, which come from several windows where it straddles them."""
    order = np.empty(count, np.intp)
    order[np.concatenate([wanted for wanted, _ in parts])] = np.arange(count)
    return {
        name: np.concatenate(
            [window.columns[name][places] for window, (_, places) in zip(windows, parts, strict=True)]
        )[order]
        for name in windows[0].columns
    }
