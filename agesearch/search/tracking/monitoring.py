"""A running study as figures for Prometheus (``agesearch.cluster.monitoring``), as its events tell it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence

from agesearch.cluster.monitoring import (
    BEST_ERROR,
    EPOCHS,
    FRONT_TRIALS,
    FRONT_VOLUME,
    LAST_PROGRESS,
    RETRIES,
    TRIALS,
    Recorder,
)
from agesearch.search.store.events import (
    EventListener,
    StudyEvent,
    StudyStarted,
    TrialFinished,
    TrialParked,
    TrialPaused,
    TrialProgress,
    TrialRetried,
    TrialStarted,
    TrialWithin,
)
from agesearch.search.store.pareto import hypervolume
from agesearch.search.store.records import State, TrialRecord

#: The state of trials that have not begun, or were cut and wait to go on.
WAITING = "WAITING"

#: The rectangle that fronts are measured in: fixed, so that the figure only rises, and studies compare.
_MOST_YEARS, _LEAST_MS, _MOST_MS = 20.0, 0.1, 100.0


class StudyFigures:
    """The figures of a study, by what they are made of; ``recorder`` knows the study's name."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._states: dict[int, State] = {}  # of trials that do not wait
        self._counts: Counter[State] = Counter()
        self._total = self._retries = 0
        self._best: float | None = None

    def hearing(self, on_event: EventListener) -> EventListener:
        """A listener that also records what becomes of the study."""

        def listen(event: StudyEvent) -> None:
            on_event(event)
            self.take(event)

        return listen

    def take(self, event: StudyEvent) -> None:
        """Record what an event changes."""
        if isinstance(event, StudyStarted):
            self._open(event)
        elif isinstance(event, TrialStarted):
            self._stands(event.record.number, State.RUNNING)
        elif isinstance(event, TrialProgress):
            self.recorder.add(EPOCHS, 1)
            self._alive()
        elif isinstance(event, TrialWithin):
            self._alive()
        elif isinstance(event, TrialPaused):
            self._stands(event.record.number, State.PAUSED)
        elif isinstance(event, TrialParked):
            self._stands(event.record.number, None)
        elif isinstance(event, TrialRetried):
            self._retries += 1
            self._stands(event.record.number, None)
        elif isinstance(event, TrialFinished):
            self._total = event.total
            self._complete([event.record], event.front)
            self._stands(event.record.number, event.record.state)

    def _open(self, event: StudyStarted) -> None:
        self._total, self._retries = event.total, sum(record.retries for record in event.records)
        for record in event.records:
            if record.state is not State.RUNNING:  # those were cut, and wait
                self._note(record.number, record.state)
        self._complete(event.records, event.front)
        self._tell()

    def _stands(self, number: int, state: State | None) -> None:
        """A trial is in this state now, or waits (None); the others are where they were."""
        self._note(number, state)
        self._tell()

    def _note(self, number: int, state: State | None) -> None:
        before = self._states.pop(number, None)
        if before is not None:
            self._counts[before] -= 1
        if state is not None:
            self._states[number] = state
            self._counts[state] += 1

    def _tell(self) -> None:
        for state in State:
            self.recorder.set(TRIALS, self._counts[state], state=state.value)
        self.recorder.set(TRIALS, max(0, self._total - len(self._states)), state=WAITING)
        self.recorder.set(RETRIES, self._retries)
        self._alive()

    def _alive(self) -> None:
        self.recorder.set(LAST_PROGRESS, time.time())

    def _complete(self, records: Sequence[TrialRecord], front: Sequence[TrialRecord]) -> None:
        """What these trials, if they are COMPLETE, make of the study."""
        errors = [
            record.val_mae_years
            for record in records
            if record.state is State.COMPLETE and record.val_mae_years is not None
        ]
        known = errors if self._best is None else [*errors, self._best]
        self._best = min(known, default=None)
        self.recorder.set(BEST_ERROR, self._best)
        self.recorder.set(FRONT_TRIALS, len(front))
        self.recorder.set(FRONT_VOLUME, front_volume(front))


def front_volume(front: Sequence[TrialRecord]) -> float:
    """The share, 0 to 1, of the rectangle of 0 to 20 years and 0.1 to 100 ms that a front dominates, with
    latencies by their logarithm: to halve one is worth as much wherever it stands.
    """
    points = [
        (record.val_mae_years, math.log10(max(record.latency_ms_p50, _LEAST_MS) / _LEAST_MS))
        for record in front
        if record.val_mae_years is not None and record.latency_ms_p50 is not None
    ]
    decades = math.log10(_MOST_MS / _LEAST_MS)
    return hypervolume(points, (_MOST_YEARS, decades)) / (_MOST_YEARS * decades)
