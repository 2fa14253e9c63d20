"""What an age limit makes of the student's answers, beside its teacher and the foreign models."""

from __future__ import annotations

from agesearch.deploy.reported.records import DECISIONS
from agesearch.measure.decisions.records import Decisions, ModelDecisions
from agesearch.measure.decisions.rules import short_sides, sides
from agesearch.measure.intervals import basis
from agesearch.metrics import signed
from agesearch.reporting.charts.decision_chart import decision_chart
from agesearch.reporting.decisions.tables import decision_tables, share_words
from agesearch.reporting.sections.section import Section, Table
from agesearch.reporting.sections.told import Told
from agesearch.reporting.tables import Cell, TextTable

#: Tables of the student that are shown at once; the others are folded.
_SHOWN = 3


def decisions_section(told: Told) -> Section:
    """Both rates against the challenge age, the buffer of a target rate, three answers; all models beside."""
    record = told.decisions
    if record is None or not record.models:
        reason = told.records.reason(DECISIONS)
        # An age that faces lie on one side of would be refused again.
        age = "YEARS" if reason and " 18 " in reason else 18
        return Section(
            "decisions",
            "Decisions at an age limit",
            "Decisions",
            missing=reason or "they were not measured",
            fill=told.filled_by("--legal-age", age, left_out={DECISIONS}),
        )
    names = {one.name: told.name_of(one.model_digest, one.name) for one in record.models}
    student = next((one for one in record.models if names[one.name] == told.student), record.models[0])
    own = student.model_copy(update={"name": names[student.name]})
    lines = list(decision_tables(record, own))
    title = f"Decisions at {record.legal_age:g} years"
    return Section(
        "decisions",
        title,
        "Decisions",
        sentences=_sentences(record, student),
        charts=[decision_chart(own, record.legal_age, record.max_fpr, 1)],
        tables=[Table("Models beside each other", _beside(record, names))],
        lines=lines[:_SHOWN],
        more=lines[_SHOWN:],
        notes=[
            f"{basis(record.minors + record.adults, record.persons)} of {record.dataset}, {record.part}: "
            f"{record.minors:,} below {record.legal_age:g}. A face passes where its estimate is at least the "
            "challenge age; T*: the smallest at which no cell of those below (year and decade of age, sex, "
            f"group) with {record.min_faces} faces or more lets more of them pass; the buffer is T* less "
            "the legal age. The tables are the student's. Photographs of photographs, masks and make-up were "
            "not tested.",
            *(f"{names[student.name]}: {note}" for note in student.notes),
        ],
        figures={
            names[one.name]: {
                "legal_age": record.legal_age,
                "minors_who_pass": _value(one, "fpr"),
                "adults_refused": _value(one, "fnr"),
            }
            for one in record.models
        },
    )


def _sentences(record: Decisions, student: ModelDecisions) -> list[str]:
    legal = next(at for at in student.at if at.challenge_age == record.legal_age).whole
    found = []
    if legal.fpr.estimate is None:
        found.append(f"Too few faces below {record.legal_age:g} to tell how many of them pass.")
    else:
        found.append(
            f"At {record.legal_age:g} itself the student passes {share_words(legal.fpr)} of those below it "
            f"and refuses {share_words(legal.fnr)} of the others."
        )
    reached = [one for one in student.buffers if one.challenge_age is not None and one.years is not None]
    if reached:
        one = min(reached, key=lambda buffer: abs(buffer.max_fpr - 0.05))
        found.append(
            f"To pass at most {one.max_fpr:.0%} of the worst cell it needs a challenge age of "
            f"{one.challenge_age:.1f}, a buffer of {one.years:.1f} years, which refuses "
            f"{share_words(one.adults_refused)} of the {sides(record.legal_age).reached}."
        )
    return found


def _beside(record: Decisions, names: dict[str, str]) -> TextTable:
    below, reached = short_sides(record.legal_age)
    columns = ["model", f"{below} who pass at {record.legal_age:g}", f"{reached} refused"]
    columns += ["buffer for 5 %, years", "balanced MAE", "off by more than 10 years", "intervals"]
    rows = []
    for one in record.models:
        whole = next(at for at in one.at if at.challenge_age == record.legal_age).whole
        buffer = next((found for found in one.buffers if abs(found.max_fpr - 0.05) < 1e-9), None)
        balanced, tail = one.accuracy.balanced.estimate, one.accuracy.off_by_more.get("10")
        rows.append(
            [
                Cell(names[one.name]),
                Cell(share_words(whole.fpr)),
                Cell(share_words(whole.fnr)),
                Cell("–" if buffer is None or buffer.years is None else signed(buffer.years)),
                Cell("too few" if balanced is None else f"{balanced.value:.2f}"),
                Cell("–" if tail is None else share_words(tail)),
                Cell(one.interval_kind),
            ]
        )
    return TextTable(columns, rows)


def _value(one: ModelDecisions, rate: str) -> float | None:
    found = getattr(one.at[0].whole, rate).estimate
    return None if found is None else found.value
