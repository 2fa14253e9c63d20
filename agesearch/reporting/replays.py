"""The charts of replays: hypervolume against epochs or seconds spent, one line a strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from agesearch.reporting.charts.plots import Chart, Polyline, share_chart
from agesearch.reporting.pages import environment
from agesearch.search.replay.engine import Unit
from agesearch.search.replay.strategies import made
from agesearch.search.replay.summary import GOAL, Comparison, Line
from agesearch.search.replay.tables import HeldOut, overall
from agesearch.storage import Location

#: Lines that are drawn, each in a colour of its own (``chart.css``); what is beyond is in the table only.
_KINDS = 8
#: The colours that stay: what ``tune`` does stands out, and what everybody beats stays behind.
_OWN = {"default": 3, "random": 1}

_UNITS: tuple[Unit, Unit] = ("epochs", "seconds")


def write_replay_figures(found: Sequence[Comparison], file: Location) -> list[Location]:
    """Draw a comparison as an SVG file, or the one over all tables where there are several; where seconds are
    known, a second file beside it is by seconds, over the tables that have them, ``NAME-seconds.svg``.
    Returns what was written.
    """
    template = environment().get_template("figure.svg.j2")
    files = dict(zip([file, _beside(file)], _charts(found), strict=False))
    for place, chart in files.items():
        place.write_text(template.render(chart=chart))
    return list(files)


def write_replay_page(found: Sequence[Comparison], file: Location, held_out: Sequence[HeldOut] = ()) -> None:
    """Write charts and figures as one HTML page: over all tables where there are several, then each."""
    template = environment().get_template("replay.html.j2")
    sections = [(table, _charts([table])) for table in found]
    several = len(found) > 1
    file.write_text(
        template.render(
            sections=sections,
            overall=overall(found) if several else [],
            overall_charts=_charts(found) if several else [],
            held_out=held_out,
            about=lambda name: made(name).about,
            goal=GOAL,
        )
    )


def replay_chart(found: Comparison, unit: Unit = "epochs") -> Chart:
    """Medians over bands from the 10th to the 90th percentile of the seeds."""
    seeds = max(row.seeds for row in found.rows)
    return _drawn(
        found.lines if unit == "epochs" else found.lines_s,
        f"Hypervolume by {unit} spent",
        f"{unit} of training spent, {found.configurations} configurations in all",
        f"median of {seeds} seeds; band: 10th to 90th percentile",
    )


def overall_chart(found: Sequence[Comparison], unit: Unit) -> Chart:
    """Medians of all tables over bands from the worst table to the best."""
    lines = [[*(table.lines if unit == "epochs" else table.lines_s)] for table in found]
    return _drawn(
        [_over_tables(same) for same in zip(*lines, strict=True)],
        f"Hypervolume by {unit} spent, tables: {', '.join(table.table for table in found)}",
        f"{unit} of training spent, % of what random search spends on the whole table, {len(found)} tables",
        f"median of {len(found)} tables; band: the worst to the best of them",
    )


def _charts(found: Sequence[Comparison]) -> list[Chart]:
    """By epochs, and by seconds over those that have them, if any."""
    timed = [table for table in found if table.lines_s]
    if len(found) == 1:
        return [replay_chart(table, unit) for unit, table in zip(_UNITS, [*found, *timed], strict=False)]
    return [overall_chart(some, unit) for unit, some in zip(_UNITS, (found, timed), strict=True) if some]


def _over_tables(lines: Sequence[Line]) -> Line:
    """One strategy's medians on all tables as one line, by the share of what random search spends."""
    medians = np.array([line.median for line in lines])
    percent = 100 * np.array(lines[0].spent) / lines[0].spent[-1]
    ways: list[Callable[..., np.ndarray]] = [np.median, np.min, np.max]
    return Line(
        lines[0].strategy, tuple(percent.tolist()), *(tuple(w(medians, axis=0).tolist()) for w in ways)
    )


def _drawn(lines: Sequence[Line], title: str, x_title: str, details: str) -> Chart:
    drawn = list(zip(lines[:_KINDS], _colours(lines[:_KINDS]), strict=True))
    curves = [curve for line, colour in reversed(drawn) for curve in _curves(line, colour, details)]
    curves.sort(key=lambda curve: not curve.kind.startswith("band"))  # lines lie on top of all bands
    return share_chart(
        title,
        x_title,
        "share of the record's hypervolume",
        curves,
        goal=(GOAL, "goal"),
        legend=[(f"curve-{colour}", line.strategy) for line, colour in drawn],
    )


def _colours(lines: Sequence[Line]) -> list[int]:
    names = [line.strategy for line in lines]
    taken = {_OWN[name] for name in names if name in _OWN}
    free = iter([colour for colour in (4, 2, 5, 6, 7, 8, 3, 1) if colour not in taken])
    return [_OWN[name] if name in _OWN else next(free) for name in names]


def _curves(line: Line, colour: int, details: str) -> list[Polyline]:
    lower = list(zip(line.spent, line.low, strict=True))
    upper = list(zip(line.spent, line.high, strict=True))
    middle = list(zip(line.spent, line.median, strict=True))
    band = Polyline([*lower, *reversed(upper)], f"band-{colour}")
    return [band, Polyline(middle, f"curve-{colour}", (line.strategy, details))]


def _beside(file: Location) -> Location:
    stem, dot, ending = file.name.rpartition(".")
    return file.parent / (f"{stem}-seconds.{ending}" if dot else f"{file.name}-seconds")
