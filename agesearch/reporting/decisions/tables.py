"""The figures of a model's decisions as tables of text, for a terminal and for the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from agesearch.measure.decisions.accuracy import Balanced
from agesearch.measure.decisions.rates import Rate
from agesearch.measure.decisions.records import AtAge, Decisions, ModelDecisions
from agesearch.measure.decisions.rules import short_sides
from agesearch.metrics import signed
from agesearch.reporting.evaluations import Lines

NONE = "–"


def decision_tables(record: Decisions, model: ModelDecisions) -> Iterator[Lines]:
    """All tables of a model, the most asked for first."""
    yield _ages(record, model)
    yield _buffers(record, model)
    yield _three(record, model)
    for at in model.at[-1:]:
        yield cells_table(at, record.legal_age)
    yield _false_adults(record, model)
    yield _errors(model)
    yield _eyes(model)
    yield _abstention(record, model)


def cells_table(at: AtAge, legal_age: float) -> Lines:
    """Both rates and the bias of each cell that has a face, at a challenge age; of single years only those
    with faces enough.
    """
    below, reached = short_sides(legal_age)
    sections: dict[str, list[list[str]]] = {}
    thin: Counter[str] = Counter()
    for cell in at.cells:
        if cell.by.endswith("age") and cell.bias_years.estimate is None:
            thin[cell.by] += 1
            continue
        row = [cell.name, *_share(cell.fpr), *_share(cell.fnr), _years(cell.bias_years)]
        sections.setdefault(cell.by, []).append(row)
    for by, count in thin.items():
        sections.setdefault(by, []).append([f"{count} more of {by}", "", "too few", "", "", ""])
    columns = ["faces", below, "who pass", reached, "refused", "bias, years"]
    return Lines(
        f"Cells at a challenge age of {at.challenge_age:g} ({at.why})", columns, list(sections.values())
    )


def share_words(rate: Rate) -> str:
    """``12 % (8–17 %)``; ``too few`` where there is no figure, a dash where there is no face."""
    found = rate.estimate
    if found is None:
        return "too few" if rate.faces else NONE
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f}–{100 * found.high:.1f})"


def _share(rate: Rate) -> list[str]:
    return [f"{rate.faces:,}" if rate.faces else NONE, share_words(rate)]


def _years(rate: Rate | Balanced) -> str:
    found = rate.estimate
    if found is None:
        return "too few" if rate.faces else NONE
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})".replace("-", "−")


def _both_rates(record: Decisions) -> list[str]:
    """The headings of FPR and FNR."""
    below, reached = short_sides(record.legal_age)
    return [f"{below} who pass", f"{reached} refused"]


def _ages(record: Decisions, model: ModelDecisions) -> Lines:
    rows = [
        [
            f"{at.challenge_age:g}",
            at.why,
            share_words(at.whole.fpr),
            share_words(at.whole.fnr),
            NONE if at.worst_pass_error_years is None else signed(at.worst_pass_error_years),
        ]
        for at in model.at
    ]
    columns = ["challenge age", "which is", *_both_rates(record), "worst error that passed"]
    return Lines("At a challenge age", columns, [rows])


def _buffers(record: Decisions, model: ModelDecisions) -> Lines:
    rows = []
    for one in model.buffers:
        reach = "none reaches it" if one.challenge_age is None else f"{one.challenge_age:.2f}"
        ends = [NONE if end is None else f"{end:.1f}" for end in (one.low, one.high)]
        rows.append(
            [
                f"{100 * one.max_fpr:g} %",
                reach,
                f"{ends[0]} to {ends[1]}",
                NONE if one.years is None else signed(one.years),
                f"{one.worst_cell} ({one.worst_faces:,} faces)",
                share_words(one.adults_refused),
            ]
        )
    below, reached = short_sides(record.legal_age)
    if not rows:
        rows = [[f"too few {below}: {record.minors} faces", *[""] * 5]]
    columns = ["worst cell at most", "T*", "interval", "buffer, years", "worst cell", f"{reached} refused"]
    return Lines("What a target rate costs", columns, [rows])


def _three(record: Decisions, model: ModelDecisions) -> Lines:
    """At each age: who passes, who is refused, and who is sent elsewhere."""
    level = (
        "own belief, unchecked" if model.interval_level is None else f"{model.interval_level:.0%}, calibrated"
    )
    sections = []
    below, reached = short_sides(record.legal_age)
    for at in model.at:
        answers = ((below, at.three.minors), (reached, at.three.adults), ("all", at.three.everyone))
        sections.append(
            [
                [f"{at.challenge_age:g}", who, *map(share_words, (one.passed, one.refused, one.unsure))]
                for who, one in answers
            ]
        )
    columns = ["challenge age", "of", "pass", "refuse", "unsure: sent elsewhere"]
    return Lines(f"Three answers, by intervals ({level})", columns, sections)


def _false_adults(record: Decisions, model: ModelDecisions) -> Lines:
    limits = [
        [f"below {row.limit:g} taken for {row.limit:g} or older", *_share(row.taken_for_older)]
        for row in model.false_adults
    ]
    safety = model.child_safety
    teens = [
        ["13-16 taken for 13-16", *_share(safety.right)],
        ["8-12 taken for 13-16", *_share(safety.younger)],
        ["17-22 taken for 13-16", *_share(safety.older)],
    ]
    natural = next(at for at in model.at if at.challenge_age == record.legal_age)
    young = [cell for cell in natural.cells if cell.by in ("age", "decade") and cell.fpr.faces]
    by_age = [
        [f"aged {cell.name} taken for {natural.challenge_age:g} or older", *_share(cell.fpr)]
        for cell in young
        if cell.fpr.estimate is not None or cell.by == "decade"
    ]
    thin = sum(cell.fpr.estimate is None and cell.by == "age" for cell in young)
    if thin:
        by_age.append([f"{thin} more ages in years", NONE, "too few"])
    sections = [section for section in (limits, by_age, teens) if section]
    return Lines("Taken for older (false adults), and teenagers", ["who", "faces", "share"], sections)


def _errors(model: ModelDecisions) -> Lines:
    found = model.accuracy
    tails = [
        [f"off by more than {years} years", share_words(rate), f"{rate.faces:,} faces"]
        for years, rate in found.off_by_more.items()
    ]
    rows = [
        ["MAE, years", _years(found.mae_years), f"{found.mae_years.faces:,} faces"],
        ["bias, years", _years(found.bias_years), f"{found.bias_years.faces:,} faces"],
        ["balanced MAE, years", _years(found.balanced), _of_cells(found.balanced)],
        ["balanced MAE, ages 18-30", _years(found.balanced_18_30), _of_cells(found.balanced_18_30)],
        [
            "SD of errors within a person",
            _years(found.within_person_sd),
            f"{found.persons_seen_often:,} persons with several photographs",
        ],
    ]
    return Lines("Errors", ["figure", "value", "over"], [rows, tails])


def _of_cells(balanced: Balanced) -> str:
    return f"{balanced.cells} cells of sex and year, {balanced.faces:,} faces"


def _eyes(model: ModelDecisions) -> Lines:
    rows = [
        [
            f"{row.first} or more" if row.last is None else f"{row.first}-{row.last - 1}",
            f"{row.mae_years.faces:,}",
            _years(row.mae_years),
        ]
        for row in model.accuracy.eyes
    ]
    return Lines(
        "By pixels between the eyes", ["pixels", "faces", "MAE, years"], [rows or [["unknown", "", ""]]]
    )


def _abstention(record: Decisions, model: ModelDecisions) -> Lines:
    rows = [
        [
            f"{row.kept:.0%}",
            f"{row.width_years:.1f}",
            _years(row.mae_years),
            share_words(row.fpr),
            share_words(row.fnr),
        ]
        for row in model.accuracy.abstention
    ]
    columns = ["kept", "width up to, years", "MAE, years", *_both_rates(record)]
    return Lines("Answering only where the interval is narrow", columns, [rows])
