"""An evaluation as tables of text, narrow enough for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agesearch import metrics
from agesearch.measure.evaluate import Evaluation, ModelScores
from agesearch.measure.intervals import Estimate
from agesearch.measure.scores import Difference, KindScores, OverTurns
from agesearch.metrics import signed

#: Turns shown one by one; of more, only their mean.
_MAX_TURNS = 12
_YEARS = frozenset({metrics.MAE_YEARS, metrics.OUTSIDE_YEARS})

_NAMES = {
    metrics.MAE_YEARS: "MAE, years",
    metrics.BIAS_YEARS: "bias, years",
    metrics.EPS_ERROR: "eps-error",
    metrics.TOP1: "top-1",
    metrics.ONE_OFF: "1-off",
    metrics.TOP1_BY_AGE: "top-1 by age",
    metrics.ONE_OFF_BY_AGE: "1-off by age",
    metrics.IN_GROUP: "in group",
    metrics.OUTSIDE_YEARS: "years outside",
}

_EXPLAINED = {
    metrics.BIAS_YEARS: "bias: positive is too old",
    metrics.EPS_ERROR: "eps-error: 0 best, 1 worst",
    metrics.TOP1: "top-1, 1-off: the group with the most mass of the model's distribution is the right one, "
    "or next to it; 'by age': the group nearest to the expected age, gaps between groups cut half way",
    metrics.OUTSIDE_YEARS: "years outside: how far the predicted age lies from the label's age group",
}


@dataclass(frozen=True)
class Lines:
    """A table: its title, its columns, and its rows in sections that a line parts."""

    title: str
    columns: Sequence[str]
    sections: Sequence[Sequence[Sequence[str]]]


def evaluation_tables(record: Evaluation) -> list[Lines]:
    """The tables of an evaluation: of one model all figures, of several models how they compare."""
    if len(record.models) == 1:
        return [table for kind in record.models[0].kinds for table in _of_model(record, kind)]
    kinds = [kind.kind for kind in record.models[0].kinds]
    return [table for kind in kinds for table in _comparison(record, kind)]


def legend(record: Evaluation) -> str:
    """What the figures are, in a line or two."""
    scores = {name for kind in record.models[0].kinds for name in kind.scores}
    parts = [words for name, words in _EXPLAINED.items() if name in scores]
    drawn = " and ".join(sorted({kind.drawn for kind in record.models[0].kinds}))
    parts.append(f"intervals: 95 %, bootstrap over {drawn} (–: no draw differs)")
    if any(kind.over_turns for kind in record.models[0].kinds):
        parts.append("mean of turns: each turn counted once, as published over folds; sd: over the turns")
    if len(record.models) > 1:
        parts.append("minus best: paired on the same faces; a tie's interval holds 0")
    return f"{'. '.join(part[0].upper() + part[1:] for part in parts)}."


def score_name(name: str) -> str:
    """A score as people write it: ``MAE, years``, ``CS@5``."""
    return _NAMES.get(name) or (f"CS@{name[2:]}" if name.startswith("cs") else name)


def score_text(name: str, value: float) -> str:
    """A value in the score's unit: years with a sign for a bias, shares in per cent."""
    if name == metrics.BIAS_YEARS:
        return signed(value)
    if name == metrics.EPS_ERROR:
        return f"{value:.3f}"
    return f"{value:.2f}" if name in _YEARS else f"{100 * value:.1f} %"


def interval_text(name: str, low: float, high: float) -> str:
    """``5.71–6.55``; a dash where no draw differs: such faces do not tell how sure a figure is."""
    if high - low < 1e-4:
        return "–"
    first, last = score_text(name, low), score_text(name, high)
    if name == metrics.BIAS_YEARS:
        return f"{first} to {last}"
    return f"{first.removesuffix(' %')}–{last}"


def _of_model(record: Evaluation, kind: KindScores) -> Iterator[Lines]:
    names = list(kind.scores)
    yield Lines(
        f"{record.protocol} on {record.dataset.name}: {_faces(kind)}",
        ["score", "value", "interval", *(["mean of turns", "sd"] if kind.over_turns else [])],
        [[_score_row(kind, name) for name in names]],
    )
    if 1 < len(kind.turns) <= _MAX_TURNS:
        yield _turns(kind, names)
    if kind.slices:
        sections: dict[str, list[list[str]]] = {}
        for part in kind.slices:
            row = [f"{part.by} {part.name}", *_cells(part.scores, kind.headline)]
            sections.setdefault(part.by, []).append(row)
        yield Lines(
            f"By part, {kind.kind} labels", _columns("part", names, kind.headline), list(sections.values())
        )


def _score_row(kind: KindScores, name: str) -> list[str]:
    found = kind.scores[name]
    row = [score_name(name), score_text(name, found.value), interval_text(name, found.low, found.high)]
    if kind.over_turns:
        over = kind.over_turns[name]
        row += [_mean(name, over), score_text(name, over.sd).lstrip("+")]
    return row


def _mean(name: str, over: OverTurns) -> str:
    interval = (
        f" ({interval_text(name, over.low, over.high)})"
        if over.low is not None and over.high is not None
        else ""
    )
    return f"{score_text(name, over.mean)}{interval}"


def _turns(kind: KindScores, names: Sequence[str]) -> Lines:
    rows = [[f"turn {turn.turn}", *_cells(turn.scores, kind.headline)] for turn in kind.turns]
    return Lines(f"By turn, {kind.kind} labels", _columns("turn", names, kind.headline), [rows])


def _columns(first: str, names: Sequence[str], headline: str) -> list[str]:
    others = [score_name(name) for name in names if name != headline]
    return [first, "faces", score_name(headline), "interval", *others]


def _cells(scores: dict[str, Estimate], headline: str) -> list[str]:
    others = [score_text(name, found.value) for name, found in scores.items() if name != headline]
    return [f"{scores[headline].faces:,}", *_headline_cells(headline, scores[headline]), *others]


def _headline_cells(name: str, found: Estimate) -> list[str]:
    return [score_text(name, found.value), interval_text(name, found.low, found.high)]


def _comparison(record: Evaluation, kind: str) -> Iterator[Lines]:
    found = {model.name: _kind(model, kind) for model in record.models}
    first = next(iter(found.values()))
    head = first.headline
    against = {row.model: row for row in record.differences if row.kind == kind}
    sign = 1.0 if head in metrics.SMALLER_IS_BETTER else -1.0
    ordered = sorted(found.items(), key=lambda item: sign * item[1].scores[head].value)
    rows = [
        [name, *_headline_cells(head, one.scores[head]), *_against(against.get(name))]
        for name, one in ordered
    ]
    columns = ["model", score_name(head), "interval", "minus best", "interval", ""]
    yield Lines(f"{record.protocol} on {record.dataset.name}: {_faces(first)}", columns, [rows])
    others = [name for name in first.scores if name != head]
    cells = [[name, *(score_text(key, one.scores[key].value) for key in others)] for name, one in ordered]
    yield Lines("The other scores", ["model", *map(score_name, others)], [cells])


def _against(row: Difference | None) -> list[str]:
    if row is None:
        return ["", "", "best"]
    in_percent = row.score not in metrics.SMALLER_IS_BETTER
    digits = 3 if row.score == metrics.EPS_ERROR else 1 if in_percent else 2
    found = row.difference
    value, low, high = (
        signed((100.0 if in_percent else 1.0) * number, digits)
        for number in (found.value, found.low, found.high)
    )
    return [value, f"{low} to {high}", "tie" if row.is_tie else "worse"]


def _kind(model: ModelScores, kind: str) -> KindScores:
    return next(found for found in model.kinds if found.kind == kind)


def _faces(kind: KindScores) -> str:
    return f"{kind.basis}, {kind.kind} labels"
