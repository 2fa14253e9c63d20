"""Who runs a study, and how it is asked to stop: two small files in the study folder; no Ray.

``driver.json`` says which process runs the study (or ran it last, and how that ended); it is renewed while
the process lives. ``stop.json`` is a request to stop, which the driver sees within a second: it is how
``agesearch stop`` reaches a driver of another terminal, or of another host that shares the folder.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import IntEnum
from types import FrameType

import psutil

from agesearch.claims import machine_id
from agesearch.errors import AgeSearchError, first_line
from agesearch.machine import running_process
from agesearch.provenance import now
from agesearch.specs import Spec, SpecType, parse_spec
from agesearch.storage import Location

DRIVER_FILE = "driver.json"
STOP_FILE = "stop.json"

#: A driver on another host that has not renewed its file for this long counts as gone.
EXPIRY_S = 60.0
_RENEW_S = 10.0
_POLL_S = 0.5
#: On an object store each look is a request.
_POLL_FAR_S = 5.0

#: Interrupts a preparation. Not SIGINT: a program that a script starts in the background ignores that.
_INTERRUPT = signal.SIGUSR1


class Driver(Spec):
    """The process that runs a study. Times are UTC in ISO 8601.

    ``searching`` is when preparation was over, with ``finished_before`` trials finished by earlier runs;
    ``deadline`` is when its time is up; ``stopping`` says who asked it to stop; ``outcome`` and ``ended`` are
    empty while it runs, and stay so where it was killed.
    """

    pid: int
    host: str
    machine: str = ""
    born: float = 0.0
    began: str
    beat: str
    searching: str = ""
    finished_before: int = 0
    concurrency: int = 0
    dashboard: str | None = None
    deadline: str = ""
    stopping: str = ""
    outcome: str = ""
    ended: str = ""

    @property
    def is_live(self) -> bool:
        """Whether the process still runs: asked of this machine, or told by how lately it renewed its
        file.
        """
        if self.outcome:
            return False
        if self.machine and self.machine == machine_id():
            return running_process(self.pid, self.born) is not None
        return seconds_since(self.beat) < EXPIRY_S

    @property
    def words(self) -> str:
        """Who it is, for a person."""
        return f"process {self.pid} on '{self.host}'"


class StopRequest(Spec):
    """Somebody asks the driver to stop: with checkpoints of what runs, or ``now``."""

    now: bool = False
    asked: str
    by: str


class Urgency(IntEnum):
    """How soon a run is to stop: once running trials wrote a checkpoint, or now. Whichever it is, no finished
    epoch is lost.
    """

    NOT = 0
    WITH_CHECKPOINTS = 1
    NOW = 2


class Stopping:
    """Whether a run is asked to stop, and by whom. Signals and threads ask; the run looks."""

    def __init__(self) -> None:
        self.urgency = Urgency.NOT
        self.by = ""

    def ask(self, urgency: Urgency, by: str) -> None:
        """Stop at least this soon; a request is never taken back."""
        if urgency > self.urgency:
            self.urgency, self.by = urgency, by


class DriverHeartbeat:
    """Renews ``driver.json`` while the study runs, and watches for ``stop.json``."""

    def __init__(self, folder: Location) -> None:
        self.stopping = Stopping()
        self.outcome = "ended"
        self._folder = folder
        began = now()
        self._driver = Driver(
            pid=os.getpid(),
            host=socket.gethostname(),
            machine=machine_id(),
            born=psutil.Process().create_time(),
            began=began,
            beat=began,
        )
        self._searching = False
        is_main = threading.current_thread() is threading.main_thread()
        self._main = threading.main_thread().ident if is_main else None
        self._over = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="study driver", daemon=True)

    def start(self) -> None:
        """Say that this process runs the study; a request meant for an earlier run is forgotten."""
        (self._folder / STOP_FILE).delete()
        self._write()
        self._thread.start()

    def search_began(
        self, *, finished: int, concurrency: int, dashboard: str | None, deadline: float | None = None
    ) -> None:
        """Preparation is over; from here on a request to stop only asks, and interrupts nothing. ``deadline``
        is by ``time.monotonic``.
        """
        self._searching = True
        self._write(
            searching=now(),
            finished_before=finished,
            concurrency=concurrency,
            dashboard=dashboard,
            deadline="" if deadline is None else _moment(deadline - time.monotonic()),
        )

    def end(self) -> None:
        """Say how the run ended (``outcome``)."""
        self._over.set()
        self._thread.join()
        self._write(outcome=self.outcome, ended=now())
        (self._folder / STOP_FILE).delete()

    def _watch(self) -> None:
        next_beat = time.monotonic() + _RENEW_S
        while not self._over.wait(_POLL_S):
            request = read_request(self._folder)
            if request is not None:
                self._obey(request)
            if self.stopping.urgency and not self._driver.stopping:
                self._write(stopping=self.stopping.by)
            if time.monotonic() >= next_beat:
                self._write()
                next_beat = time.monotonic() + _RENEW_S

    def _obey(self, request: StopRequest) -> None:
        urgency = Urgency.NOW if request.now else Urgency.WITH_CHECKPOINTS
        first = self.stopping.urgency is Urgency.NOT
        self.stopping.ask(urgency, request.by)
        if first and not self._searching and self._main is not None:
            signal.pthread_kill(self._main, _INTERRUPT)  # nothing is trained yet: as Ctrl-C does

    def _write(self, **changes: object) -> None:
        with self._writing, suppress(AgeSearchError):  # a full disk must not end the study over this file
            self._driver = self._driver.model_copy(update={"beat": now(), **changes})
            (self._folder / DRIVER_FILE).write_json(self._driver.model_dump(mode="json"))


@contextmanager
def registered_driver(folder: Location) -> Iterator[DriverHeartbeat]:
    """Be the driver of a study for the length of the block: ``driver.json`` says so, and is renewed."""
    heartbeat = DriverHeartbeat(folder)
    with _interruptible():
        heartbeat.start()
        try:
            yield heartbeat
        except KeyboardInterrupt:
            heartbeat.outcome = "interrupted"
            raise
        except BaseException as error:
            heartbeat.outcome = f"{type(error).__name__}: {first_line(error)}"[:300]
            raise
        finally:
            heartbeat.end()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Within the block ``_INTERRUPT`` raises ``KeyboardInterrupt`` in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(_INTERRUPT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(_INTERRUPT, before)


@contextmanager
def signals_ask(stopping: Stopping) -> Iterator[None]:
    """Within the block the first Ctrl-C (or SIGTERM) asks to stop with checkpoints of what runs, the second
    to stop now, and the third raises ``KeyboardInterrupt``. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def heard(number: int, _: FrameType | None) -> None:
        if stopping.urgency is Urgency.NOW:
            raise KeyboardInterrupt
        by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        stopping.ask(Urgency(stopping.urgency + 1), by)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, heard) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_driver(folder: Location) -> Driver | None:
    """Who runs the study or ran it last; None where no file says so, or none that can be read."""
    return _read(Driver, folder / DRIVER_FILE)


def read_request(folder: Location) -> StopRequest | None:
    """A request to stop that waits; one that cannot be read asks for nothing."""
    return _read(StopRequest, folder / STOP_FILE)


def ask_to_stop(folder: Location, *, at_once: bool = False) -> Driver | None:
    """Ask the study's driver to stop; None where none runs (and nothing is written)."""
    driver = read_driver(folder)
    if driver is None or not driver.is_live:
        return None
    request = StopRequest(now=at_once, asked=now(), by=f"agesearch stop on '{socket.gethostname()}'")
    (folder / STOP_FILE).write_json(request.model_dump(mode="json"))
    return driver


def wait_until_stopped(
    folder: Location, driver: Driver, seconds: float, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Whether this driver ended within so many seconds."""
    end = time.monotonic() + seconds
    while True:
        current = read_driver(folder)
        if current is None or (current.pid, current.began) != (driver.pid, driver.began):
            return True
        if not current.is_live:
            return True
        if time.monotonic() >= end:
            return False
        sleep(_POLL_S if folder.is_local else _POLL_FAR_S)


def seconds_since(moment: str) -> float:
    """Seconds from a UTC time in ISO 8601 until now: negative for one to come, infinite for no such time."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    except (TypeError, ValueError):
        return math.inf


def _read(kind: type[SpecType], file: Location) -> SpecType | None:
    with suppress(AgeSearchError):
        if file.exists():
            return parse_spec(kind, file.read_json(), f"'{file}'")
    return None


def _moment(seconds_from_now: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds_from_now, UTC).isoformat(timespec="seconds")
