"""Epochs of a set number of faces, whatever the size of the set. Needs neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Iterator

from agesearch.training.faces.batches import Batch, BatchSource


class FaceEpochs:
    """Epochs of ``faces`` faces, to a batch: one after the other they go through the passes of ``source``.

    Its passes are cut, and nothing else changes: all epochs together have the batches of the passes in their
    order. An epoch may end within a pass, and one of more faces than the set has goes on in the next pass.
    """

    def __init__(self, source: BatchSource, faces: int) -> None:
        self._source = source
        self.steps = max(1, round(faces * source.steps / source.faces))
        self.faces = round(self.steps * source.faces / source.steps)
        self.rank, self.world = source.rank, source.world
        # The batches that come next, and which step of all passes the first of them is: a source may have
        # read and decoded ahead.
        self._next: tuple[int, Iterator[Batch]] | None = None

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``index`` from step ``start`` on."""
        step, end = index * self.steps + start, (index + 1) * self.steps
        while step < end:
            for batch in (batches := self._from(step)):
                step += 1
                self._next = step, batches
                yield batch
                if step == end:
                    return

    def _from(self, step: int) -> Iterator[Batch]:
        """The batches of the pass that a step belongs to, from it on."""
        number, place = divmod(step, self._source.steps)
        if place and self._next is not None and self._next[0] == step:
            return self._next[1]
        return self._source.epoch(number, place)
