"""How a running study looks: a live screen on a terminal, quiet lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from rich.live import Live

from agesearch.cli.common import err, harmless, shown_progress
from agesearch.cli.study_screen import Screen, cell, headline, told
from agesearch.progress import Listener, Progress
from agesearch.search.store.events import (
    EventListener,
    Note,
    StudyEvent,
    StudyStarted,
    StudyStopping,
    TrialFinished,
    TrialParked,
    TrialPaused,
    TrialProgress,
    TrialRetried,
    TrialStarted,
)
from agesearch.search.store.records import State, TrialRecord
from agesearch.search.view.progress import Pace, Running, Standing, Tally, budget_of, paused_trial, points_of

_LAST = 3

#: Trials that the scatter plot is drawn of, the latest; the front is always whole.
_POINTS = 2000

#: The screen is drawn this often; each time costs a few milliseconds.
_FRAMES_PER_S = 2

#: Without a terminal, how a study stands is told this often at most.
_PLAIN_INTERVAL_S = 60.0


def front_row(record: TrialRecord) -> list[str]:
    """Number, architecture, pixels, error and latency of a trial, as table cells."""
    return [
        f"{record.number:04d}",
        record.arch,
        str(record.input_size),
        cell(record.val_mae_years),
        cell(record.latency_ms_p50),
    ]


@contextmanager
def shown_study() -> Iterator[EventListener]:
    """A live screen on a terminal; elsewhere (and on one that cannot move its cursor) one line a finished
    trial.
    """
    if not err.is_interactive:
        with plain_view() as listener:
            yield listener
        return
    with LiveView() as view:
        yield view.listen


@contextmanager
def plain_view() -> Iterator[EventListener]:
    """A listener that writes one line a finished trial, now and then how the study stands, and the progress
    of what comes before.
    """
    watched = Watched()
    next_line = time.monotonic() + _PLAIN_INTERVAL_S
    with shown_progress() as progress:

        def listen(event: StudyEvent) -> None:
            nonlocal next_line
            if isinstance(event, Progress):
                progress(event)
                return
            watched.take(event)
            for line in _lines(event):
                _line(line)
            if isinstance(event, TrialFinished) and time.monotonic() >= next_line:
                _line(headline(watched.standing()))
                next_line = time.monotonic() + _PLAIN_INTERVAL_S

        yield listen


class Watched:
    """A running study as its events tell it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start: StudyStarted | None = None
        self._began = clock()
        self._tally = Tally()
        self._before = 0
        self._running: dict[int, tuple[TrialRecord, int, float]] = {}
        self._curves: dict[int, dict[int, float]] = {}
        self._epochs: dict[int, int] = {}
        self._waiting: set[int] = set()
        self._paused: dict[int, Running] = {}
        self._front: tuple[TrialRecord, ...] = ()
        self._points: deque[tuple[float, float]] = deque(maxlen=_POINTS)
        self._last: tuple[TrialRecord, ...] = ()
        self._stopping = ""

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
        elif isinstance(event, TrialRetried | TrialParked):
            self._running.pop(event.record.number, None)
            self._waiting.add(event.record.number)
        elif isinstance(event, TrialFinished):
            self._end(event)
        elif isinstance(event, StudyStopping):
            self._stopping = stopping_words(event)

    def standing(self) -> Standing:
        """How the study stands now."""
        elapsed = self._clock() - self._began
        start = self._start
        limit = None if start is None or start.seconds is None else start.seconds - elapsed
        return Standing(
            folder=start.folder if start else "",
            total=start.total if start else 0,
            tally=self._tally,
            front=self._front,
            running=tuple(self._runs(number) for number in self._running),
            paused=tuple(self._paused.values()),
            waiting=len(self._waiting),
            waiting_epochs=sum(self._epochs.get(number, 0) for number in self._waiting),
            points=tuple(self._points),
            last=self._last,
            pace=Pace(self._tally.finished - self._before, elapsed),
            limit=limit,
            dashboard=start.dashboard_url if start else None,
            stopping=self._stopping,
        )

    def _open(self, event: StudyStarted) -> None:
        self._start, self._began = event, self._clock()
        self._tally = Tally.of(event.records, event.header.spec)
        self._before = self._tally.finished
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

    def _runs(self, number: int) -> Running:
        record, epochs, began = self._running[number]
        curve = self._curves.get(number, {})
        return Running(
            record=record,
            epoch=self._epochs.get(number, 0),
            epochs=epochs,
            curve=tuple(curve[epoch] for epoch in sorted(curve)),
            age=self._clock() - began,
        )

    def _end(self, event: TrialFinished) -> None:
        record = event.record
        paused = self._paused.pop(record.number, None)  # stopped while it waited
        epochs = paused.epochs if paused else record.epochs
        _, epochs, _ = self._running.pop(record.number, (None, epochs, None))
        self._curves.pop(record.number, None)
        self._epochs.pop(record.number, None)
        self._waiting.discard(record.number)
        self._tally.add(record, epochs)
        self._front = event.front
        self._points.extend(points_of([record]))
        self._last = (*self._last, record)[-_LAST:]


class LiveView:
    """The view of a terminal: progress bars while the study is prepared, then a screen until it ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._progress: Listener | None = None
        self._live: Live | None = None
        self._watched = Watched()
        self._lock = threading.Lock()  # the screen is drawn by a thread of its own

    def __enter__(self) -> Self:
        self._progress = self._stack.enter_context(shown_progress())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def listen(self, event: StudyEvent) -> None:
        """Take an event in; the screen shows it when it is drawn next."""
        if isinstance(event, Progress):
            if self._progress:
                self._progress(event)
            return
        with self._lock:
            self._watched.take(event)
        if isinstance(event, StudyStarted):
            self._open(event)
        elif not isinstance(event, TrialFinished | StudyStopping | TrialParked | TrialPaused):
            for line in _lines(event):
                _line(line)

    def screen(self) -> Screen:
        """The screen as it is to be drawn now."""
        with self._lock:
            return Screen(self._watched.standing())

    def _open(self, event: StudyStarted) -> None:
        self._stack.close()  # the bars: two live displays cannot share a terminal
        self._progress = None
        for line in _lines(event)[:-1] if event.dashboard_url else _lines(event):
            _line(line)
        self._live = self._stack.enter_context(
            Live(
                console=err,
                get_renderable=self.screen,
                refresh_per_second=_FRAMES_PER_S,
                transient=True,
                vertical_overflow="crop",
            )
        )


def stopping_words(event: StudyStopping) -> str:
    """What a study that was asked to stop is waiting for."""
    if event.at_once:
        return f"Stopping now ({event.by})."
    if not event.waiting:
        return f"Stopping ({event.by})."
    trials = f"{event.waiting} running trial{'' if event.waiting == 1 else 's'}"
    return f"Stopping ({event.by}) once the epoch of {trials} is over; Ctrl-C stops now."


def _lines(event: StudyEvent) -> list[str]:
    """What is worth a line of its own without a screen."""
    if isinstance(event, StudyStarted):
        return _opening(event)
    if isinstance(event, TrialFinished):
        return [f"{told(event.record)} [{event.finished}/{event.total}]"]
    if isinstance(event, TrialRetried):
        return [f"{event.record.name}: {event.reason}; going on from its checkpoint"]
    if isinstance(event, TrialParked):
        return [f"{event.record.name} cut short after epoch {event.epoch}, to be taken up again"]
    if isinstance(event, TrialPaused):
        return [f"{event.record.name} paused: {event.record.reason}"]
    if isinstance(event, StudyStopping):
        return [stopping_words(event)]
    return [event.text] if isinstance(event, Note) else []


def _opening(event: StudyStarted) -> list[str]:
    done = sum(record.state.ended for record in event.records)
    lines = [f"Study {event.folder}: {event.total} trials, {event.concurrency} at once"]
    if event.records:
        paused = sum(record.state is State.PAUSED for record in event.records)
        waiting = f", {paused} paused" if paused else ""
        lines.append(f"Going on: {done} finished before, {event.resumed} taken up again{waiting}")
    if event.dashboard_url:
        lines.append(f"Dashboard: {event.dashboard_url} (its token: ray get-auth-token)")
    return lines


def _line(text: str) -> None:
    err.print(harmless(text), highlight=False, soft_wrap=True, markup=False)
