"""How a training is asked to stop within an epoch: it writes a checkpoint and ends, and goes on from there.

A request is a file in the training's folder, so that it reaches whichever process trains, on whichever host.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

from agesearch.errors import AgeSearchError
from agesearch.storage import Location

#: Beside the checkpoint, so that it goes with it.
REQUEST = "checkpoint/stop"

#: Ctrl-C, what batch systems send, and what ``agesearch stop`` sends to a study that is being prepared.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class TrainingStopped(AgeSearchError):  # noqa: N818 - named for what happened
    """The training was asked to stop, and did, with a checkpoint, in this epoch (from 0)."""

    @classmethod
    def within(cls, epoch: int) -> Self:
        return cls(f"The training was asked to stop in epoch {epoch + 1}; its checkpoint is kept.")


def request_stop(folder: Location) -> None:
    """Ask the training in a folder to write its checkpoint and end."""
    with suppress(AgeSearchError):  # on a full disk it goes on to the end of its epoch
        (folder / REQUEST).write_text("")


def stop_requested(folder: Location) -> bool:
    """Whether the training was asked to stop."""
    return (folder / REQUEST).exists()


def withdraw_stop(folder: Location) -> None:
    """Forget a request that an earlier run left."""
    (folder / REQUEST).delete()


@contextmanager
def signals_stop(folder: Location) -> Iterator[None]:
    """Within the block the first Ctrl-C or SIGTERM asks the training in ``folder`` to stop; a second one does
    what it did before the block. A training that stopped raises ``KeyboardInterrupt``, as Ctrl-C does.

    Outside the main thread, and of a signal that the program ignores or that ends it, nothing changes.
    """
    withdraw_stop(folder)
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
    asked: list[int] = []

    def heard(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 1:
            request_stop(folder)
        else:
            before[signal.Signals(number)](number, frame)

    before = {number: handler for number, handler in before.items() if callable(handler)}
    for number in before:
        signal.signal(number, heard)
    try:
        yield
    except TrainingStopped as stopped:
        raise KeyboardInterrupt from stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        withdraw_stop(folder)
