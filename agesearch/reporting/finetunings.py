"""A fine-tuning's scores as rows of words: one a turn, mean and spread over the turns, and all faces."""

from __future__ import annotations

from agesearch.measure.intervals import Estimate
from agesearch.measure.scores import KindScores
from agesearch.reporting.evaluations import interval_text, score_name, score_text
from agesearch.training.protocols.finetune import Finetuning

#: More turns than these are not listed one by one.
_MOST_TURNS = 20


def score_columns(kind: KindScores) -> list[str]:
    """The heads of the columns that ``score_rows`` fills."""
    return ["turn", *(score_name(name) for name in kind.scores), "faces"]


def score_rows(record: Finetuning, kind: KindScores) -> list[list[str]]:
    """One row a turn, mean ± sample standard deviation over the turns, and all faces with their intervals."""
    rows = []
    if len(kind.turns) <= _MOST_TURNS:
        rows = [_row(turn.turn, turn.scores, kind) for turn in kind.turns]
    if kind.over_turns:
        over = [(name, kind.over_turns[name]) for name in kind.scores]
        spread = [f"{score_text(name, found.mean)} ± {score_text(name, found.sd)}" for name, found in over]
        rows.append(["mean ± sd", *spread, ""])
    only = next((turn.name for turn in record.turns if not turn.failure), "")
    rows.append(_row("all faces" if kind.turns else only, kind.scores, kind, intervals=True))
    return rows


def _row(name: str, scores: dict[str, Estimate], kind: KindScores, *, intervals: bool = False) -> list[str]:
    figures = []
    for score in kind.scores:
        found = scores[score]
        bounds = f" ({interval_text(score, found.low, found.high)})" if intervals else ""
        figures.append(score_text(score, found.value) + bounds)
    return [name, *figures, f"{next(iter(scores.values())).faces:,}"]
