"""How a running study looks: live tables on a terminal, quiet lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from agesearch.cli.common import err, shown_progress, table
from agesearch.progress import Listener, Progress
from agesearch.search.events import (
    EventListener,
    Note,
    StudyEvent,
    StudyStarted,
    TrialFinished,
    TrialProgress,
    TrialRetried,
    TrialStarted,
)
from agesearch.search.records import State, TrialRecord

_FRONT_ROWS = 8
_ENDED_ROWS = 5
_BAR = 12


def front_row(record: TrialRecord) -> list[str]:
    """Number, architecture, pixels, error and latency of a trial, as table cells."""
    return [
        f"{record.number:04d}",
        record.arch,
        str(record.input_size),
        _cell(record.val_mae_years),
        _cell(record.latency_ms_p50),
    ]


@contextmanager
def shown_study() -> Iterator[EventListener]:
    """Live tables on a terminal, one line a finished trial elsewhere."""
    if not err.is_terminal:
        with plain_view() as listener:
            yield listener
        return
    with LiveView() as view:
        yield view.listen


@contextmanager
def plain_view() -> Iterator[EventListener]:
    """A listener that writes one line a finished trial, and the progress of what comes before."""
    with shown_progress() as progress:

        def listen(event: StudyEvent) -> None:
            if isinstance(event, Progress):
                progress(event)
            for line in _lines(event):
                _line(line)

        yield listen


class LiveView:
    """The view of a terminal: progress bars while the study is prepared, then live tables until it ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._progress: Listener | None = None
        self._live: Live | None = None
        self._start: StudyStarted | None = None
        self._began = 0.0
        self._running: dict[int, tuple[TrialRecord, int, int, float | None]] = {}
        self._ended: list[TrialRecord] = []
        self._front: tuple[TrialRecord, ...] = ()
        self._finished = 0

    def __enter__(self) -> Self:
        self._progress = self._stack.enter_context(shown_progress())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def listen(self, event: StudyEvent) -> None:
        """Take an event in and draw it."""
        if isinstance(event, Progress):
            if self._progress:
                self._progress(event)
        elif isinstance(event, StudyStarted):
            self._open(event)
        else:
            for line in [] if isinstance(event, TrialFinished) else _lines(event):
                _line(line)
            self._update(event)
        if self._live:
            self._live.update(self._drawn())

    def _open(self, event: StudyStarted) -> None:
        self._stack.close()  # the bars: two live displays cannot share a terminal
        self._progress = None
        for line in _lines(event):
            _line(line)
        self._start, self._began = event, time.monotonic()
        self._finished = sum(record.state is not State.RUNNING for record in event.records)
        self._live = self._stack.enter_context(
            Live(console=err, refresh_per_second=4, transient=True, vertical_overflow="crop")
        )

    def _update(self, event: StudyEvent) -> None:
        if isinstance(event, TrialStarted):
            self._running[event.record.number] = (event.record, 0, event.epochs, None)
        elif isinstance(event, TrialProgress) and event.number in self._running:
            record = self._running[event.number][0]
            self._running[event.number] = (record, event.epoch, event.epochs, event.val_mae_years)
        elif isinstance(event, TrialRetried):
            self._running.pop(event.record.number, None)
        elif isinstance(event, TrialFinished):
            self._running.pop(event.record.number, None)
            self._ended.append(event.record)
            self._front, self._finished = event.front, event.finished

    def _drawn(self) -> RenderableType:
        front = [front_row(record) for record in self._front[:_FRONT_ROWS]]
        more = f" ({len(self._front)} trials)" if len(self._front) > _FRONT_ROWS else ""
        running = [
            [f"{record.number:04d}", record.arch, str(record.input_size), _bar(epoch, epochs), _cell(mae)]
            for record, epoch, epochs, mae in self._running.values()
        ]
        last = [Text(_told(record), style=_STYLES[record.state]) for record in self._ended[-_ENDED_ROWS:]]
        return Group(
            Text(self._headline(), style="bold"),
            table(f"Front so far{more}", ["trial", "architecture", "px", "val MAE, years", "ms"], front),
            table("Running", ["trial", "architecture", "px", "epoch", "val MAE, years"], running),
            *last,
        )

    def _headline(self) -> str:
        if self._start is None:
            return ""
        total, elapsed = self._start.total, time.monotonic() - self._began
        line = f"{self._finished} of {total} trials, {_clock(elapsed)} so far"
        if self._ended and self._finished < total:
            line += f", about {_clock(elapsed / len(self._ended) * (total - self._finished))} left"
        failed = sum(record.state is State.FAIL for record in self._ended)
        return line + (f", {failed} failed" if failed else "")


def _lines(event: StudyEvent) -> list[str]:
    """What is worth a line of its own without live tables."""
    if isinstance(event, StudyStarted):
        return _opening(event)
    if isinstance(event, TrialFinished):
        return [f"{_told(event.record)} [{event.finished}/{event.total}]"]
    if isinstance(event, TrialRetried):
        return [f"{event.record.name}: {event.reason}; going on from its checkpoint"]
    return [event.text] if isinstance(event, Note) else []


_STYLES = {State.COMPLETE: "green", State.PRUNED: "yellow", State.FAIL: "red", State.RUNNING: ""}


def _opening(event: StudyStarted) -> list[str]:
    done = sum(record.state is not State.RUNNING for record in event.records)
    lines = [f"Study {event.folder}: {event.total} trials, {event.concurrency} at once"]
    if event.records:
        lines.append(f"Going on: {done} finished before, {event.resumed} taken up again")
    if event.dashboard_url:
        lines.append(f"Dashboard: {event.dashboard_url} (its token: ray get-auth-token)")
    return lines


def _told(record: TrialRecord) -> str:
    told = f"{record.name} {record.state.value}"
    if record.state is State.FAIL:
        return f"{told} after epoch {record.epochs}: {record.reason}"
    told += (
        f" MAE {_cell(record.val_mae_years)} years, {_cell(record.latency_ms_p50)} ms, {record.seconds:.0f} s"
    )
    return f"{told}: {record.reason}" if record.reason else told


def _bar(epoch: int, epochs: int) -> str:
    filled = round(_BAR * epoch / max(epochs, 1))
    return f"{'━' * filled}{'╌' * (_BAR - filled)} {epoch}/{epochs}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _line(text: str) -> None:
    err.print(text, highlight=False, soft_wrap=True, markup=False)
