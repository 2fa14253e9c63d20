"""How long work tells its caller where it stands, without knowing about terminals.

A stage calls a ``Listener`` with ``Progress`` values; the command line draws them, a test collects them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
