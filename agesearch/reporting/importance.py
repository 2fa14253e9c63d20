"""Which parameters decided the error, and how far that can be trusted with the trials there are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agesearch.search.space.space import optuna_distributions
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import StudySpec

#: Fewer complete trials than this say nothing about a dozen parameters.
MIN_TRIALS = 8

_RESAMPLES = 60
#: A large study is stable and its resamples are slow: fewer then.
_RESAMPLED_TRIALS = 20_000


@dataclass(frozen=True)
class Importance:
    """A parameter's share (0..1, all sum to 1) in what makes trials good, and its 90 % interval."""

    name: str
    share: float
    low: float
    high: float


def importances(spec: StudySpec, records: Sequence[TrialRecord], *, seed: int = 0) -> list[Importance]:
    """PED-ANOVA importances (Watanabe 2023) of the searched parameters for ``val_mae_years``, largest first.

    Intervals come from drawing the trials anew with replacement; with few trials they are wide, and say so.
    Empty where fewer than ``MIN_TRIALS`` trials are COMPLETE or only one value of everything was tried.
    """
    complete = [record for record in records if record.state is State.COMPLETE]
    if len(complete) < MIN_TRIALS:
        return []
    point = _shares(spec, complete)
    if not point:
        return []
    generator = np.random.default_rng(seed)
    rounds = max(10, min(_RESAMPLES, _RESAMPLED_TRIALS // len(complete)))
    drawn: dict[str, list[float]] = {name: [] for name in point}
    for _ in range(rounds):
        chosen = generator.integers(0, len(complete), len(complete))
        resampled = _shares(spec, [complete[index] for index in chosen])
        for name, values in drawn.items():
            values.append(resampled.get(name, 0.0))
    rows = [
        Importance(name, share, *(float(q) for q in np.quantile(drawn[name], [0.05, 0.95])))
        for name, share in point.items()
    ]
    return sorted(rows, key=lambda row: row.share, reverse=True)


def _shares(spec: StudySpec, records: Sequence[TrialRecord]) -> dict[str, float]:
    """Optuna's importances by parameter; empty where it finds nothing to compare."""
    import optuna

    space = optuna_distributions(spec.space)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="minimize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=record.params,
                distributions={name: space[name] for name in record.params},
                value=record.val_mae_years,
            )
            for record in records
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that low values count as good, which is what we want
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares: dict[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return shares if sum(shares.values()) > 0 else {}
