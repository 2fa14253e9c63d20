"""What one change of a rendered person does to answers: the student beside its teacher and the others."""

from __future__ import annotations

from collections.abc import Mapping

from agesearch.deploy.reported.records import COUNTERFACTUAL
from agesearch.measure.counterfactual.records import Counterfactuals, ModelShifts, ToldChange
from agesearch.measure.decisions.rates import Rate
from agesearch.measure.decisions.rules import Sides, short_sides, sides
from agesearch.metrics import signed
from agesearch.reporting import tables
from agesearch.reporting.decisions.tables import share_words
from agesearch.reporting.sections.section import Section, Table
from agesearch.reporting.sections.told import Told
from agesearch.reporting.tables import Cell, TextTable

_TITLE, _SHORT = "Counterfactual shifts", "Changes"


def counterfactual_section(told: Told) -> Section:
    """Shift of the answer by change, with paired intervals, and who is let in by it."""
    record = told.records.get(COUNTERFACTUAL, Counterfactuals)
    if record is None or not record.models:
        return Section(
            "counterfactual",
            _TITLE,
            _SHORT,
            missing=told.records.reason(COUNTERFACTUAL) or "they were not measured",
            fill=told.filled_by("--counterfactual-persons", 120),
        )
    names = {one.name: told.name_of(one.model_digest, one.name) for one in record.models}
    ordered = sorted(record.models, key=lambda one: names[one.name] != told.student)
    student = ordered[0]
    about = {change.name: change for change in record.changes}
    of = sides(record.legal_age)
    notes = [
        f"{record.persons} rendered persons, {record.minors} of them below {record.legal_age:g}, each as is "
        f"and changed ({record.pictures:,} pictures); the answer with the change minus the one as is, in "
        f"years, with paired 95\u00a0% intervals over persons. Let in: {of.below} whose answer passes "
        f"{record.challenge_age:g} only with the change (the attack conversion rate); shut out: "
        f"{of.reached} whose answer passes only without it. Too few: under {record.min_persons} persons.",
        record.can_tell,
        record.cannot_tell,
        *(f"{names[one.name]}: {note}" for one in ordered for note in one.notes),
    ]
    return Section(
        "counterfactual",
        _TITLE,
        _SHORT,
        sentences=_sentences(student),
        tables=[
            Table("Shift of the predicted age, years", _shifts(ordered, names, about), hue="red"),
            Table("Who is let in and shut out, student", _converted(student, short_sides(record.legal_age))),
        ],
        notes=notes,
        figures={names[one.name]: _figures(one) for one in ordered},
    )


def _sentences(student: ModelShifts) -> list[str]:
    """The changes that move the student most, where the interval leaves out zero."""
    moved = [
        (shift.change, found)
        for shift in student.shifts
        if (found := shift.shift_years.estimate) is not None and not found.low <= 0.0 <= found.high
    ]
    moved.sort(key=lambda pair: -abs(pair[1].value))
    if not moved:
        return ["No change moves the student's answers by more than noise."]
    shown = ", ".join(f"{tables.words(name)} {signed(found.value)}" for name, found in moved[:3])
    return [
        f"{len(moved)} of {len(student.shifts)} changes move the student beyond noise, most: {shown} years."
    ]


def _shifts(models: list[ModelShifts], names: dict[str, str], about: Mapping[str, ToldChange]) -> TextTable:
    values = [
        abs(found.value)
        for one in models
        for shift in one.shifts
        if (found := shift.shift_years.estimate) is not None
    ]
    worst = max([1e-9, *values])
    rows = []
    for shift in models[0].shifts:
        cells = [Cell(tables.words(shift.change)), Cell(about[shift.change].of)]
        for one in models:
            own = next((found for found in one.shifts if found.change == shift.change), None)
            cells.append(_years(own.shift_years if own else None, worst))
        rows.append(cells)
    return TextTable(["change", "of", *(names[one.name] for one in models)], rows)


def _converted(student: ModelShifts, of: Sides) -> TextTable:
    columns = [
        "change",
        "persons",
        f"shift of {of.below}, years",
        "moved, years",
        f"{of.below} let in",
        f"{of.reached} shut out",
    ]
    rows = [
        [
            Cell(tables.words(shift.change)),
            Cell(f"{shift.shift_years.faces:,}", shift.shift_years.faces),
            _years(shift.minors_shift_years, 0.0),
            _years(shift.moved_years, 0.0),
            Cell(share_words(shift.conversion)),
            Cell(share_words(shift.refusal)),
        ]
        for shift in student.shifts
    ]
    return TextTable(columns, rows)


def _years(rate: Rate | None, worst: float) -> Cell:
    found = rate.estimate if rate else None
    if found is None:
        return Cell("too few", 0.0)
    text = f"{signed(found.value)} ({signed(found.low)} to {signed(found.high)})"
    return Cell(text, found.value, abs(found.value) / worst if worst else None)


def _figures(one: ModelShifts) -> dict[str, float]:
    return {
        shift.change: found.value for shift in one.shifts if (found := shift.shift_years.estimate) is not None
    }
