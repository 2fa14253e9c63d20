"""Search strategies of other libraries, as a user of theirs would run them, for replays.

- Optuna: ``TPESampler`` with its defaults on a study of two objectives, every trial to its end.
- Syne Tune: its own ``MOASHA`` class (Schmucker 2021), random configurations, stopped at rungs by
  non-dominated rank of (error, latency). Its ``NonDominatedPriority`` returns the trials' numbers in their
  order, and the rung reads them as ranks (versions 0.15 and 0.16); ``ranked`` turns the order into ranks, so
  that the method is judged as it is published, too.

Both book a trial under the parameters of the row that stands for what they asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from agesearch.errors import InputError
from agesearch.metrics import EPOCH, LATENCY_MS_P50, VAL_MAE_YEARS
from agesearch.search.replay.curve_table import CurveRow, CurveTable
from agesearch.search.space.conditions import Dimension, active, steps
from agesearch.search.space.space import optuna_distributions
from agesearch.search.stopping.rungs import rung_epochs
from agesearch.search.store.optuna_database import without_warnings
from agesearch.specs import Range, RungSpec


class PlainOptuna:
    """``study.ask`` and ``study.tell`` on a study in memory."""

    def __init__(self, record: CurveTable, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._record = record
        self._storage = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(
            directions=["minimize", "minimize"],
            sampler=optuna.samplers.TPESampler(seed=seed),
            storage=self._storage,
        )
        self._space = optuna_distributions(record.spec.space)

    def ask(self, left: Sequence[CurveRow]) -> Mapping[str, object] | None:
        """What TPE suggests, while rows are left."""
        if not left:
            return None
        with without_warnings():
            self._asked = self._study.ask(self._space)
        return self._asked.params

    def begin(self, row: CurveRow) -> int:
        """The trial takes the row's parameters in place of those asked."""
        for name, value in row.params.items():
            distribution = self._space[name]
            inner = distribution.to_internal_repr(value)
            self._storage.set_trial_param(self._asked._trial_id, name, inner, distribution)
        return self._asked.number

    def goes_on(self, number: int, row: CurveRow, epoch: int) -> bool:
        """Always."""
        return True

    def complete(self, number: int, row: CurveRow) -> None:
        """Both objectives are told."""
        with without_warnings():
            self._study.tell(number, list(row.point), state=TrialState.COMPLETE)


class Moasha:
    """Syne Tune's scheduler by its own protocol; ``rungs`` gives it our grace period and reduction."""

    def __init__(self, record: CurveTable, seed: int, *, ranked: bool, rungs: RungSpec | None) -> None:
        moasha, trial, ranks = _syne_tune()
        self._record, self._trial = record, trial
        self._trials: dict[int, Any] = {}
        self._random = np.random.RandomState(seed).get_state()
        spec, longest = record.spec, max(len(row.errors) for row in record.rows)
        ours = {"grace_period": _first_rung(record, rungs), "reduction_factor": rungs.eta} if rungs else {}
        priority = {"multiobjective_priority": ranks()} if ranked else {}
        with self._own_luck():
            self._scheduler = moasha(
                {name: _domain(dimension) for name, dimension in sorted(spec.space.items())},
                metrics=[VAL_MAE_YEARS, LATENCY_MS_P50],
                time_attr=EPOCH,
                max_t=longest,
                random_seed=seed,
                **ours,
                **priority,
            )

    def ask(self, left: Sequence[CurveRow]) -> Mapping[str, object] | None:
        """What the scheduler suggests while rows are left, without the parameters whose condition does not
        hold.
        """
        if not left:
            return None
        with self._own_luck():
            config = self._scheduler.suggest().config
        there = active(self._record.spec, config)
        return {name: config[name] for name in there}

    def begin(self, row: CurveRow) -> int:
        """The scheduler is told of the trial."""
        from datetime import datetime

        number = len(self._trials)
        self._trials[number] = self._trial(number, dict(row.params), datetime.min)
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


def _syne_tune() -> tuple[Any, Any, Any]:
    """The scheduler, the trial, and a priority that gives ranks."""
    try:
        from syne_tune.backend.trial_status import Trial
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA
        from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import (
            NonDominatedPriority,
        )
    except ImportError as error:
        raise InputError(
            f"The strategy 'moasha' needs Syne Tune, which is not installed ({error}): "
            "install agesearch with its extra 'bench'."
        ) from error

    class Ranks(NonDominatedPriority):  # type: ignore[misc]
        """The place of each trial in the order, in place of the trial at each place."""

        def priority_unsafe(self, objectives: Any) -> Any:
            return np.argsort(super().priority_unsafe(objectives))

    return MOASHA, Trial, Ranks
