"""Where the names of a chart's marks and levels go, so that none lies on a mark, a whisker or another name.

Each label tries some places around what it names, the nearest first; one that has to go farther away gets a
leader line. A label stays inside the plot. Where nothing is free, the place with the least overlap is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

#: The width of a letter and the height of a line of a name, in pixels, at the charts' font size.
_LETTER, _LINE = 8.0, 16.0
#: How far the places lie from a mark's middle, in pixels; beyond the first there is a leader line.
_RINGS = (14.0, 30.0, 48.0, 70.0, 96.0, 130.0, 170.0)
_DIRECTIONS = 12
#: A line drawn through a label is less in the way than a mark under it; every place farther away costs as
#: much as so many square pixels of a mark.
_LINES_WEIGH, _FAR = 0.15, 6.0


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area that two rectangles share."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * high if wide > 0 and high > 0 else 0.0

    def holds(self, other: Box) -> bool:
        """Whether the other lies inside."""
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.right <= self.right
            and other.bottom <= self.bottom
        )


@dataclass(frozen=True)
class Named:
    """What is to be named: the class of its text, the middle of its mark, and the text. ``places`` are the
    boxes to try in its stead, the first that is free is taken.
    """

    kind: str
    x: float
    y: float
    text: str
    places: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Label:
    """A placed name: its box, the pixels and the anchor of its text, and the path of its leader line."""

    kind: str
    text: str
    box: Box
    x: float
    y: float
    anchor: str
    leader: str = ""


def text_width(text: str) -> float:
    """The width of a name in pixels, on average."""
    return _LETTER * len(text)


def level_places(text: str, y: float, left: float, right: float) -> tuple[Box, ...]:
    """Where the name of a horizontal line may stand: above or below it, at an end of it or between."""
    wide = text_width(text)
    ends = [right - 4 - wide, left + 4, (left + right - wide) / 2]
    return tuple(
        Box(start, top, start + wide, top + _LINE) for start in ends for top in (y - _LINE - 2, y + 3)
    )


def placed(named: Sequence[Named], marks: Iterable[Box], lines: Iterable[Box], plot: Box) -> list[Label]:
    """A place for each name: clear of ``marks``, and where that can be had of ``lines`` and other names."""
    hard, soft, found = list(marks), list(lines), []
    for one in named:
        choices = list(_choices(one))
        inside = [choice for choice in choices if plot.holds(choice.box)] or choices
        costs = [_cost(at.box, hard, soft) + _FAR * (place // _DIRECTIONS) for place, at in enumerate(inside)]
        best = inside[costs.index(min(costs))]
        hard.append(best.box)
        found.append(best)
    return found


def _cost(box: Box, hard: Sequence[Box], soft: Sequence[Box]) -> float:
    return round(
        sum(box.overlap(other) for other in hard) + _LINES_WEIGH * sum(box.overlap(other) for other in soft),
        3,
    )


def _choices(one: Named) -> Iterator[Label]:
    wide = text_width(one.text)
    for box in one.places:
        yield Label(one.kind, one.text, box, round(box.left, 1), round(box.bottom - 4, 1), "start")
    if one.places:
        return
    for ring, distance in enumerate(_RINGS):
        for step in range(_DIRECTIONS):
            # Right and a little up first, then left, then all around.
            turn = (1, 5, 11, 7, 0, 6, 2, 4, 10, 8, 3, 9)[step] * 2.0 * math.pi / _DIRECTIONS
            across, up = math.cos(turn), -math.sin(turn)
            x, y = one.x + across * distance, one.y + up * distance
            start = x if across > 0.2 else x - wide if across < -0.2 else x - wide / 2
            top = y - _LINE / 2 + (up * _LINE / 2)
            box = Box(start, top, start + wide, top + _LINE)
            leader = ""
            if ring > 0:
                near = 9.0 / distance
                end_x = min(max(one.x, box.left), box.right)
                end_y = min(max(one.y, box.top + 2), box.bottom - 2)
                leader = (
                    f"M{one.x + (end_x - one.x) * near:.1f} {one.y + (end_y - one.y) * near:.1f}"
                    f"L{end_x:.1f} {end_y:.1f}"
                )
            anchor, at = ("start", box.left) if across > 0.2 else ("middle", x)
            if across < -0.2:
                anchor, at = "end", box.right
            yield Label(one.kind, one.text, box, round(at, 1), round(top + 12, 1), anchor, leader)
