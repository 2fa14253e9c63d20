"""Charts as SVG: the same drawing stands in the HTML report (with hover details) and in a README.

A chart is plain data (``Chart``) that one Jinja template draws, so it needs no plotting library, no script to
be seen, weighs a few kilobytes and prints well. Coordinates in ``Mark`` and ``Polyline`` are data values;
axes turn them into pixels. A page holds each chart twice, laid out for a desk and, ``narrow``, for a phone:
letters keep their size on both.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from agesearch.reporting.charts.axes import Axis, padded_log, shortened
from agesearch.reporting.charts.labels import Box, Label, Named, level_places, placed, text_width

WIDTH, HEIGHT = 760, 440
NARROW, NARROW_HEIGHT = 362, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 16, 40, 52
_NARROW_LEFT, _NARROW_RIGHT = 52, 16  # a label of three digits is centred at the end of the axis

#: The legend's first row, from a row to the next, and what an entry is wider than its letters, in pixels.
_LEGEND_Y, _LEGEND_ROW, _ENTRY = 16.0, 20.0, 42.0

#: The width of a letter in pixels, on average, at the charts' font size.
_LETTER = 6.9
_LINE = 16.0

#: Half the side of a mark with what it needs to be told apart, in pixels.
_MARK = 11.5

Kind = Literal["front", "trial", "pruned", "teacher", "foreign", "picked"]

#: A longer name is cut: its mark's details have the whole.
_NAME_SHARE = 0.45

#: Marks whose intervals are drawn whole: the axis reaches beyond their ends.
_WHOLE = ("front", "teacher", "foreign", "picked")


@dataclass(frozen=True)
class Mark:
    """A point with its details (lines shown on hover), and a label beside it if it has one.
    ``low``..``high``: its interval; ``badge``: the number of the sign that tells its engine from others.
    """

    x: float
    y: float
    kind: Kind
    details: tuple[str, ...] = ()
    label: str = ""
    low: float | None = None
    high: float | None = None
    badge: int = 0


@dataclass(frozen=True)
class Polyline:
    """A line through points; ``steps`` draws it as a staircase."""

    points: Sequence[tuple[float, float]]
    kind: str
    details: tuple[str, ...] = ()
    steps: bool = False


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line with its name."""

    y: float
    label: str


@dataclass(frozen=True)
class Chart:
    """All that the template draws, in drawing order."""

    title: str
    x: Axis
    y: Axis
    curves: Sequence[Polyline] = ()
    marks: Sequence[Mark] = ()
    levels: Sequence[Level] = ()
    legend: Sequence[tuple[str, str]] = field(default_factory=tuple)
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def places(self) -> list[tuple[float, float, str, str]]:
        """The legend's entries in rows above the plot: pixels x and y, kind and name."""
        return _placed(self.legend, self.width)

    @property
    def labels(self) -> list[Label]:
        """The names of marks and levels, clear of marks and of each other."""
        plot = Box(self.x.start + 2, self.y.end + 1, self.x.end - 1, self.y.start - 1)
        letters = int(_NAME_SHARE * (plot.right - plot.left) / text_width("x"))
        named = [
            Named("name", self.x.at(mark.x), self.y.at(mark.y), shortened(mark.label, letters))
            for mark in self.marks
            if mark.label
        ]
        named += [self._named_level(level) for level in self.levels]
        return placed(named, map(self._box, self.marks), self._lines(), plot)

    @property
    def x_title(self) -> list[str]:
        """The title of the axis across, in lines that its width holds."""
        return textwrap.wrap(self.x.title, max(12, int((self.x.end - self.x.start) / _LETTER)))

    def narrow(self) -> Chart:
        """The same chart for the width of a phone."""
        return _laid_out(replace(self, width=NARROW, height=NARROW_HEIGHT))

    def path(self, curve: Polyline) -> str:
        """The SVG path of a curve; the template cuts it off at the plot's edges."""
        pixels = [(self.x.beyond(x), self.y.beyond(y)) for x, y in curve.points]
        parts = [f"M{pixels[0][0]:g} {pixels[0][1]:g}"]
        for x, y in pixels[1:]:
            parts.append(f"H{x:g}V{y:g}" if curve.steps else f"L{x:g} {y:g}")
        return "".join(parts)

    def whisker(self, mark: Mark) -> str:
        """The SVG path of a mark's interval: an end beyond the plot is an arrow, one within it a bar."""
        assert mark.low is not None  # the template looked
        assert mark.high is not None
        x = self.x.at(mark.x)
        parts = [f"M{x:g} {self.y.at(mark.low):g}V{self.y.at(mark.high):g}"]
        for value, up in ((mark.low, 1), (mark.high, -1)):
            at = self.y.at(value)
            tip = (
                f"M{x - 3:g} {at:g}h6"
                if self.y.holds(value)
                else f"M{x - 4:g} {at - 5 * up:g}l4 {5 * up}l4 {-5 * up}"
            )
            parts.append(tip)
        return "".join(parts)

    def _named_level(self, level: Level) -> Named:
        text = f"{level.label}: {level.y:.2f}"
        y = self.y.at(level.y)
        return Named("level-label", 0.0, y, text, level_places(text, y, self.x.start, self.x.end))

    def _box(self, mark: Mark) -> Box:
        x, y = self.x.at(mark.x), self.y.at(mark.y)
        return Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK)

    def _lines(self) -> Iterator[Box]:
        """Whiskers, levels and curves as thin rectangles."""
        for mark in self.marks:
            if mark.low is not None and mark.high is not None:
                x = self.x.at(mark.x)
                yield Box(x - 3, self.y.at(mark.high), x + 3, self.y.at(mark.low))
        for level in self.levels:
            y = self.y.at(level.y)
            yield Box(self.x.start, y - 1, self.x.end, y + 1)
        for curve in self.curves:
            pixels = [(self.x.at(x), self.y.at(y)) for x, y in curve.points]
            for (left, top), (right, bottom) in zip(pixels, pixels[1:], strict=False):
                yield Box(
                    min(left, right) - 1, min(top, bottom) - 1, max(left, right) + 1, max(top, bottom) + 1
                )


def laid_out(
    title: str,
    x: Axis,
    y: Axis,
    *,
    curves: Sequence[Polyline] = (),
    marks: Sequence[Mark] = (),
    levels: Sequence[Level] = (),
    legend: Sequence[tuple[str, str]] = (),
) -> Chart:
    """A chart for a desk; the pixels of its axes follow from its legend."""
    return _laid_out(Chart(title, x, y, curves, marks, levels, legend))


def axis(title: str, low: float, high: float, *, log: bool = False, whole: bool = False) -> Axis:
    """An axis of a chart, before it is laid out."""
    return Axis(title, low, high, start=0.0, end=1.0, log=log, whole=whole)


def front_chart(
    marks: Sequence[Mark],
    front: Sequence[tuple[float, float]],
    levels: Sequence[Level],
    *,
    x_title: str = "latency, ms a face (1 thread, log scale)",
    y_title: str = "validation MAE, years",
    picked: str = "picked student",
    engines: Sequence[str] = (),
) -> Chart:
    """Error against latency: ``front`` as a staircase (points by rising latency), everything else as marks.

    Points whose error is far above the rest are drawn at the upper edge, so that one diverged trial does not
    flatten all others; their details keep the true figure. ``picked`` is what the legend calls the report's
    student, ``engines`` are the names of the badges, from 0.
    """
    x = axis(x_title, *padded_log([mark.x for mark in marks]), log=True)
    errors = [mark.y for mark in marks]
    lows = [mark.low for mark in marks if mark.low is not None]
    y = _error_axis(y_title, [*errors, *lows], _whisker_ends(marks))
    kinds = {mark.kind for mark in marks}
    names = [
        ("front", "student on the front"),
        ("picked", picked),
        ("trial", "other trials"),
        ("pruned", "pruned"),
        ("teacher", "teacher"),
        ("foreign", "other models"),
    ]
    shown = sorted({mark.badge for mark in marks})
    badges = [
        (f"badge-{number}", engines[number] if number else f"no sign: {engines[0]}")
        for number in (shown if len(shown) > 1 else ())
        if number < len(engines)
    ]
    return laid_out(
        "Accuracy against speed",
        x,
        y,
        curves=[Polyline(_to_edge(front, x.high), "front", steps=True)] if front else [],
        marks=marks,
        levels=[level for level in levels if y.holds(level.y)],
        legend=[(kind, name) for kind, name in names if kind in kinds] + badges,
    )


def curves_chart(curves: Sequence[Polyline]) -> Chart:
    """Validation error by epoch, one line a trial."""
    epochs = [x for curve in curves for x, _ in curve.points]
    errors = [y for curve in curves for _, y in curve.points]
    kinds = {curve.kind for curve in curves}
    names = [("curve-picked", "picked trial"), ("curve-front", "on the front"), ("curve", "other trials")]
    return laid_out(
        "Learning curves",
        axis("epoch", 1, max(2, *epochs), whole=True),
        _error_axis("validation MAE, years", errors),
        curves=sorted(curves, key=lambda curve: [kind for kind, _ in names].index(curve.kind), reverse=True),
        legend=[(kind, name) for kind, name in names if kind in kinds],
    )


def share_chart(
    title: str,
    x_title: str,
    y_title: str,
    curves: Sequence[Polyline],
    goal: tuple[float, str],
    legend: Sequence[tuple[str, str]],
) -> Chart:
    """Shares of a whole against a count that starts at 0; curves of a kind ``band...`` are filled."""
    lines = [curve for curve in curves if not curve.kind.startswith("band")]
    last = max(1.0, *(x for curve in lines for x, _ in curve.points))
    level, name = goal
    return laid_out(
        title,
        axis(x_title, 0.0, last, whole=True),
        axis(y_title, 0.0, 1.05),
        curves=curves,
        levels=[Level(level, name)],
        legend=legend,
    )


def _laid_out(chart: Chart) -> Chart:
    """The axes on the pixels that the chart's size and its legend leave."""
    is_narrow = chart.width < WIDTH
    left, right = (_NARROW_LEFT, _NARROW_RIGHT) if is_narrow else (_LEFT, _RIGHT)
    rows = max([_LEGEND_Y, *(y for _, y, _, _ in chart.places)])
    wide = replace(chart, x=chart.x.laid(left, chart.width - right))
    bottom = chart.height - _BOTTOM - _LINE * (len(wide.x_title) - 1)
    return replace(wide, y=chart.y.laid(bottom, _TOP - _LEGEND_Y + rows))


def _placed(legend: Sequence[tuple[str, str]], width: float) -> list[tuple[float, float, str, str]]:
    left = float(_LEFT if width >= WIDTH else 8)
    placed: list[tuple[float, float, str, str]] = []
    x, y = left, _LEGEND_Y
    for kind, name in legend:
        wide = _ENTRY + _LETTER * len(name)
        if placed and x + wide > width:
            x, y = left, y + _LEGEND_ROW
        placed.append((x, y, kind, name))
        x += wide
    return placed


def _whisker_ends(marks: Sequence[Mark]) -> list[tuple[float, float]]:
    """Errors of marks and the upper ends of their intervals."""
    return [(mark.y, mark.high) for mark in marks if mark.high is not None and mark.kind in _WHOLE]


def _error_axis(title: str, values: Iterable[float], whiskers: Sequence[tuple[float, float]] = ()) -> Axis:
    """From a little below the smallest error to where the bulk ends: outliers end at the upper edge, but
    intervals of errors that are in sight are, too, whole.
    """
    ordered = sorted(value for value in values if math.isfinite(value))
    low, high = ordered[0], ordered[-1]
    middle = ordered[len(ordered) // 2]
    high = min(high, max(3.0 * middle - 2.0 * low, middle + 1.0))
    high = max([high, *(end for error, end in whiskers if error <= high)])
    room = max(0.08 * (high - low), 0.25)
    return axis(title, max(0.0, low - room), high + room)


def _to_edge(front: Sequence[tuple[float, float]], edge: float) -> list[tuple[float, float]]:
    return [*front, (edge, front[-1][1])]
