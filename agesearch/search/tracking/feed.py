"""Loggers beside a study: they hear its events and write them to MLflow or TensorBoard, by their own
libraries.

Each tracker works in a thread of its own behind a queue, so that a slow server never slows the study. One
that fails says so once, is tried again now and then, and never stops the study: what it missed of finished
trials is written when it answers again, or by the next run of the study with the same ``--log``.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from agesearch.errors import InputError, first_line, unknown_name
from agesearch.provenance import name_of, without_places
from agesearch.search.store.events import (
    EventListener,
    Note,
    StudyEnded,
    StudyEvent,
    StudyStarted,
    TrialFinished,
    TrialParked,
    TrialPaused,
    TrialProgress,
    TrialStarted,
)
from agesearch.search.store.records import TrialRecord
from agesearch.search.tracking.backends import TRACKERS
from agesearch.search.tracking.tracker import Tracker

#: Events that may wait for a tracker; of more, the oldest study would fill the memory for a dead server.
_QUEUE = 10_000

#: After a failure a tracker is left alone for so many seconds.
_REST_S = 30.0

#: How long the end of a study waits for its trackers.
_PATIENCE_S = 30.0

#: A trial does not run for now; it will go on, in this run of the study or another.
_Waits = TrialParked | TrialPaused

_USER_INFO = re.compile(r"://[^/@\s'\"]*@")
_SECRETS = re.compile(
    r"((?:token|password|passwd|secret|key|sig|signature|auth)\w*=)[^&\s'\"]+", re.IGNORECASE
)


@contextmanager
def tracked(
    wanted: Sequence[str], on_event: EventListener, trackers: Mapping[str, Tracker] | None = None
) -> Iterator[EventListener]:
    """A listener that also writes to the trackers named like ``mlflow=URI`` or ``tensorboard=FOLDER``.

    An ``InputError`` says what is wrong with a name, or which package is missing. ``trackers`` are made ones,
    by the name they are told under.
    """
    made = dict(trackers or {}) | {without_secrets(text): open_tracker(text) for text in wanted}
    if not made:
        yield on_event
        return
    feeds = [Feed(name, tracker) for name, tracker in made.items()]

    def listen(event: StudyEvent) -> None:
        on_event(event)
        for feed in feeds:
            feed.put(event)
            for text in feed.take_notes():
                on_event(Note(text))

    try:
        yield listen
    finally:
        end = time.monotonic() + _PATIENCE_S
        for feed in feeds:
            feed.finish(max(0.0, end - time.monotonic()))
            for text in feed.take_notes():
                on_event(Note(text))


def open_tracker(text: str) -> Tracker:
    """The tracker of an option's value, such as ``tensorboard=runs``; nothing is written yet."""
    name, _, where = text.partition("=")
    if not where:
        raise InputError(
            f"--log is '{without_secrets(text)}', but must be NAME=WHERE: mlflow=URI or mlflow=FOLDER, "
            "tensorboard=FOLDER."
        )
    if name not in TRACKERS:
        raise unknown_name("logger", name, TRACKERS)
    return TRACKERS[name](where)


class Feed:
    """One tracker with its queue and its thread."""

    def __init__(
        self, name: str, tracker: Tracker, clock: Callable[[], float] = time.monotonic, rest: float = _REST_S
    ) -> None:
        self._name = name
        self._tracker = tracker
        self._clock = clock
        self._rest = rest
        self._queue: queue.Queue[StudyEvent | None] = queue.Queue(_QUEUE)
        self._notes: deque[str] = deque()
        self._start: StudyStarted | None = None
        self._ended: list[TrialRecord] = []
        self._running: dict[int, tuple[TrialRecord, int]] = {}
        self._is_open = False
        self._has_failed = False
        self._again_at = 0.0
        self._missed = 0
        self._thread = threading.Thread(target=self._work, name=f"log {name}", daemon=True)
        self._thread.start()

    def put(self, event: StudyEvent) -> None:
        """Hand an event on; it is left out where too many wait."""
        if isinstance(
            event, StudyStarted | TrialStarted | TrialProgress | TrialFinished | _Waits | StudyEnded
        ):
            try:
                self._queue.put_nowait(_shareable(event))
            except queue.Full:
                self._missed += 1

    def take_notes(self) -> list[str]:
        """What there is to say about the tracker since the last time."""
        return [self._notes.popleft() for _ in range(len(self._notes))]

    def finish(self, patience: float) -> None:
        """Wait until all is written, for so many seconds; says what was not."""
        with suppress(queue.Full):
            self._queue.put(None, timeout=patience)
        self._thread.join(patience)
        if self._thread.is_alive():
            self._notes.append(
                f"{self._name}: does not answer; {self._queue.qsize()} entries are not written."
            )
        elif self._missed:
            self._notes.append(
                f"{self._name}: {self._missed} entries were not written; finished trials among them are "
                "written when the study is run again with this --log."
            )

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            self._remember(event)
            if self._clock() < self._again_at:
                self._missed += 1
                continue
            try:
                self._write(event)
            except Exception as error:  # a server, a disk, a library: whatever it is, the study goes on
                self._failed(error)

    def _remember(self, event: StudyEvent) -> None:
        """What a tracker that comes back must be told."""
        if isinstance(event, StudyStarted):
            self._start = event
            self._ended = [record for record in event.records if record.state.ended]
        elif isinstance(event, TrialStarted):
            self._running[event.record.number] = event.record, event.epochs
        elif isinstance(event, TrialFinished):
            self._running.pop(event.record.number, None)
            self._ended.append(event.record)
        elif isinstance(event, _Waits):
            self._running.pop(event.record.number, None)

    def _write(self, event: StudyEvent) -> None:
        fresh = self._open()
        tracker = self._tracker
        if isinstance(event, TrialStarted) and not fresh:
            tracker.begin(event.record, event.epochs)
        elif isinstance(event, TrialProgress):
            tracker.epoch(event.number, event.epoch, event.metrics)
        elif isinstance(event, TrialFinished) and not fresh:
            tracker.end(event.record)
        elif isinstance(event, _Waits):
            tracker.park(event.record)
        elif isinstance(event, StudyEnded):
            tracker.close(event.outcome.value)

    def _open(self) -> bool:
        """Whether the tracker was opened just now, and so knows all that ended and runs."""
        if self._is_open or self._start is None:
            return False
        self._tracker.open(self._start.header, self._start.folder, self._ended)
        for record, epochs in self._running.values():
            self._tracker.begin(record, epochs)
        self._is_open = True
        if self._has_failed:
            self._notes.append(f"{self._name}: answers again.")
            self._missed = 0
        return True

    def _failed(self, error: Exception) -> None:
        self._is_open = False
        self._missed += 1
        self._again_at = self._clock() + self._rest
        if not self._has_failed:
            self._has_failed = True
            words = without_secrets(f"{type(error).__name__}: {first_line(error)}")[:300]
            self._notes.append(f"{self._name} failed: {words}. The study goes on; it is tried again later.")


def _shareable(event: StudyEvent) -> StudyEvent:
    """The event as a tracker may know it: a server is read by others, whom no folder of this machine
    concerns.
    """
    if isinstance(event, StudyStarted):
        records = tuple(_shareable_record(record) for record in event.records)
        return replace(event, folder=name_of(event.folder), records=records)
    if isinstance(event, TrialStarted | TrialFinished | _Waits):
        return replace(event, record=_shareable_record(event.record))
    return event


def _shareable_record(record: TrialRecord) -> TrialRecord:
    return replace(record, params=without_places(record.params), reason=without_places(record.reason))


def without_secrets(text: str) -> str:
    """The text without user names, passwords and tokens of the addresses in it."""
    return _SECRETS.sub(r"\1***", _USER_INFO.sub("://***@", text))
