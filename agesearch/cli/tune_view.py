"""How a running study looks: a live screen on a terminal, quiet lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from rich.live import Live

from agesearch.cli.common import err, patience, say, shown_progress
from agesearch.cli.study_screen import Screen, cell, headline, trial_line
from agesearch.progress import Listener, Progress, spoken_every
from agesearch.search.store.events import (
    EventListener,
    Note,
    StudyEvent,
    StudyStarted,
    StudyStopping,
    TrialFinished,
    TrialParked,
    TrialPaused,
    TrialRetried,
)
from agesearch.search.store.records import State, TrialRecord
from agesearch.search.view.live_progress import LiveProgress, stopping_words

#: The screen is drawn this often; each time costs a few milliseconds.
_FRAMES_PER_S = 2

#: Of so many running trials it is told how far they are in a long epoch.
_TOLD = 3

#: Without a terminal, how a study stands is told so often beside its trials.
_STANDING_S = 60.0


def front_row(record: TrialRecord) -> list[str]:
    """Number, network, error and latency of a trial, as table cells."""
    return [
        str(record.number),
        record.network,
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
    with ExitStack() as stack:
        progress: Listener | None = stack.enter_context(shown_progress())
        lines = PlainStudy()

        def listen(event: StudyEvent) -> None:
            nonlocal progress
            if isinstance(event, Progress) and progress is not None:
                progress(event)
                return
            if isinstance(event, StudyStarted):  # what was prepared is told; from here on the trials are
                stack.close()
                progress = None
                stack.enter_context(spoken_every(1.0, lines.remind))
            lines.listen(event)

        yield listen


class PlainStudy:
    """A study in lines: one for each trial that ended, and now and then how the study stands."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._events = LiveProgress(clock)
        self._lock = threading.Lock()
        self._said = self._heard = clock()
        self._stood = clock()

    def listen(self, event: StudyEvent) -> None:
        """Tell of an event that is worth a line."""
        with self._lock:
            self._events.take(event)
            lines = _lines(event)
            if isinstance(event, TrialFinished) and self._clock() - self._stood >= _STANDING_S:
                lines.append(self._stands())
            for line in lines:
                say(line)
            if lines:
                self._said = self._heard = self._clock()

    def remind(self) -> None:
        """Say how the study stands, where nothing was said for long; ever more rarely."""
        with self._lock:
            now = self._clock()
            if now - self._said < patience(now - self._heard):
                return
            say(self._stands())
            self._said = now

    def _stands(self) -> str:
        self._stood = self._clock()
        progress = self._events.progress()
        running = progress.running
        line = headline(progress)
        if running:
            done = sum(trial.epoch for trial in running)
            line += f"; {len(running)} running, {done} of their {sum(t.epochs for t in running)} epochs done"
            line += "".join(f"; {trial.words}" for trial in running[:_TOLD] if trial.words)
        return line


class LiveView:
    """The view of a terminal: progress bars while the study is prepared, then a screen until it ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._progress: Listener | None = None
        self._live: Live | None = None
        self._events = LiveProgress()
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
            self._events.take(event)
        if isinstance(event, StudyStarted):
            self._open(event)
        elif not isinstance(event, TrialFinished | StudyStopping | TrialParked | TrialPaused):
            for line in _lines(event):
                say(line)

    def screen(self) -> Screen:
        """The screen as it is to be drawn now."""
        with self._lock:
            return Screen(self._events.progress())

    def _open(self, event: StudyStarted) -> None:
        self._stack.close()  # the bars: two live displays cannot share a terminal
        self._progress = None
        for line in _lines(event)[:-1] if event.dashboard_url else _lines(event):
            say(line)
        self._live = self._stack.enter_context(
            Live(
                console=err,
                get_renderable=self.screen,
                redirect_stdout=False,  # what libraries print stays off the screen
                redirect_stderr=False,
                refresh_per_second=_FRAMES_PER_S,
                transient=True,
                vertical_overflow="crop",
            )
        )


def _lines(event: StudyEvent) -> list[str]:
    """What is worth a line of its own without a screen."""
    if isinstance(event, StudyStarted):
        return _opening(event)
    if isinstance(event, TrialFinished):
        return [f"{trial_line(event.record)} [{event.finished}/{event.total}]"]
    if isinstance(event, TrialRetried):
        return [f"{event.record.title}: {event.reason}; going on from its checkpoint"]
    if isinstance(event, TrialParked):
        return [f"{event.record.title} cut short after epoch {event.epoch}, to be taken up again"]
    if isinstance(event, TrialPaused):
        return [f"{event.record.title} paused: {event.record.reason}"]
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
