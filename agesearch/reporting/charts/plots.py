"""Charts as SVG: the same drawing stands in the HTML report (with hover details) and in a README.

A chart is plain data (``Chart``) that one Jinja template draws, so it needs no plotting library, no script to
be seen, weighs a few kilobytes and prints well. Coordinates in ``Mark`` and ``Polyline`` are data values;
axes turn them into pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from agesearch.reporting.charts.axes import Axis, padded_log

WIDTH, HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 16, 40, 52

#: The legend's first row, from a row to the next, and what an entry is wider than its letters, in pixels.
_LEGEND_Y, _LEGEND_ROW, _ENTRY = 16.0, 20.0, 42.0

#: The width of a letter in pixels, on average, at the charts' font size.
_LETTER = 6.9

Kind = Literal["front", "trial", "pruned", "teacher", "picked"]


@dataclass(frozen=True)
class Mark:
    """A point with its details (lines shown on hover), and a label beside it if it has one.
    ``low``..``high``: its interval.
    """

    x: float
    y: float
    kind: Kind
    details: tuple[str, ...] = ()
    label: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Polyline:
    """A line through points; ``steps`` draws it as a staircase."""

    points: Sequence[tuple[float, float]]
    kind: str
    details: tuple[str, ...] = ()
    steps: bool = False


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line with its name above or ``below``."""

    y: float
    label: str
    below: bool = False


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
        return _placed(self.legend)

    def path(self, curve: Polyline) -> str:
        """The SVG path of a curve; the template cuts it off at the plot's edges."""
        pixels = [(self.x.beyond(x), self.y.beyond(y)) for x, y in curve.points]
        parts = [f"M{pixels[0][0]:g} {pixels[0][1]:g}"]
        for x, y in pixels[1:]:
            parts.append(f"H{x:g}V{y:g}" if curve.steps else f"L{x:g} {y:g}")
        return "".join(parts)


def front_chart(
    marks: Sequence[Mark], front: Sequence[tuple[float, float]], levels: Sequence[Level]
) -> Chart:
    """Error against latency: ``front`` as a staircase (points by rising latency), everything else as marks.

    Points whose error is far above the rest are drawn at the upper edge, so that one diverged trial does not
    flatten all others; their details keep the true figure.
    """
    x = Axis(
        "latency, ms a face (1 thread, log scale)",
        *padded_log([mark.x for mark in marks]),
        start=_LEFT,
        end=WIDTH - _RIGHT,
        log=True,
    )
    errors = [mark.y for mark in marks]
    y = _error_axis("validation MAE, years", [*errors, *(mark.low for mark in marks if mark.low is not None)])
    kinds = {mark.kind for mark in marks}
    names = [
        ("front", "trial on the front"),
        ("picked", "picked trial"),
        ("trial", "other trials"),
        ("pruned", "pruned"),
        ("teacher", "teacher"),
    ]
    return Chart(
        title="Accuracy against speed",
        x=x,
        y=y,
        curves=[Polyline(_to_edge(front, x.high), "front", steps=True)] if front else [],
        marks=marks,
        levels=[level for level in levels if y.holds(level.y)],
        legend=[(kind, name) for kind, name in names if kind in kinds],
    )


def curves_chart(curves: Sequence[Polyline]) -> Chart:
    """Validation error by epoch, one line a trial."""
    epochs = [x for curve in curves for x, _ in curve.points]
    errors = [y for curve in curves for _, y in curve.points]
    x = Axis("epoch", 1, max(2, *epochs), start=_LEFT, end=WIDTH - _RIGHT, whole=True)
    kinds = {curve.kind for curve in curves}
    names = [("curve-picked", "picked trial"), ("curve-front", "on the front"), ("curve", "other trials")]
    return Chart(
        title="Learning curves",
        x=x,
        y=_error_axis("validation MAE, years", errors),
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
    below_legend = _TOP - _LEGEND_Y + max([_LEGEND_Y, *(y for _, y, _, _ in _placed(legend))])
    return Chart(
        title=title,
        x=Axis(x_title, 0.0, last, start=_LEFT, end=WIDTH - _RIGHT, whole=True),
        y=Axis(y_title, 0.0, 1.05, start=HEIGHT - _BOTTOM, end=below_legend),
        curves=curves,
        levels=[Level(level, name, below=True)],
        legend=legend,
    )


def _placed(legend: Sequence[tuple[str, str]]) -> list[tuple[float, float, str, str]]:
    placed: list[tuple[float, float, str, str]] = []
    x, y = float(_LEFT), _LEGEND_Y
    for kind, name in legend:
        wide = _ENTRY + _LETTER * len(name)
        if placed and x + wide > WIDTH:
            x, y = float(_LEFT), y + _LEGEND_ROW
        placed.append((x, y, kind, name))
        x += wide
    return placed


def _error_axis(title: str, values: Iterable[float]) -> Axis:
    """From a little below the smallest error to where the bulk ends: outliers end at the upper edge."""
    ordered = sorted(value for value in values if math.isfinite(value))
    low, high = ordered[0], ordered[-1]
    middle = ordered[len(ordered) // 2]
    high = min(high, max(3.0 * middle - 2.0 * low, middle + 1.0))
    room = max(0.08 * (high - low), 0.25)
    return Axis(title, max(0.0, low - room), high + room, start=HEIGHT - _BOTTOM, end=_TOP)


def _to_edge(front: Sequence[tuple[float, float]], edge: float) -> list[tuple[float, float]]:
    return [*front, (edge, front[-1][1])]
