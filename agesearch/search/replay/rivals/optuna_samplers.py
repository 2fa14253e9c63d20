"""Optuna's samplers on a study of two objectives, with their defaults: ``study.ask`` and ``study.tell``.

Trials that run are in the study as RUNNING, which ``GPSampler`` (q-batch log expected hypervolume
improvement, Optuna 5) and ``TPESampler`` (its constant liar) both take into account. A limit of the error is
told as a constraint. A trial is booked under the parameters of the row that stands for what was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState

from agesearch.search.replay.curve_table import CurveRow, CurveTable
from agesearch.search.replay.rivals.asked_space import AskedSpace, LatencySpace, WholeSpace
from agesearch.search.replay.rivals.pareto_pruner import ParetoPruner
from agesearch.search.space.space import optuna_distributions
from agesearch.search.store.optuna_database import without_warnings
from agesearch.specs import RungSpec

_NAME = "replay"

Sampler = Callable[[int], optuna.samplers.BaseSampler]

SAMPLERS: Mapping[str, Sampler] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "nsga2-16": lambda seed: optuna.samplers.NSGAIISampler(population_size=16, seed=seed),
}


class OptunaStudy:
    """One of ``SAMPLERS`` on a study in memory; ``prunes`` puts the Pareto-rank pruner on top of it."""

    def __init__(
        self,
        record: CurveTable,
        seed: int,
        sampler: str,
        *,
        knows_latency: bool = False,
        prunes: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._asks: AskedSpace = LatencySpace(record) if knows_latency else WholeSpace(record)
        self._space = optuna_distributions(self._asks.dimensions)
        self._limit = record.spec.max_mae_years
        self._pruner = ParetoPruner(RungSpec().first_epoch) if prunes else None
        self._storage = optuna.storages.InMemoryStorage()
        with without_warnings():
            self._study = optuna.create_study(
                study_name=_NAME,
                directions=["minimize", "minimize"],
                sampler=SAMPLERS[sampler](seed),
                storage=self._storage,
            )
        self._study_id = self._storage.get_study_id_from_name(_NAME)
        self._trials: dict[int, optuna.Trial] = {}

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """The trials as Optuna has them."""
        return self._study.get_trials(deepcopy=False)

    def ask(self, left: Sequence[CurveRow]) -> Mapping[str, object] | None:
        """What the sampler suggests, while rows are left."""
        if not left:
            return None
        with without_warnings():
            self._asked = self._study.ask(self._space)
        return self._asks.wanted(self._asked.params)

    def begin(self, row: CurveRow) -> int:
        """The trial takes the row's parameters in place of those asked."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, self._asked.number)
        for name, value in self._asks.booked(row).items():
            distribution = self._space[name]
            inner = distribution.to_internal_repr(value)
            self._storage.set_trial_param(trial_id, name, inner, distribution)
        self._trials[self._asked.number] = self._asked
        return self._asked.number

    def goes_on(self, number: int, row: CurveRow, epoch: int) -> bool:
        """What the pruner says, where there is one."""
        if self._pruner is None:
            return True
        if self._pruner.goes_on(epoch, (min(row.errors[:epoch]), row.latency_ms)):
            return True
        self._tell(number, None, TrialState.PRUNED)
        return False

    def complete(self, number: int, row: CurveRow) -> None:
        """Both objectives are told."""
        if self._pruner is not None:
            self._pruner.complete()
        if self._limit is not None:
            self._trials[number].set_constraint("max_mae_years", row.point[0] - self._limit)
        self._tell(number, list(row.point), TrialState.COMPLETE)

    def _tell(self, number: int, values: Any, state: TrialState) -> None:
        with without_warnings():
            self._study.tell(number, values, state=state)
