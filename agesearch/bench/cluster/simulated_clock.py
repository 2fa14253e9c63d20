"""A clock that moves on by what one thread really spends, and for nothing where that thread only waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any


class SimulatedClock:
    """``now`` in seconds since it was made; ``driver`` of them were spent, the others waited for.

    ``spent`` counts the seconds that the process has used so far, on the wall or on the processor.
    """

    def __init__(self, spent: Callable[[], float]) -> None:
        self.now = 0.0
        self.driver = 0.0
        self._spent = spent
        self._unpaid = 0.0
        self._last = self.paid()

    def paid(self) -> float:
        """Seconds spent so far, without those of ``unpaid`` blocks."""
        return self._spent() - self._unpaid

    def charge(self, extra: float = 0.0) -> float:
        """Move on by what was spent since the last charge, and by ``extra``; returns the time."""
        paid = self.paid()
        cost, self._last = paid - self._last + extra, paid
        self.driver += cost
        self.now += cost
        return self.now

    def wait_until(self, moment: float) -> None:
        """Move on to a moment, for nothing; never back."""
        self.now = max(self.now, moment)

    @contextmanager
    def unpaid(self) -> Iterator[None]:
        """What happens in this block is the simulation's own work, and costs nothing."""
        began = self._spent()
        try:
            yield
        finally:
            self._unpaid += self._spent() - began


class Meter:
    """Tells what the seconds of a clock were spent on: each belongs to the innermost watched call."""

    def __init__(self, clock: SimulatedClock, rest: str) -> None:
        self.seconds: dict[str, float] = {rest: 0.0}
        self._clock = clock
        self._labels = [rest]
        self._last = clock.paid()

    def watch(self, owner: Any, name: str, label: str) -> None:
        """Put the calls of a method of ``owner`` under ``label``."""
        method = getattr(owner, name)

        @wraps(method)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.note()
            self._labels.append(label)
            try:
                return method(*args, **kwargs)
            finally:
                self.note()
                self._labels.pop()

        setattr(owner, name, watched)

    def note(self) -> None:
        """Give what was spent since the last note to the label of the moment."""
        paid = self._clock.paid()
        label = self._labels[-1]
        self.seconds[label] = self.seconds.get(label, 0.0) + paid - self._last
        self._last = paid


def busy_share(trained: list[tuple[float, float]], slots: int, begin: float, end: float) -> float:
    """The share of ``slots`` x (``end`` - ``begin``) that the (first, last) seconds of ``trained`` cover."""
    if end <= begin:
        return 0.0
    inside = sum(max(0.0, min(last, end) - max(first, begin)) for first, last in trained)
    return inside / (slots * (end - begin))
