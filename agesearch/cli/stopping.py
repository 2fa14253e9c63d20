"""Ctrl-C and SIGTERM: waiting for them, and what is said where they end work."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

from agesearch.cli.common import say
from agesearch.cli.quiet import EXIT_INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Seconds between two looks at whether what is waited for goes on.
_LOOK_S = 2.0


@contextmanager
def stopped(kept: Callable[[], str]) -> Iterator[None]:
    """End with exit code 130 where Ctrl-C or SIGTERM interrupts the block, after saying what ``kept`` tells:
    what is kept, and how to go on.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"Stopped. {kept()}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def goes_on(kept: str, folder: str) -> str:
    """What a command says that keeps what it did, and goes on with it when it is run again."""
    return f"{kept} are kept in '{folder}': the same command goes on."


@contextmanager
def interruptible(last_words: Callable[[], None], exit_code: int) -> Iterator[None]:
    """Within the block SIGTERM interrupts as Ctrl-C does: ``KeyboardInterrupt`` in the main thread, which
    takes down in order what was started. A second signal of either kind ends the process at once, after
    ``last_words``.

    What the program was started to ignore (SIGINT, of a script's background job) stays ignored.
    """
    heard: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        heard.append(number)
        if len(heard) > 1:
            last_words()
            os._exit(exit_code)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    kept = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in kept:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def until_stopped() -> Iterator[Callable[[Callable[[], bool]], bool]]:
    """Gives a function that waits until the process is asked to stop, or what it is given says that there is
    nothing left to wait for; it tells whether it was asked.

    Until it is called, a request to stop ends the block like Ctrl-C; afterwards a second request does.
    """
    asked = threading.Event()

    def remember(_: int, __: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    def wait(goes_on: Callable[[], bool]) -> bool:
        # Set here and not before: Ray sets handlers of its own when it starts.
        for number in SIGNALS:
            signal.signal(number, remember)
        while not asked.wait(timeout=_LOOK_S):
            if not goes_on():
                return False
        return True

    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        signal.signal(signal.SIGTERM, interrupt)
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
