"""Axes of all charts: from data values to pixels, round values for their ticks, ranges with room around data.

``axes.svg.j2`` draws an axis' ticks. Every chart lays its values out through these, so that ticks look and
round alike wherever they stand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

#: An axis has at most about this many ticks, each with so many pixels across or up.
_TICKS = 8
_ACROSS, _UP = 75.0, 42.0

#: The width of a letter of a tick's label, the least room between two labels, and a line's height, in pixels.
_LETTER, _GAP, _LINE = 7.0, 8.0, 14.0


def plain_number(value: float) -> str:
    """``0.5``, ``12``."""
    return f"{value:g}"


def counted(value: float) -> str:
    """``12,000``."""
    return f"{value:,.0f}"


@dataclass(frozen=True)
class Axis:
    """Values ``low..high`` laid out on pixels ``start..end``, linearly or by their logarithm.

    ``whole``: ticks are whole numbers; ``most`` bounds their number, ``written`` says how they are labelled.
    """

    title: str
    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False
    most: int = _TICKS
    written: Callable[[float], str] = plain_number

    def at(self, value: float) -> float:
        """The pixel of a value, kept inside the axis."""
        return self.beyond(min(max(value, self.low), self.high))

    def beyond(self, value: float) -> float:
        """The pixel of a value, wherever that lies."""
        return round(self.start + self.share(value) * (self.end - self.start), 2)

    def share(self, value: float) -> float:
        """How far along the axis a value lies: 0 at its low end, 1 at its high end (0 where both are one)."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low) if high > low else 0.0

    def holds(self, value: float) -> bool:
        """Whether the value lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self) -> list[tuple[float, str]]:
        """Pixels and labels of round values; one that has no room beside the label before it is empty."""
        if self.log:
            values = _log_ticks(self.low, self.high)
        else:
            values = linear_ticks(self.low, self.high, self.most, smallest=1.0 if self.whole else 0.0)
        found: list[tuple[float, str]] = []
        free = -math.inf
        for at, label in ((self.at(value), self.written(value)) for value in values):
            half = 0.5 * (_LETTER * len(label) + _GAP) if self.is_across else 0.5 * _LINE
            place = at if self.is_across else -at
            fits = place - half >= free
            found.append((at, label if fits else ""))
            free = place + half if fits else free
        return found

    @property
    def is_across(self) -> bool:
        """Whether it runs from left to right, and not up: pixels count from the top."""
        return self.end >= self.start

    def laid(self, start: float, end: float) -> Axis:
        """The same axis on other pixels, with about as many ticks as have room there."""
        room = abs(end - start) / (_ACROSS if end >= start else _UP)
        return replace(self, start=start, end=end, most=max(3, min(_TICKS, round(room))))


@dataclass(frozen=True)
class Bands:
    """An axis of names: each has a band of ``size`` pixels, from ``start`` on."""

    start: float
    size: float

    def edge(self, index: int) -> float:
        """Where a band begins."""
        return self.start + index * self.size

    def middle(self, index: int) -> float:
        """The middle of a band."""
        return self.start + (index + 0.5) * self.size


def linear_ticks(low: float, high: float, most: int = _TICKS, smallest: float = 0.0) -> list[float]:
    """Round values from ``low`` to ``high``, about ``most`` of them, ``smallest`` apart at least."""
    rough = max((high - low) / most, smallest)
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def padded(values: Sequence[float], share: float = 0.08, least: float = 0.5) -> tuple[float, float]:
    """The range of ``values`` with room on both sides: a share of it, ``least`` where they are all one."""
    room = share * (max(values) - min(values)) or least
    return min(values) - room, max(values) + room


def padded_log(values: Sequence[float], factor: float = 1.25) -> tuple[float, float]:
    """The range of positive ``values`` with as much room on both sides of a logarithmic axis."""
    return min(values) / factor, max(values) * factor


def shortened(name: str, letters: int) -> str:
    """A name that fits; of a longer one the end is left out, which its tooltip holds."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def _log_ticks(low: float, high: float) -> list[float]:
    factors: tuple[float, ...] = (1, 2, 5) if high / low < 1000 else (1,)
    if high / low < 4:
        factors = (1, 1.5, 2, 3, 4, 5, 6, 8)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in factors]
    return [value for value in values if low <= value <= high]
