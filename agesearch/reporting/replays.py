"""The chart of a replay: hypervolume against epochs spent, one line a strategy, with the spread of its
seeds.
"""

from __future__ import annotations

from agesearch.reporting.charts.plots import Chart, Polyline, share_chart
from agesearch.reporting.pages import environment
from agesearch.search.replay.strategies import made
from agesearch.search.replay.summary import GOAL, Comparison, Line
from agesearch.storage import Location

#: Lines that are drawn, each in a colour of its own; further strategies are in the table only.
_KINDS = 8


def write_replay_figure(found: Comparison, file: Location) -> None:
    """Draw a comparison as an SVG file."""
    template = environment().get_template("figure.svg.j2")
    file.write_text(template.render(chart=replay_chart(found)))


def write_replay_page(found: Comparison, file: Location, record: str) -> None:
    """Write the chart and its figures as one HTML page; ``record`` says where the curves come from."""
    template = environment().get_template("replay.html.j2")
    rows = [(row, made(row.strategy).about) for row in found.rows]
    file.write_text(
        template.render(chart=replay_chart(found), found=found, rows=rows, record=record, goal=GOAL)
    )


def replay_chart(found: Comparison) -> Chart:
    """Medians over bands from the 10th to the 90th percentile of the seeds."""
    seeds = max(row.seeds for row in found.rows)
    lines = found.lines[:_KINDS]
    curves = [curve for place, line in enumerate(lines) for curve in _drawn(line, place, seeds)]
    curves.sort(key=lambda curve: not curve.kind.startswith("band"))  # lines lie on top of all bands
    return share_chart(
        "Hypervolume by epochs spent",
        f"epochs of training spent, {found.configurations} configurations in all",
        "share of the record's hypervolume",
        curves,
        goal=(GOAL, "goal"),
        legend=[(_kind(place), line.strategy) for place, line in enumerate(lines)],
    )


def _drawn(line: Line, place: int, seeds: int) -> list[Polyline]:
    lower = list(zip(line.epochs, line.low, strict=True))
    upper = list(zip(line.epochs, line.high, strict=True))
    middle = list(zip(line.epochs, line.median, strict=True))
    details = (line.strategy, f"median of {seeds} seeds; band: 10th to 90th percentile")
    band = Polyline([*lower, *reversed(upper)], f"band-{place + 1}")
    return [band, Polyline(middle, _kind(place), details)]


def _kind(place: int) -> str:
    return f"curve-{place + 1}"
