"""Error against time: the front with its teacher and other models, and why the pick is what it is."""

from __future__ import annotations

from collections.abc import Iterator

from agesearch.deploy.reported.records import SPEED, TEST, VALIDATION, ReportedModel
from agesearch.measure.speed.rows import SpeedRow
from agesearch.metrics import signed
from agesearch.reporting import tables
from agesearch.reporting.charts.plots import Chart, Kind, Level, Mark, front_chart
from agesearch.reporting.figures import front_figure
from agesearch.reporting.findings import Findings
from agesearch.reporting.sections.section import Section, Table
from agesearch.reporting.sections.told import Told
from agesearch.reporting.summary import verdict
from agesearch.reporting.tables import Cell, TextTable
from agesearch.search.front.measurements import MEDIAN
from agesearch.search.store.records import TrialRecord

_LINE = "The line is the front: for any time a face may take, the best error found within it."
_KINDS: dict[str, Kind] = {"student": "picked", "front": "front", "teacher": "teacher", "foreign": "foreign"}


def front_section(told: Told) -> Section:
    """The chart of all models, a table of them, and what the picture stands on."""
    chart = front_of(told)
    if chart is None:
        return Section(
            "front",
            "Accuracy against speed",
            "Front",
            missing=told.records.reason("speed") or "speeds were not measured",
            fill=told.filled_by(left_out={SPEED}),
        )
    split = "validation" if told.compared(VALIDATION) or told.findings else "test"
    is_drawn = any("front" in curve.kind for curve in chart.curves)
    line = f" {_LINE}" if is_drawn else ""
    notes = [
        f"Lower and further left is better.{line} Whiskers are 95\u00a0% intervals over the persons of the "
        f"{split} faces. A time is that of the network alone, for one face on one thread; decoding and "
        "finding the face are not in it."
    ]
    if told.speed is not None:
        notes.append(
            f"Timed in turns on {told.speed.hardware}, each model on its fastest runtime and precision of "
            "those on which it is known to answer as well (fp32, or behind a gate); the others stand in the "
            "details, those with * not known to answer as well."
            + (" Grey points are other trials, as an earlier run timed them." if told.findings else "")
        )
    left = _left_behind(told)
    if left:
        notes.append(
            f"On the front as the search timed them, but not by these times: {', '.join(sorted(left))}."
        )
    rows = [_row(told, model) for model in told.models if told.best(model.name)]
    columns = [
        "model",
        "role",
        "network",
        "parameters",
        f"MAE, years ({split})",
        "ms",
        "on",
        "file, MB",
        "memory, MB",
        "other engines, ms",
    ]
    notes += _of_sizes(told)
    found = [Table("Models", TextTable(columns, rows), marked=_first(told))] if rows else []
    return Section("front", "Accuracy against speed", "Front", charts=[chart], tables=found, notes=notes)


def front_of(told: Told) -> Chart | None:
    """The chart: a study's trials behind the models that were timed in turns; None where nothing was."""
    marks = [mark for model in told.models if (mark := _mark(told, model)) is not None]
    if told.findings is not None and not marks:
        return front_figure(told.findings)
    if not marks:
        return None
    students = [(mark.x, mark.y) for mark in marks if mark.kind in ("front", "picked")]
    levels, behind = [], []
    if told.findings is not None:
        drawn = {model.trial for model in told.models}
        behind = [
            mark
            for record, mark in _trial_marks(told.findings)
            if record.number not in drawn and mark.kind in ("trial", "pruned")
        ]
        if told.findings.has(MEDIAN):
            levels.append(Level(told.findings.mae(MEDIAN).value, "always the median age"))
    title = "MAE, years" if told.findings is None else "validation MAE, years"
    return front_chart(
        [*behind, *sorted(marks, key=lambda mark: mark.kind == "picked")],
        _staircase(students) if len(students) > 1 else [],
        levels,
        y_title=title,
        picked="picked student" if told.findings else told.noun,
        engines=[str(engine) for engine in told.badges],
    )


def pick_section(told: Told) -> Section | None:
    """Why the student, and not those beside it on the front; None without a front."""
    findings = told.findings
    if findings is None:
        return None
    picked, front = findings.picked, findings.front
    sentences = [_why(findings)]
    place = next((index for index, one in enumerate(front) if one.number == picked.number), None)
    if place is None:
        sentences.append("It does not lie on the front: another trial is faster and no worse.")
        beside = [one for one in front if _ms(one) <= _ms(picked)][-1:]
    else:
        beside = [*front[max(0, place - 1) : place], *front[place + 1 : place + 2]]
    sentences += [_beside(told, findings, one) for one in beside]
    if len(front) == 1:
        sentences.append("It is the only trial on the front.")
    return Section("pick", "The pick, and why not its neighbours", "Pick", sentences=sentences)


def _why(findings: Findings) -> str:
    picked, front, choice = findings.picked, findings.front, findings.latencies.choice
    title = f"The student is {picked.title}"
    if choice is not None and picked.number == choice.chosen.number and len(front) > 2:
        return (
            f"{title}, {choice.rule}. The knee is the point farthest below the line between the front's ends "
            "(error against the logarithm of the time): beyond it another millisecond buys less."
        )
    if picked.number == front[-1].number:
        return f"{title}: the smallest error on the front."
    if picked.number == front[0].number:
        return f"{title}: the fastest on the front."
    return f"{title}, as was asked for; the knee is {findings.knee.title}."


def _beside(told: Told, findings: Findings, other: TrialRecord) -> str:
    picked = findings.picked
    ratio = _times_as_fast(told, other, picked)
    way = f"{tables.ratio(ratio)} faster" if ratio > 1 else f"{tables.ratio(1 / ratio)} slower"
    if not (findings.has(other.name) and findings.has(picked.name)):
        gap = (other.val_mae_years or 0.0) - (picked.val_mae_years or 0.0)
        return f"{other.title[:1].upper()}{other.title[1:]} is {way}, at {signed(gap)} years."
    found = findings.against(other.name, picked.name)
    words = verdict(found).replace("The student is", "it is").replace("The two are", "the two are")
    advice = ""
    if found.low <= 0 <= found.high:
        advice = (
            " So these faces do not say that the pick is the better one: take the faster where time counts."
            if ratio > 1
            else " So its extra time is not known to buy anything."
        )
    return f"{other.title[:1].upper()}{other.title[1:]} is {way}; {words}{advice}"


def _times_as_fast(told: Told, one: TrialRecord, other: TrialRecord) -> float:
    """By the times that the front shows; by those of the search where not both were timed for it."""
    names = {model.trial: model.name for model in told.models}
    shown = [told.best(names.get(record.number, "")) for record in (one, other)]
    if shown[0] is None or shown[1] is None:
        return _ms(other) / _ms(one)
    return shown[1].latency_ms_p50 / shown[0].latency_ms_p50


def _ms(record: TrialRecord) -> float:
    return float(record.latency_ms_p50 or 0.0) or 1e-9


def _mark(told: Told, model: ReportedModel) -> Mark | None:
    best, error = told.best(model.name), told.mae(model.name, VALIDATION) or told.mae(model.name, TEST)
    if best is None or error is None:
        return None
    others = [row for row in told.engines(model.name) if row.engine != best.engine]
    details = (
        told.title(model.name) if model.role != "student" else f"{told.title(model.name)} (picked)",
        f"MAE {error.value:.2f} years (95 % {error.low:.2f}–{error.high:.2f})",
        f"{tables.milliseconds(best.latency_ms_p50)} ms a face on {best.engine}",
        *tables.sizes(*_sizes(told, best)),
        *(
            f"{tables.milliseconds(row.latency_ms_p50)} ms on {row.engine}"
            + ("" if told.is_allowed(row) else " (its answers are not known to be as good)")
            for row in others
        ),
        *([f"{tables.millions(model.parameters)} parameters"] if model.parameters else []),
    )
    label = {"front": "", "student": f"{model.name}, picked" if told.findings else model.name}
    return Mark(
        best.latency_ms_p50,
        error.value,
        _KINDS[model.role],
        details,
        label.get(model.role, model.name),
        error.low,
        error.high,
        badge=told.badges.index(best.engine),
    )


def _row(told: Told, model: ReportedModel) -> list[Cell]:
    best, error = told.best(model.name), told.mae(model.name, VALIDATION) or told.mae(model.name, TEST)
    assert best is not None  # the caller looked
    others = [row for row in told.engines(model.name) if row.engine != best.engine]
    shown = ", ".join(
        f"{row.engine} {tables.milliseconds(row.latency_ms_p50)}{'' if told.is_allowed(row) else '*'}"
        for row in others
    )
    role: str = model.role
    if told.findings is not None:
        role = "picked" if role == "student" else role
    elif role in ("student", "front"):
        role = told.noun if role == "student" else "student"
    return [
        Cell(model.name),
        Cell(role),
        Cell(f"{model.arch} at {model.input_size} px"),
        Cell(tables.millions(model.parameters), model.parameters),
        Cell("–" if error is None else tables.interval(error), error.value if error else 0.0),
        Cell(tables.milliseconds(best.latency_ms_p50), best.latency_ms_p50),
        Cell(str(best.engine)),
        *(Cell(tables.megabytes(size), tables.last(size)) for size in _sizes(told, best)),
        Cell(shown or "–"),
    ]


def _sizes(told: Told, row: SpeedRow) -> tuple[int | None, int | None]:
    """Bytes of a model's file on an engine, and of its session's memory."""
    found = told.footprint(row)
    return (None, None) if found is None else (found.file_bytes, found.session_bytes)


def _of_sizes(told: Told) -> list[str]:
    if told.speed is None:
        return []
    if told.speed.footprints:
        return [tables.MEMORY_NOTE]
    words = told.command("measure", "speed", *told.given)
    return [f"File and memory were not looked at when these models were timed; they are told by: {words}"]


def _left_behind(told: Told) -> set[str]:
    """The students of the search's front that another one beats on the engines shown here."""
    placed = {
        (mark.x, mark.y): model.name
        for model in told.models
        if model.role in ("student", "front") and (mark := _mark(told, model)) is not None
    }
    kept = _staircase(list(placed))
    return {name for place, name in placed.items() if place not in kept} if told.findings else set()


def _first(told: Told) -> str:
    return told.student


def _staircase(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (time, error) that no other beats, by rising time."""
    found: list[tuple[float, float]] = []
    for place in sorted(points):
        if not found or place[1] < found[-1][1]:
            found.append(place)
    return found


def _trial_marks(findings: Findings) -> Iterator[tuple[TrialRecord, Mark]]:
    from agesearch.reporting.figures import trial_marks

    yield from trial_marks(findings)
