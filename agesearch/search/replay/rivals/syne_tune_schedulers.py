"""Syne Tune's multi-objective schedulers, by their own protocol, for replays.

- ``MOASHA`` (Schmucker 2021): random configurations, stopped at rungs by non-dominated rank of (error,
  latency). Its ``NonDominatedPriority`` returns the trials' numbers in their order, and the rung reads them
  as ranks (versions 0.15 and 0.16); ``ranked`` turns the order into ranks, so that the method is judged as it
  is published, too.
- ``MultiObjectiveRegularizedEvolution``: every trial to its end; parents by the same priority, with its
  population of 100 or a smaller one.

Its searcher by expected hypervolume improvement is no row: it needs BoTorch, and counts from the fixed
reference point 2 of the negated objectives, which errors in years are all below (0.16).

A trial is booked under the parameters of the row that stands for what was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from agesearch.errors import InputError
from agesearch.metrics import EPOCH, LATENCY_MS_P50, VAL_MAE_YEARS
from agesearch.search.replay.curve_table import CurveRow, CurveTable
from agesearch.search.replay.rivals.asked_space import AskedSpace, LatencySpace, WholeSpace
from agesearch.search.space.conditions import Dimension, active, steps
from agesearch.search.stopping.rungs import rung_epochs
from agesearch.specs import Range, RungSpec


class SyneTune:
    """A scheduler of Syne Tune on (error, latency); see ``moasha`` and ``regularized_evolution``."""

    def __init__(self, record: CurveTable, seed: int, make: _Make, *, knows_latency: bool = False) -> None:
        self._record, self._library = record, _library()
        self._asks: AskedSpace = LatencySpace(record) if knows_latency else WholeSpace(record)
        self._trials: dict[int, Any] = {}
        self._random = np.random.RandomState(seed).get_state()
        with self._own_luck():
            space = {name: _domain(dimension) for name, dimension in sorted(self._asks.dimensions.items())}
            self._scheduler = make(self._library, space, record, seed)

    def ask(self, left: Sequence[CurveRow]) -> Mapping[str, object] | None:
        """What the scheduler suggests while rows are left, without the parameters whose condition does not
        hold.
        """
        if not left:
            return None
        with self._own_luck():
            wanted = self._asks.wanted(self._scheduler.suggest().config)
        there = active(self._record.spec, wanted)
        return {name: wanted[name] for name in there}

    def begin(self, row: CurveRow) -> int:
        """The scheduler is told of the trial."""
        from datetime import datetime

        number = len(self._trials)
        self._trials[number] = self._library.trial(number, dict(self._asks.booked(row)), datetime.min)
        with self._own_luck():
            self._scheduler.on_trial_add(self._trials[number])
        return number

    def goes_on(self, number: int, row: CurveRow, epoch: int) -> bool:
        """What the scheduler decides on the epoch's error and the latency."""
        with self._own_luck():
            decision = self._scheduler.on_trial_result(self._trials[number], _result(row, epoch))
        return bool(decision == "CONTINUE")

    def complete(self, number: int, row: CurveRow) -> None:
        """The last epoch is reported, then the end."""
        trial, result = self._trials[number], _result(row, len(row.errors))
        with self._own_luck():
            self._scheduler.on_trial_result(trial, result)
            self._scheduler.on_trial_complete(trial, result)

    @contextmanager
    def _own_luck(self) -> Iterator[None]:
        """Syne Tune draws from NumPy's global generator: it gets its own, seeded."""
        before = np.random.get_state()
        np.random.set_state(self._random)
        try:
            yield
        finally:
            self._random = np.random.get_state()
            np.random.set_state(before)


@dataclass(frozen=True)
class _Library:
    """The classes of Syne Tune that are used here; ``ranks`` is a priority that gives ranks."""

    trial: Any
    moasha: Any
    single_fidelity: Any
    evolution: Any
    ranks: Any


_Make = Callable[[_Library, dict[str, Any], CurveTable, int], Any]

_METRICS = [VAL_MAE_YEARS, LATENCY_MS_P50]


def moasha(*, ranked: bool, ours: bool) -> _Make:
    """MOASHA; ``ours`` gives it the grace period and the reduction of our rungs."""

    def make(library: _Library, space: dict[str, Any], record: CurveTable, seed: int) -> Any:
        rungs = (record.spec.rungs or RungSpec()) if ours else None
        budget = {"grace_period": _first_rung(record, rungs), "reduction_factor": rungs.eta} if rungs else {}
        priority = {"multiobjective_priority": library.ranks()} if ranked else {}
        longest = max(len(row.errors) for row in record.rows)
        return library.moasha(
            space, metrics=_METRICS, time_attr=EPOCH, max_t=longest, random_seed=seed, **budget, **priority
        )

    return make


def regularized_evolution(population: int | None = None) -> _Make:
    """Multi-objective regularized evolution with its defaults, or with ranks and a smaller population."""

    def make(library: _Library, space: dict[str, Any], record: CurveTable, seed: int) -> Any:
        small: dict[str, Any] = {}
        if population is not None:
            small = {"population_size": population, "multiobjective_priority": library.ranks()}
        searcher = library.evolution(space, random_seed=seed, **small)
        return library.single_fidelity(space, metrics=_METRICS, searcher=searcher, random_seed=seed)

    return make


def _result(row: CurveRow, epoch: int) -> dict[str, float]:
    return {EPOCH: epoch, VAL_MAE_YEARS: row.errors[epoch - 1], LATENCY_MS_P50: row.latency_ms}


def _domain(dimension: Dimension) -> Any:
    """The dimension as one of Syne Tune's."""
    from syne_tune import config_space

    if not isinstance(dimension, Range):
        return config_space.choice(list(steps(dimension)))
    if dimension.step is not None and not (dimension.integer and dimension.step == 1):
        return config_space.choice(list(steps(dimension)))
    if dimension.integer:
        whole = config_space.lograndint if dimension.log else config_space.randint
        return whole(int(dimension.low), int(dimension.high))
    return (config_space.loguniform if dimension.log else config_space.uniform)(dimension.low, dimension.high)


def _first_rung(record: CurveTable, rungs: RungSpec) -> int:
    """The epoch of the first rung; Syne Tune counts nothing else."""
    longest = max(len(row.errors) for row in record.rows)
    return next(iter(rung_epochs(longest, rungs, record.spec.student.optim.epoch_faces)), rungs.first_epoch)


def _library() -> _Library:
    try:
        from syne_tune.backend.trial_status import Trial
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA
        from syne_tune.optimizer.schedulers.multiobjective.multi_objective_regularized_evolution import (
            MultiObjectiveRegularizedEvolution,
        )
        from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import (
            NonDominatedPriority,
        )
        from syne_tune.optimizer.schedulers.single_fidelity_scheduler import SingleFidelityScheduler
    except ImportError as error:
        raise InputError(
            f"The strategies 'moasha' and 'mo-rea' need Syne Tune, which is not installed ({error}): "
            "install agesearch with its extra 'bench'."
        ) from error

    class Ranks(NonDominatedPriority):  # type: ignore[misc]
        """The place of each trial in the order, in place of the trial at each place."""

        def priority_unsafe(self, objectives: Any) -> Any:
            return np.argsort(super().priority_unsafe(objectives))

    return _Library(Trial, MOASHA, SingleFidelityScheduler, MultiObjectiveRegularizedEvolution, Ranks)
