"""Error by age, and how honest the student's intervals are."""

from __future__ import annotations

from agesearch.deploy.reported.records import TEST, VALIDATION
from agesearch.measure.scores import Slice
from agesearch.metrics import BIAS_YEARS, CS5, MAE_YEARS, signed
from agesearch.reporting import tables
from agesearch.reporting.charts.plots import Chart, Polyline, axis, laid_out
from agesearch.reporting.decisions.coverage import coverage_table
from agesearch.reporting.sections.section import Section, Table
from agesearch.reporting.sections.told import Told
from agesearch.reporting.tables import Cell, TextTable
from agesearch.search.front.measurements import TEACHER

#: Lines of a chart, the student's first; more models than these are in the tables only.
KINDS = ("curve-3", "curve-2", "curve-6", "curve-5", "curve-7", "curve-4", "curve-8")


def ages_section(told: Told) -> Section:
    """MAE and bias by decade of the student, its teacher and the foreign models; sex, group and source."""
    split = TEST if told.compared(TEST) else VALIDATION
    names = examined(told)
    if told.compared(split) is None or told.scores(told.student, split) is None:
        return _from_study(told)
    by_decade = {name: _slices(told, name, split, "age") for name in names}
    found = [
        Table("MAE by true age", _table("true age", by_decade)),
        *(
            Table(f"MAE by {by}", _table(by, slices))
            for by in ("sex", "ethnicity", "source")
            if any((slices := {name: _slices(told, name, split, by) for name in names}).values())
        ),
    ]
    chart = _chart({name: slices for name, slices in by_decade.items() if slices}, told)
    compared = told.compared(split)
    assert compared is not None  # looked at above
    evaluation = compared.evaluation
    notes = [
        "Mean absolute error in years, its 95\u00a0% interval over persons, and bias (positive: too old), "
        f"on the {split} faces of {evaluation.dataset.name}"
        + ("." if split == TEST else ", which also chose among the trials: a little flattering.")
    ]
    notes += [f"{one.name}: {note}" for one in evaluation.models if one.name in names for note in one.notes]
    return Section(
        "ages",
        "Error by age",
        "By age",
        sentences=_sentences(told, split),
        charts=[chart] if chart else [],
        tables=found,
        notes=notes,
    )


def intervals_section(told: Told) -> Section:
    """Coverage and width of the student's intervals by decade."""
    calibration = told.calibration
    if calibration is None:
        words = ("calibrate", *told.given[:1], "--data", told.data)
        return Section(
            "intervals",
            "Intervals",
            "Intervals",
            missing="The student's intervals are its own belief, which nobody has checked.",
            fill=told.command(*words),
        )
    from agesearch.measure.calibration.run import evidence_of

    evidence = evidence_of(calibration)
    found, share = evidence.calibrated, evidence.calibrated.coverage
    return Section(
        "intervals",
        "Intervals",
        "Intervals",
        sentences=[
            f"The student's {calibration.level:.0%} intervals held the true age of {share.value:.0%} "
            f"({share.low:.0%}–{share.high:.0%}) of held-out persons, and are {found.width_years:.0f} years "
            "wide on average."
        ],
        tables=[Table("Inside, and widths, by true age", coverage_table(calibration))],
        notes=[
            "Share of true ages inside the intervals with its 95\u00a0% interval, and their mean width, by "
            "true age; of persons that the intervals were not learnt from (five folds over "
            f"{calibration.faces.faces} faces, {calibration.faces.part}, {calibration.faces.unseen}). "
            "A decade may hold less than the whole: faces that the model takes for another age.",
            *(
                f"Learnt in fp32, they held {one.coverage.value:.0%} of the same faces on {one.engine}: "
                f"{signed(100 * one.difference.value, 1)} points ({signed(100 * one.difference.low, 1)} to "
                f"{signed(100 * one.difference.high, 1)})."
                for one in evidence.engines
            ),
        ],
        figures={"level": calibration.level, "coverage": share.value, "width_years": found.width_years},
    )


def examined(told: Told) -> list[str]:
    """The models that are looked at closely, the student first."""
    return [model.name for model in told.models if model.role != "front"]


def _sentences(told: Told, split: str) -> list[str]:
    compared = told.compared(split)
    error, yardstick = told.mae(told.student, split), told.yardstick
    found = []
    if error is not None:
        found.append(
            f"On {error.basis} ({split} faces) the student is off by {error.value:.2f} years "
            f"({error.low:.2f}–{error.high:.2f}) on average."
        )
    difference = compared.against.get(told.student) if compared else None
    if difference is not None and compared is not None:
        low, middle, high = map(signed, (difference.low, difference.value, difference.high))
        word = "is tied with" if difference.low <= 0 <= difference.high else "differs from"
        who = "its teacher" if yardstick == told.teacher else yardstick
        found.append(f"It {word} {who}: {middle} years ({low} to {high}, the same faces).")
    return found


def _from_study(told: Told) -> Section:
    """From a study's own measurements, where nothing more was measured."""
    findings = told.findings
    if findings is None:
        return Section(
            "ages",
            "Error by age",
            "By age",
            missing=told.records.reason(TEST) or told.records.reason(VALIDATION) or "it was not measured",
            fill=told.filled_by(left_out={TEST, VALIDATION}),
        )
    measured = findings.measured
    table = tables.decades_table(
        measured.predictions["val", TEACHER], measured.predictions["val", findings.picked.name]
    )
    note = (
        "Mean absolute error with its 95\u00a0% interval, and bias (positive: too old), by true age on the "
        "validation faces; intervals resample persons where they are known."
    )
    return Section("ages", "Error by age", "By age", tables=[Table("By true age", table)], notes=[note])


def _slices(told: Told, name: str, split: str, by: str) -> dict[str, Slice]:
    found = told.scores(name, split)
    kinds = [kind for kind in (found.kinds if found else ()) if MAE_YEARS in kind.scores]
    return {one.name: one for one in (kinds[0].slices if kinds else ()) if one.by == by}


def _table(first: str, by_model: dict[str, dict[str, Slice]]) -> TextTable:
    shown = {name: slices for name, slices in by_model.items() if slices}
    rows_named = list(dict.fromkeys(name for slices in shown.values() for name in slices))
    errors = [one.scores[MAE_YEARS].value for slices in shown.values() for one in slices.values()]
    worst = max(errors, default=1.0) or 1.0
    rows = []
    for name in rows_named:
        some = next(slices[name] for slices in shown.values() if name in slices).scores[MAE_YEARS]
        cells = [Cell(name), Cell(f"{some.faces:,}", some.faces)]
        for slices in shown.values():
            cells += _cells(slices.get(name), worst)
        rows.append(cells)
    return TextTable(
        [first, "faces", *(["MAE, years", "bias", "CS@5"] * len(shown))],
        rows,
        [("", 2), *((name, 3) for name in shown)],
    )


def _cells(one: Slice | None, worst: float) -> list[Cell]:
    if one is None:
        return [Cell("–", -1.0)] * 3
    error, bias = one.scores[MAE_YEARS], one.scores.get(BIAS_YEARS)
    text = tables.interval(error) if error.faces > 1 else tables.years(error.value)
    within = one.scores.get(CS5)
    return [
        Cell(text, error.value, error.value / worst),
        Cell("–" if bias is None else signed(bias.value), 0.0 if bias is None else bias.value),
        Cell("–" if within is None else f"{within.value:.0%}", 0.0 if within is None else within.value),
    ]


def _chart(by_model: dict[str, dict[str, Slice]], told: Told) -> Chart | None:
    """MAE by decade, one line a model, the student's interval as a band."""
    curves, legend, highest = [], [], 1.0
    for kind, (name, slices) in zip(KINDS, by_model.items(), strict=False):
        points = [(_middle(key), one.scores[MAE_YEARS]) for key, one in slices.items()]
        known = [(at, error) for at, error in points if at is not None]
        if len(known) < 2:
            continue
        line = [(at, error.value) for at, error in known]
        highest = max(highest, *(value for _, value in line))
        if name == told.student:
            ends = [(at, error.low) for at, error in known] + [(at, error.high) for at, error in known[::-1]]
            curves.append(Polyline(ends, f"band-{kind[-1]}"))
            highest = max(highest, *(error.high for _, error in known))
        steps = tuple(f"{key}: {one.scores[MAE_YEARS].value:.2f} years" for key, one in slices.items())
        curves.append(Polyline(line, kind, (told.title(name), *steps)))
        legend.append((kind, name))
    if not legend:
        return None
    ends_of = [at for curve in curves for at, _ in curve.points]
    return laid_out(
        "Error by age",
        axis("true age, years", min(ends_of), max(ends_of)),
        axis("MAE, years", 0.0, 1.05 * highest),
        curves=curves,
        legend=legend,
    )


def _middle(name: str) -> float | None:
    """The middle of ``30-39``; None for what is no range of ages."""
    first, _, last = name.partition("-")
    try:
        return (float(first) + float(last) + 1.0) / 2.0
    except ValueError:
        return None
