"""How long work tells its caller where it stands, without knowing about terminals.

A stage calls a ``Listener`` with ``Progress`` values; the command line draws them, a test collects them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

#: Nothing is silent for longer than a few seconds: so often work of unknown length says that it goes on.
_HEARTBEAT_S = 2.0


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of ``stage`` (``total`` None: unknown), ``failed`` among them, and a short
    note.
    """

    stage: str
    done: int
    total: int | None = None
    failed: int = 0
    note: str = ""


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The listener of callers that want no progress."""


@contextmanager
def waiting(on_progress: Listener, stage: str) -> Iterator[Callable[[], None]]:
    """Say every few seconds that work of unknown length goes on, until the block ends, or calls what it is
    given.
    """
    began = time.monotonic()

    def note() -> str:
        return f"{time.monotonic() - began:.0f} s"

    on_progress(Progress(stage, 0))
    with ExitStack() as stack:
        stack.callback(lambda: on_progress(Progress(stage, 1, 1, note=note())))
        stack.enter_context(spoken_every(_HEARTBEAT_S, lambda: on_progress(Progress(stage, 0, note=note()))))
        yield stack.close


@contextmanager
def repeated(on_progress: Listener) -> Iterator[Listener]:
    """A listener that says its last words again every few seconds: a unit of work may take longer."""
    last: list[Progress] = []

    def listen(update: Progress) -> None:
        last[:] = [update]
        on_progress(update)

    def again() -> None:
        for update in last:
            on_progress(update)

    with spoken_every(_HEARTBEAT_S, again):
        yield listen


@contextmanager
def spoken_every(seconds: float, speak: Callable[[], None]) -> Iterator[None]:
    """Calls ``speak`` so often, in a thread of its own, until the block ends."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            speak()

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
