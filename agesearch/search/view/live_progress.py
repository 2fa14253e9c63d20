"""How a running study stands, as its events tell it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from agesearch.search.store.events import (
    Confirming,
    StudyEvent,
    StudyStarted,
    StudyStopping,
    TrialFinished,
    TrialParked,
    TrialPaused,
    TrialProgress,
    TrialRetried,
    TrialStarted,
    TrialWithin,
)
from agesearch.search.store.records import State, TrialRecord
from agesearch.search.view.progress import (
    Ends,
    Pace,
    RunningTrial,
    StudyProgress,
    TrialCounts,
    budget_of,
    interval_in,
    loss_budget,
    paused_trial,
    points_of,
)
from agesearch.training.standing import Standing

#: Trials that ended last, for whoever shows them.
_LAST = 3

#: Trials that a scatter plot is drawn of, the latest; the front is always whole.
_POINTS = 2000


class LiveProgress:
    """A running study as its events tell it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start: StudyStarted | None = None
        self._began = clock()
        self._counts = TrialCounts()
        self._before = 0
        self._running: dict[int, tuple[TrialRecord, int, float]] = {}
        self._curves: dict[int, dict[int, float]] = {}
        self._epochs: dict[int, int] = {}
        self._standings: dict[int, Standing] = {}
        self._intervals: dict[int, Ends | None] = {}
        self._waiting: set[int] = set()
        self._paused: dict[int, RunningTrial] = {}
        self._front: tuple[TrialRecord, ...] = ()
        self._points: deque[tuple[float, float]] = deque(maxlen=_POINTS)
        self._last: tuple[TrialRecord, ...] = ()
        self._stopping = ""
        self._confirming: Confirming | None = None

    def take(self, event: StudyEvent) -> None:
        """Remember what an event tells."""
        if isinstance(event, StudyStarted):
            self._open(event)
        elif isinstance(event, TrialStarted):
            number = event.record.number
            self._running[number] = (event.record, event.epochs, self._clock())
            self._waiting.discard(number)
            self._paused.pop(number, None)
        elif isinstance(event, TrialPaused):
            self._pause(event.record)
        elif isinstance(event, TrialProgress):
            self._epochs[event.number] = event.epoch
            if event.val_mae_years is not None:
                self._curves.setdefault(event.number, {})[event.epoch] = event.val_mae_years
            self._intervals[event.number] = interval_in(event.metrics)
        elif isinstance(event, TrialWithin):
            self._standings[event.number] = event.standing
        elif isinstance(event, TrialRetried | TrialParked):
            self._running.pop(event.record.number, None)
            self._waiting.add(event.record.number)
        elif isinstance(event, TrialFinished):
            self._end(event)
        elif isinstance(event, StudyStopping):
            self._stopping = stopping_words(event)
        elif isinstance(event, Confirming):
            self._confirming = event

    def progress(self) -> StudyProgress:
        """How the study stands now."""
        elapsed = self._clock() - self._began
        start = self._start
        limit = None if start is None or start.seconds is None else start.seconds - elapsed
        return StudyProgress(
            folder=start.folder if start else "",
            total=start.total if start else 0,
            counts=self._counts,
            front=self._front,
            running=tuple(self._runs(number) for number in self._running),
            paused=tuple(self._paused.values()),
            waiting=len(self._waiting),
            waiting_epochs=sum(self._epochs.get(number, 0) for number in self._waiting),
            points=tuple(self._points),
            last=self._last,
            pace=Pace(self._counts.finished - self._before, elapsed),
            limit=limit,
            dashboard=start.dashboard_url if start else None,
            stopping=self._stopping,
            loss_budget=loss_budget(start.header.spec, self._counts) if start else None,
            confirming=self._confirming,
        )

    def _open(self, event: StudyStarted) -> None:
        self._start, self._began = event, self._clock()
        self._counts = TrialCounts.of(event.records, event.header.spec)
        self._before = self._counts.finished
        self._front = event.front
        self._points.extend(points_of(event.records))
        self._waiting = {record.number for record in event.records if record.state is State.RUNNING}
        for record in event.records:
            if record.state is State.PAUSED:
                self._pause(record)

    def _pause(self, record: TrialRecord) -> None:
        assert self._start is not None
        self._running.pop(record.number, None)
        self._waiting.discard(record.number)
        self._paused[record.number] = paused_trial(record, budget_of(self._start.header.spec, record))
        self._curves[record.number] = dict(enumerate(record.curve, start=1))
        self._epochs[record.number] = record.epochs

    def _runs(self, number: int) -> RunningTrial:
        record, epochs, began = self._running[number]
        curve, epoch = self._curves.get(number, {}), self._epochs.get(number, 0)
        standing = self._standings.get(number)
        return RunningTrial(
            record=record,
            epoch=epoch,
            epochs=epochs,
            curve=tuple(curve[epoch] for epoch in sorted(curve)),
            age=self._clock() - began,
            standing=standing if standing is not None and standing.epoch == epoch + 1 else None,
            interval=self._intervals.get(number),
        )

    def _end(self, event: TrialFinished) -> None:
        record = event.record
        paused = self._paused.pop(record.number, None)  # stopped while it waited
        epochs = paused.epochs if paused else record.epochs
        _, epochs, _ = self._running.pop(record.number, (None, epochs, None))
        self._curves.pop(record.number, None)
        self._epochs.pop(record.number, None)
        self._standings.pop(record.number, None)
        self._intervals.pop(record.number, None)
        self._waiting.discard(record.number)
        self._counts.add(record, epochs)
        self._front = event.front
        self._points.extend(points_of([record]))
        self._last = (*self._last, record)[-_LAST:]


def stopping_words(event: StudyStopping) -> str:
    """What a study that was asked to stop is waiting for."""
    if event.at_once:
        return f"Stopping now ({event.by})."
    if not event.waiting:
        return f"Stopping ({event.by})."
    trials = f"{event.waiting} running trial{'' if event.waiting == 1 else 's'}"
    return f"Stopping ({event.by}) once {trials} wrote a checkpoint; Ctrl-C stops now."
