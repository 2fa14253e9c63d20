"""Plots made of characters: a learning curve as a sparkline, a front as a scatter plot. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-=+*#@"

#: What a trial looks like in a scatter plot: beaten, and on the front.
_MARKS = {False: ("·", "●"), True: (".", "o")}

Point = tuple[float, float]
Item = TypeVar("Item")


def sparkline(
    values: Sequence[float],
    width: int,
    *,
    low: float | None = None,
    high: float | None = None,
    ascii_only: bool = False,
) -> str:
    """The values as at most ``width`` blocks, the last value always shown; scaled to ``low``..``high``, or to
    their own range.

    Values that are no numbers are spaces.
    """
    shown = thinned(values, width)
    finite = [value for value in shown if math.isfinite(value)]
    if not finite:
        return " " * len(shown)
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    bottom = min(finite) if low is None else low
    span = (max(finite) if high is None else high) - bottom
    top = len(blocks) - 1

    def block(value: float) -> str:
        if not math.isfinite(value):
            return " "
        share = (value - bottom) / span if span > 0 else 0.0
        return blocks[round(top * min(1.0, max(0.0, share)))]

    return "".join(map(block, shown))


def scatter(
    points: Sequence[Point],
    front: Sequence[Point],
    width: int,
    height: int,
    *,
    ascii_only: bool = False,
) -> list[str]:
    """Error over latency as ``height`` lines of ``width`` characters; empty where there is nothing to draw.

    ``points`` and ``front`` are (latency ms, error years); latency is on a log scale. An error far above the
    front's is drawn at the upper edge, whose label then begins with ``>``: a diverged trial shall not flatten
    the rest.
    """
    known = [point for point in (*points, *front) if all(map(math.isfinite, point)) and point[0] > 0]
    if not known or width < 20 or height < 4:
        return []
    x_low, x_high = _range([math.log(x) for x, _ in known])
    errors = [y for _, y in dict.fromkeys(known)]
    shown = _without_outliers(errors, [y for _, y in front])
    y_low, y_high = _range(shown)
    labels = [f"{'>' if len(shown) < len(errors) else ''}{y_high:.1f}", f"{y_low:.1f}"]
    margin = max(map(len, labels))
    columns, rows = width - margin - 2, height - 2
    grid = [[" "] * columns for _ in range(rows)]
    beaten, best = _MARKS[ascii_only]
    for marked, mark in ((points, beaten), (front, best)):
        for x, y in marked:
            if math.isfinite(x) and math.isfinite(y) and x > 0:
                column = round((math.log(x) - x_low) / (x_high - x_low) * (columns - 1))
                row = round(min(1.0, (y_high - y) / (y_high - y_low)) * (rows - 1))
                grid[max(0, row)][column] = mark
    sides = [labels[0], *([""] * (rows - 2)), labels[1]] if rows > 1 else labels[:1]
    bar, corner, line = ("|", "+", "-") if ascii_only else ("│", "└", "─")
    lines = [f"{side:>{margin}} {bar}{''.join(cells)}" for side, cells in zip(sides, grid, strict=True)]
    left, right = _number(math.exp(x_low)), f"{_number(math.exp(x_high))} ms"
    legend = f"{best} front  {beaten} beaten"
    gap = columns - len(left) - len(right)
    between = legend if len(legend) + 4 <= gap else ""
    lines.append(f"{'':{margin}} {corner}{line * columns}")
    lines.append(f"{'':{margin + 2}}{left}{between:^{max(1, gap)}}{right}"[:width])
    return [text.rstrip() for text in lines]


def thinned(values: Sequence[Item], width: int) -> list[Item]:
    """At most ``width`` values, evenly spread, with the first and the last."""
    count = len(values)
    if count <= width:
        return list(values)
    if width < 2:
        return list(values[-1:]) if width else []
    return [values[round(index * (count - 1) / (width - 1))] for index in range(width)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Their range, widened where it is a point."""
    low, high = min(values), max(values)
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)


def _without_outliers(values: list[float], front: list[float]) -> list[float]:
    """The values, none further above the front's worst than the front (or the best two thirds) is wide."""
    ordered = sorted(values)
    best, usual = ordered[0], ordered[2 * len(ordered) // 3]
    reach = max([usual, *front])
    limit = reach + max(reach - best, 1.0)
    return [value for value in ordered if value <= limit]


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
