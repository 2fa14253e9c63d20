"""The report's charts from a study's findings, and the same charts as SVG files for a README."""

from __future__ import annotations

import math

from agesearch.metrics import or_nan
from agesearch.reporting import tables
from agesearch.reporting.charts.plots import Chart, Kind, Level, Mark, Polyline, curves_chart, front_chart
from agesearch.reporting.findings import Findings, read_findings
from agesearch.reporting.pages import environment
from agesearch.search.front.measurements import MEDIAN, TEACHER
from agesearch.search.store.records import State, StudyFolder, TrialRecord
from agesearch.storage import Location

#: What is drawn later lies on top.
_ORDER: tuple[Kind, ...] = ("pruned", "trial", "front", "teacher", "picked")

#: Points and lines of a chart: with the details of each, more would make the page large.
_MOST_POINTS = 1_000
_MOST_CURVES = 300


def write_figures(study: StudyFolder, folder: Location) -> list[Location]:
    """Write ``front.svg`` and ``curves.svg`` into ``folder``; returns what was written."""
    findings = read_findings(study)
    template = environment().get_template("figure.svg.j2")
    charts = {"front.svg": front_figure(findings), "curves.svg": curves_figure(findings)}
    written = []
    for name, chart in charts.items():
        if chart is not None:
            (folder / name).write_text(template.render(chart=chart))
            written.append(folder / name)
    return written


def front_figure(findings: Findings) -> Chart:
    """All trials, the front, the teacher and the picked trial, by error and by latency side by side."""
    marks = [mark for _, mark in trial_marks(findings)]
    marks.append(_teacher_mark(findings))
    marks.sort(key=lambda mark: _ORDER.index(mark.kind))
    front = [(or_nan(record.latency_ms_p50), or_nan(record.val_mae_years)) for record in findings.front]
    levels = []
    if findings.has(MEDIAN):
        levels.append(Level(findings.mae(MEDIAN).value, "always the median age"))
    return front_chart(marks, front, levels)


def trial_marks(findings: Findings) -> list[tuple[TrialRecord, Mark]]:
    """Each trial that has an error and a time, with its point; of very many those near the front."""
    drawn = [record for record in findings.records if _is_drawn(record)]
    if len(drawn) > _MOST_POINTS:
        named = {record.number for record in (*findings.front, findings.picked)}
        ranked = sorted(drawn, key=lambda one: (one.number not in named, or_nan(one.val_mae_years)))
        drawn = sorted(ranked[:_MOST_POINTS], key=lambda one: one.number)
    return [(record, _trial_mark(findings, record)) for record in drawn]


def curves_figure(findings: Findings) -> Chart | None:
    """Validation error by epoch of every trial; None where no trial finished an epoch."""
    curves = []
    named = {record.number for record in (*findings.front, findings.picked)}
    ranked = sorted(findings.records, key=lambda one: (one.number not in named, or_nan(one.val_mae_years)))
    for record in ranked[:_MOST_CURVES]:
        points = findings.curves.get(record.number)
        if points:
            kind = "curve-front" if findings.is_on_front(record) else "curve"
            if record.number == findings.picked.number:
                kind = "curve-picked"
            last, best = points[-1], min(points, key=lambda point: point[1])
            details = (
                record.title,
                f"{last[1]:.2f} years after epoch {last[0]:g}, {record.state.value.lower()}",
                f"best {best[1]:.2f} years at epoch {best[0]:g}",
            )
            curves.append(Polyline(points, kind, details))
    return curves_chart(curves) if curves else None


def _is_drawn(record: TrialRecord) -> bool:
    values = (record.val_mae_years, record.latency_ms_p50)
    ended = record.state in (State.COMPLETE, State.PRUNED)
    return ended and all(value is not None and math.isfinite(value) for value in values)


def _trial_mark(findings: Findings, record: TrialRecord) -> Mark:
    interval = findings.mae(record.name) if findings.has(record.name) else None
    bounds = f" (95 % {interval.low:.2f}–{interval.high:.2f})" if interval else ""
    details = [
        record.title,
        f"MAE {tables.years(record.val_mae_years)} years{bounds}",
        *_latency_words(findings, record),
        f"{tables.millions(findings.parameters(record))} parameters, {record.epochs} epochs",
    ]
    details += [f"{word} {record.at_end_text(word, ' years')}" for word in record.at_end]
    broken = findings.latencies.broken_limits.get(record.number)
    details += [f"not on the front: above {broken}"] if broken else []
    if record.state is State.PRUNED:
        details.append(f"pruned: {record.reason}")
    details += [f"{name} {tables.value_text(value)}" for name, value in sorted(record.params.items())]
    kind, label = _kind(findings, record)
    return Mark(
        or_nan(record.latency_ms_p50),
        or_nan(record.val_mae_years),
        kind,
        tuple(details),
        label,
        interval.low if interval else None,
        interval.high if interval else None,
    )


def _latency_words(findings: Findings, record: TrialRecord) -> list[str]:
    found = findings.latencies.latency(record)
    run = "timed by the search"
    if found.times_teacher is not None:
        run = f"{tables.ratio(found.times_teacher)} the teacher's speed"
    words = [f"{tables.milliseconds(found.ms)} ms a face{tables.on_engine(found.engine)}, {run}"]
    words += [f"{tables.milliseconds(other.latency_ms_p50)} ms on {other.engine}" for other in found.others]
    return words + tables.sizes(found.file_bytes, found.session_bytes)


def _kind(findings: Findings, record: TrialRecord) -> tuple[Kind, str]:
    is_knee = record.number == findings.knee.number
    name = f"trial {record.number}"
    if record.number == findings.picked.number:
        return "picked", f"{name}, picked (knee)" if is_knee else f"{name}, picked"
    if findings.is_on_front(record):
        return "front", f"{name}, knee" if is_knee else ""
    return ("pruned" if record.state is State.PRUNED else "trial"), ""


def _teacher_mark(findings: Findings) -> Mark:
    error = findings.mae(TEACHER)
    details = (
        "teacher",
        f"MAE {error.value:.2f} years (95 % {error.low:.2f}–{error.high:.2f})",
        f"{tables.milliseconds(findings.teacher_latency_ms)} ms a face",
    )
    return Mark(
        findings.teacher_latency_ms, error.value, "teacher", details, "teacher", error.low, error.high
    )
