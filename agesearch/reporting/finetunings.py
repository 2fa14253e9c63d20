"""A fine-tuning's scores as rows of words: one a turn, mean and spread over the turns, and all faces."""

from __future__ import annotations

from agesearch.measure.accuracy import Estimate
from agesearch.measure.scores import KindScores, OverTurns
from agesearch.metrics import BIAS_YEARS, EPS_ERROR, MAE_YEARS, OUTSIDE_YEARS
from agesearch.training.finetune import Finetuning

#: More turns than these are not listed one by one.
_MOST_TURNS = 20

_YEARS = frozenset({MAE_YEARS, BIAS_YEARS, OUTSIDE_YEARS})


def score_rows(record: Finetuning, kind: KindScores) -> list[list[str]]:
    """Name, a figure a score, and the number of faces, in the order of ``kind.scores``."""
    rows = []
    if len(kind.turns) <= _MOST_TURNS:
        rows = [_row(turn.turn, turn.scores, kind) for turn in kind.turns]
    if kind.over_turns:
        spread = [_figure(name, over.mean) + f" ± {_figure(name, over.sd)}" for name, over in _over(kind)]
        rows.append([f"mean ± sd of {len(kind.turns)} turns", *spread, ""])
    name = "all faces" if kind.turns else next((t.name for t in record.turns if not t.failure), "all faces")
    rows.append(_row(name, kind.scores, kind, intervals=True))
    return rows


def _over(kind: KindScores) -> list[tuple[str, OverTurns]]:
    return [(name, kind.over_turns[name]) for name in kind.scores]


def _row(name: str, scores: dict[str, Estimate], kind: KindScores, *, intervals: bool = False) -> list[str]:
    figures = []
    for score in kind.scores:
        found = scores[score]
        bounds = f" ({_figure(score, found.low)}–{_figure(score, found.high)})" if intervals else ""
        figures.append(_figure(score, found.value) + bounds)
    return [name, *figures, f"{next(iter(scores.values())).faces:,}"]


def _figure(score: str, value: float) -> str:
    if score in _YEARS:
        return f"{value:.2f}"
    return f"{value:.3f}" if score == EPS_ERROR else f"{value:.1%}"
