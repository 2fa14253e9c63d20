"""Draws the champion's front: errors by cross-validation (front.csv) against times of one run, side by side.

    networks=$(python reports/champion/front.py networks)
    agesearch measure speed $networks --threads 1 --batch 1 --json > speed.json
    python reports/champion/front.py speed.json

Prints each student's time on its best engine, int8 without its gate, and how many times that is in an
SE-ResNet-50's; writes front.svg. A student of several networks takes the sum of their times. Run from the
repository's folder.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from agesearch.reporting.charts.plots import Kind, Mark, front_chart
from agesearch.reporting.pages import environment
from agesearch.search.store.pareto import front

HERE = Path(__file__).parent
LARGE = "seresnet50@224"


def main(speed: str) -> None:
    """List the networks to time, or draw the picture from their times."""
    with (HERE / "front.csv").open(encoding="utf-8") as file:
        students = list(csv.DictReader(file))
    if speed == "networks":
        print(*dict.fromkeys(name for row in students for name in _networks(row)), LARGE)
        return
    found = json.loads(Path(speed).read_text(encoding="utf-8"))
    best = {row["model"]: row["latency_ms_p50"] for row in found["best"]}
    times = [sum(best[name] for name in _networks(row)) for row in students]
    points = [(ms, float(row["mae"])) for ms, row in zip(times, students, strict=True)]
    on_front = front(points)
    marks = [
        _mark(row, times[at], best[LARGE], row["kind"] or ("front" if at in on_front else "trial"))
        for at, row in enumerate(students)
    ]
    for mark in sorted(marks, key=lambda mark: mark.x):
        print(*mark.details, sep=" | ")
    template = environment().get_template("figure.svg.j2")
    chart = front_chart(
        marks,
        [points[at] for at in on_front],
        [],
        x_title=f"ms a face, one thread, best engine, {found['hardware'].rpartition(',')[0]} (log scale)",
        y_title="MAE by cross-validation, years",
        picked="portraits 0005",
    )
    (HERE / "front.svg").write_text(template.render(chart=chart), encoding="utf-8")


def _mark(student: dict[str, str], ms: float, large: float, kind: Kind) -> Mark:
    mae, low, high = (float(student[name]) for name in ("mae", "low", "high"))
    times = f"{ms:.3g} ms, {large / ms:.3g} x {LARGE}"
    details = (student["student"], times, f"{mae:.2f} ({low:.2f}-{high:.2f})")
    return Mark(ms, mae, kind, details, student["student"], low, high)


def _networks(student: dict[str, str]) -> list[str]:
    return student["networks"].split(" + ")


if __name__ == "__main__":
    main(sys.argv[1])
