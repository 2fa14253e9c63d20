"""Which trials a proposal looks at, however many there are: kept up to date trial by trial, so that looking
costs the same in any study.

Of the trials that are over or paused, the front and the layers behind it, and the newest of the others; of
those that run the newest. What is seen hangs on the trials alone, not on the order in which they ended.
"""

from __future__ import annotations

import heapq
import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable

import numpy as np

from agesearch.search.store.pareto import front
from agesearch.search.store.records import State, TrialRecord

#: Trials that are over or paused: so many are seen, of them at most ``_BEST`` by rank, the others by age.
VISIBLE = 300
_BEST = 64

#: Of those that run, the newest so many: on a large cluster they would bury the others, and take long.
_RUNNING = 64


class TrialWindow:
    """All trials of a study, as far as proposals may see them."""

    def __init__(self, records: Iterable[TrialRecord] = ()) -> None:
        self._running: dict[int, TrialRecord] = {}
        self._rest: dict[int, TrialRecord] = {}
        self._numbers: list[int] = []  # of the rest, rising
        self._complete: list[int] = []  # rising
        self._errors, self._latencies = array("d"), array("d")  # of the COMPLETE ones, in that order
        self._best: list[int] | None = None
        for record in records:
            self.take(record)

    def take(self, record: TrialRecord) -> None:
        """A trial as it is now. One without parameters is not seen."""
        number = record.number
        if not record.params:
            return
        if record.state is State.RUNNING:
            self._running[number] = record
            if self._rest.pop(number, None) is not None:
                del self._numbers[bisect_left(self._numbers, number)]
            return
        self._running.pop(number, None)
        before = self._rest.get(number)
        if before is None:
            insort(self._numbers, number)
        self._rest[number] = record
        if record.state is State.COMPLETE and (before is None or before.state is not State.COMPLETE):
            at = bisect_left(self._complete, number)
            self._complete.insert(at, number)
            self._errors.insert(at, math.nan if record.val_mae_years is None else record.val_mae_years)
            self._latencies.insert(at, math.nan if record.latency_ms_p50 is None else record.latency_ms_p50)
            self._best = None

    def shown(self, most: int = VISIBLE, besides: int | None = None) -> list[TrialRecord]:
        """At most ``most`` trials that are over or paused, and the newest that run, without trial
        ``besides``; by number.
        """
        numbers = set(self._numbers[-most:] if most else [])
        if len(self._numbers) > most:
            numbers = set(self._front_first()[:most])
            for number in reversed(self._numbers):
                if len(numbers) >= most:
                    break
                numbers.add(number)
        running = heapq.nlargest(_RUNNING, (number for number in self._running if number != besides))
        found = [self._rest[number] for number in numbers] + [self._running[number] for number in running]
        return sorted(found, key=lambda record: record.number)

    def _front_first(self) -> list[int]:
        """Numbers of COMPLETE trials, layer by layer, by number within each."""
        if self._best is None:
            points = np.array([self._errors, self._latencies]).T
            left, best = np.arange(len(points)), list[int]()
            while len(left) and len(best) < _BEST:
                layer = front(points[left])
                if not layer:
                    break
                best += [self._complete[index] for index in sorted(left[layer])]
                left = np.delete(left, layer)
            self._best = best[:_BEST]
        return self._best
