"""What only a study has: faces by error, speed by setting, curves, hypervolume, importance, trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from agesearch.errors import command
from agesearch.metrics import or_nan
from agesearch.reporting import tables
from agesearch.reporting.charts.plots import Chart, Polyline, axis, laid_out
from agesearch.reporting.figures import curves_figure
from agesearch.reporting.findings import Findings
from agesearch.reporting.fronts import role_of
from agesearch.reporting.importance import MIN_TRIALS, importances
from agesearch.reporting.sections.section import Section, Table
from agesearch.reporting.sections.told import Told
from agesearch.reporting.tables import Cell, TextTable
from agesearch.search.front.measurements import TEACHER, FaceRow
from agesearch.search.model.acquisition import reference_beyond
from agesearch.search.store.pareto import hypervolume
from agesearch.search.store.records import State, TrialRecord

_KINDS = {"best": "Closest", "typical": "Typical", "worst": "Furthest off"}
_FACES_A_KIND = 8
_FEW_TRIALS = 50
#: Rows of the table of trials: of a larger study those that ended best.
_MOST_ROWS = 1_000


def study_sections(told: Told, findings: Findings) -> Iterator[Section]:
    """In the order of the page, after the sections that every report has."""
    yield _speed(findings)
    yield _curves(findings)
    yield hypervolume_section(findings)
    yield _importance(findings)
    yield _trials(findings)


def faces_section(told: Told, findings: Findings) -> Section:
    """The student's closest, typical and furthest answers, of the sources whose faces may be shown."""
    rows = findings.measured.faces
    if told.faces_from is not None:
        rows = [row for row in rows if row.source in told.faces_from]
    strip: list[tuple[str, list[FaceRow]]] = []
    for kind, title in _KINDS.items():
        chosen = [row for row in rows if row.kind == kind]
        chosen.sort(key=lambda row: abs(row.predicted_age - row.age), reverse=kind == "worst")
        if chosen:
            strip.append((title, chosen[:_FACES_A_KIND]))
    if not strip:
        return Section(
            "faces",
            "Faces",
            "Faces",
            missing="no faces are shown: no source was named whose faces may be, or it has none here",
            fill=told.filled_by("--faces-from", "SOURCE"),
        )
    return Section(
        "faces",
        "Faces",
        "Faces",
        faces=strip,
        notes=[
            "Validation faces by the picked student's error: predicted age in bold with the standard "
            "deviation of its distribution, and the true age."
        ],
    )


def hypervolume_section(findings: Findings) -> Section:
    """How fast the front came about: its hypervolume against epochs trained and against seconds."""
    title, short = "How the search went", "Search"
    points = [(or_nan(one.val_mae_years), or_nan(one.latency_ms_p50)) for one in _complete(findings)]
    if len(points) < 2:
        return Section("search", title, short, missing="fewer than two trials are COMPLETE")
    reference = reference_beyond(points)
    epochs, seconds = _paths(findings, reference)
    whole = epochs[-1][1] or 1.0
    charts = [
        _volume_chart("Hypervolume against epochs", "epochs trained, all trials", epochs, whole),
        _volume_chart("Hypervolume against seconds", "seconds since the first trial began", seconds, whole),
    ]
    half = {
        unit: next(at for at, volume in path if volume >= 0.95 * whole)
        for unit, path in (("epochs", epochs), ("seconds", seconds))
    }
    return Section(
        "search",
        title,
        short,
        sentences=[
            f"95 % of the final hypervolume was there after {half['epochs']:,.0f} of {epochs[-1][0]:,.0f} "
            f"epochs and {tables.duration(half['seconds'])} of {tables.duration(seconds[-1][0])}."
        ],
        pair=charts,
        notes=[
            f"Area between the COMPLETE trials' front (error, time a face) and {reference[0]:.2f} years, "
            f"{reference[1]:.3g} ms: a tenth of the front's extent beyond its worst ends. A trial counts "
            "once it is over; epochs of trials that ended early count as spent."
        ],
        figures={
            "reference": list(reference),
            "epochs": [list(point) for point in epochs],
            "seconds": [list(point) for point in seconds],
        },
    )


def _complete(findings: Findings) -> list[TrialRecord]:
    return [one for one in findings.records if one.state is State.COMPLETE and one.latency_ms_p50]


def _paths(
    findings: Findings, reference: tuple[float, float]
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """The hypervolume after each trial, against epochs spent until then, and seconds."""
    begun = [datetime.fromisoformat(one.started).timestamp() for one in findings.records if one.started]
    first = min(begun, default=0.0)

    def ended(record: TrialRecord) -> float:
        if not record.started:
            return record.seconds
        return datetime.fromisoformat(record.started).timestamp() - first + record.seconds

    counted = {one.number for one in _complete(findings)}
    points: list[tuple[float, float]] = []
    spent = 0
    epochs, seconds = [(0.0, 0.0)], [(0.0, 0.0)]
    for record in sorted(findings.records, key=lambda one: (ended(one), one.number)):
        spent += record.epochs
        if record.number in counted:
            points.append((or_nan(record.val_mae_years), or_nan(record.latency_ms_p50)))
        volume = hypervolume(points, reference) if points else 0.0
        epochs.append((float(spent), volume))
        seconds.append((max(ended(record), seconds[-1][0]), volume))
    return epochs, seconds


def _volume_chart(title: str, across: str, path: Sequence[tuple[float, float]], whole: float) -> Chart:
    points = [(at, volume / whole) for at, volume in path]
    details = (title, f"{path[-1][0]:,.0f} {across.split(' ')[0]} in all")
    return laid_out(
        title,
        axis(across, 0.0, max(1.0, path[-1][0]), whole=True),
        axis("share of the final hypervolume", 0.0, 1.05),
        curves=[Polyline(points, "curve-4", details, steps=True)],
    )


def _speed(findings: Findings) -> Section:
    """The study's own run: every setting of the teacher and the student."""
    names = {TEACHER, findings.picked.name, *(record.name for record in findings.front)}
    rows = [row for row in findings.measured.speed if row.model in names]
    engines = " and ".join(sorted({str(row.engine) for row in rows}))
    return Section(
        "speed",
        "Speed by threads and batch",
        "Speed",
        tables=[Table("Timed side by side", tables.speed_table(rows, TEACHER))],
        notes=[
            f"Timed in turns in one run, warm, on {engines}, {findings.measured.summary.hardware}. The "
            "search's front goes by the first setting, under which every COMPLETE trial was timed; teacher "
            "and student have all settings. What the models take on other engines stands in the front."
        ],
    )


def _curves(findings: Findings) -> Section:
    chart = curves_figure(findings)
    if chart is None:
        return Section("curves", "Learning curves", "Curves", missing="No trial has finished an epoch.")
    notes = ["Epochs far above the rest lie beyond the upper edge."]
    return Section("curves", "Learning curves", "Curves", charts=[chart], notes=notes)


def _importance(findings: Findings) -> Section:
    title, complete = "Which parameters decided", len(_complete(findings))
    rows = importances(findings.header.spec, findings.records)
    if not rows:
        few = f"{complete} complete trials are too few to tell parameters apart; {MIN_TRIALS} are the least"
        return Section("importance", title, "Parameters", missing=few)
    note = (
        "Share of each searched parameter in what sets good trials apart from the rest by validation error "
        "(PED-ANOVA, Watanabe 2023), with the 90\u00a0% interval over resampled trials as a thin line."
    )
    if complete < _FEW_TRIALS:
        note += f" With only {complete} complete trials this is a hint, not a finding: read the intervals."
    figures = {row.name: {"share": row.share, "low": row.low, "high": row.high} for row in rows}
    return Section("importance", title, "Parameters", bars=rows, notes=[note], figures=figures)


def _told_of(findings: Findings, record: TrialRecord) -> tables.TrialTold:
    latency = findings.latencies.latency(record)
    return tables.TrialTold(
        role=role_of(record, findings.latencies, findings.picked.number),
        parameters=findings.parameters(record),
        file_bytes=latency.file_bytes,
        session_bytes=latency.session_bytes,
        timed_alone=record.number in findings.searched,
        broken=findings.latencies.broken_limits.get(record.number, ""),
    )


def _trials(findings: Findings) -> Section:
    records = findings.records
    notes = []
    if len(records) > _MOST_ROWS:
        ranked = sorted(records, key=lambda one: (one.state is not State.COMPLETE, or_nan(one.val_mae_years)))
        records = sorted(ranked[:_MOST_ROWS], key=lambda one: one.number)
        notes.append(f"The {_MOST_ROWS:,} best of {len(findings.records):,} trials.")
    told = {one.number: _told_of(findings, one) for one in records}
    table = tables.trials_table(records, told)
    if findings.searched:
        notes.append("*: timed by the search only, before the trials, and not side by side with the teacher.")
    notes += [tables.MEMORY_NOTE] if any(one.file_bytes for one in told.values()) else []
    if any(one.file_bytes is None for one in told.values() if one.parameters):
        words = command("report", findings.study.root.name)
        notes.append(f"–: file and memory were not looked at by the version that timed it; {words} does.")
    notes += [findings.latencies.limit_note] if findings.latencies.limit_note else []
    found = [Table("All trials", table, sortable=True, marked=str(findings.picked.number), wide=True)]
    failures = tables.failures(findings.records)
    if failures:
        rows = [
            [Cell(one.state.lower()), Cell(", ".join(map(str, one.trials))), Cell(one.reason)]
            for one in failures
        ]
        ended = TextTable(["state", "trials", "reason"], rows)
        found.append(Table("Trials that ended early, and why", ended))
    else:
        notes.append("No trial failed or was pruned.")
    return Section("trials", "Trials", "Trials", tables=found, notes=notes)
