"""The watchdog of running trials: which have gone silent, and which may be taken up again after a death.
Pure.

A process may die for reasons that are not its trial's: a killed worker, a node that goes down. What tells
the two apart is progress. A trial whose process ends twice without a finished epoch between the two is taken
to be the cause and FAILs; each epoch that it finishes clears its record. A lost node says less about the
trial, so it takes more of them; the death of the driver says nothing, and a resumed study counts from zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

#: Deaths in a row, without a finished epoch between them, that a trial is taken up again after.
MAX_DEATHS = 1
MAX_LOST_NODES = 3

#: By default a trial is hung that gives no sign of life for so long: it finishes no epoch and gets no further
#: in one ...
STALL_MINUTES = 10.0
#: ... or for so many times the slowest epoch of the run, where that is more;
_SLOWEST = 20.0
#: while it is not known how long an epoch takes, for so many times the first.
_FIRST = 3.0
#: A driver that did not look for so long stood still itself: its trials waited for it.
_STOOD_STILL_S = 5.0


@dataclass(frozen=True)
class Death:
    """How a trial's process ended; ``of_node`` where its whole machine was lost."""

    reason: str
    of_node: bool = False


class Deaths:
    """Counts each trial's deaths since its last finished epoch."""

    def __init__(self) -> None:
        self._since_progress: dict[int, list[Death]] = {}

    def progressed(self, number: int) -> None:
        """The trial finished an epoch, or is over."""
        self._since_progress.pop(number, None)

    def died(self, number: int, death: Death) -> bool:
        """Note a death; whether the trial may be taken up again."""
        deaths = self._since_progress.setdefault(number, [])
        deaths.append(death)
        lost = sum(other.of_node for other in deaths)
        return len(deaths) - lost <= MAX_DEATHS and lost <= MAX_LOST_NODES

    def verdict(self, number: int, epochs: int) -> str:
        """Why the trial is given up, after ``epochs`` finished ones."""
        deaths = self._since_progress[number]
        alike = sum(death.reason == deaths[-1].reason for death in deaths)
        times = "" if alike == 1 else ", twice" if alike == 2 else f", {alike} times"
        where = f"{times} after epoch {epochs}" if epochs else f"{times} before its first epoch"
        others = [death.reason for death in deaths if death.reason != deaths[-1].reason]
        return (
            deaths[-1].reason
            + (where if len(deaths) > 1 else "")
            + (f" (before that: {others[-1]})" if others else "")
        )


class Watchdog:
    """Tells the trials that have reported nothing for too long.

    Too long is ``stall_s``, or twenty times the slowest epoch of the run where that is more: an epoch may be
    slow, and how slow is not known before one is over.
    """

    def __init__(self, stall_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall_s = stall_s
        self._clock = clock
        self._heard: dict[int, float] = {}
        self._alive: dict[int, float] = {}  # when it got further in an epoch, which may take hours
        self._fresh: set[int] = set()
        self._slowest: float | None = None
        self._looked = clock()

    @property
    def limit_s(self) -> float:
        """Seconds of silence after which a trial counts as hung."""
        if self._slowest is None:
            return _FIRST * self._stall_s
        return max(self._stall_s, _SLOWEST * self._slowest)

    def began(self, number: int) -> None:
        """A process is ready for the trial."""
        self._heard[number] = self._clock()
        self._fresh.add(number)  # its first epoch takes the time in which it opens its faces, too

    def heard(self, number: int) -> None:
        """The trial finished an epoch."""
        now = self._clock()
        if number in self._heard and number not in self._fresh:
            self._slowest = max(self._slowest or 0.0, now - self._heard[number])
        self._fresh.discard(number)
        self._heard[number] = now

    def moved(self, number: int) -> None:
        """The trial got further in its epoch."""
        if number in self._heard:
            self._alive[number] = self._clock()

    def over(self, number: int) -> None:
        """The trial's process works for it no more."""
        self._heard.pop(number, None)
        self._alive.pop(number, None)
        self._fresh.discard(number)

    def hung(self) -> dict[int, str]:
        """The trials that are hung and why, in words; each is told once."""
        now, since = self._clock(), self._looked
        self._looked = now
        if now - since > _STOOD_STILL_S:
            self._heard = {number: heard + now - since for number, heard in self._heard.items()}
            self._alive = {number: alive + now - since for number, alive in self._alive.items()}
        limit = self.limit_s
        last = {number: max(heard, self._alive.get(number, heard)) for number, heard in self._heard.items()}
        found = {number: now - heard for number, heard in last.items() if now - heard > limit}
        for number in found:
            self.over(number)
        return {number: f"hung: no progress for {_span(silent)}" for number, silent in found.items()}


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
