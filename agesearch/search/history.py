"""The trials of a study, kept by Optuna in one SQLite file: what was tried, what came of it, what is next.

Thin over ``study.ask`` and ``study.tell``, without Ray, so that a test or a replay can drive it. What Optuna
is told is the truth: COMPLETE with both objectives, PRUNED and FAIL with their reason. A suggestion is a pure
function of the spec, the seed, the trial's number and what was told before, so a study that was cut and
resumed goes on as it would have. The same parameters may be suggested twice; such a trial is run again.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from agesearch.errors import InputError
from agesearch.metrics import LATENCY_MS_P50, VAL_CS5, VAL_MAE_YEARS
from agesearch.search.records import State, TrialRecord, front_of
from agesearch.search.space import optuna_distributions, trial_name, trial_spec
from agesearch.specs import StudySpec

STUDY_NAME = "agesearch"


@dataclass(frozen=True)
class Spent:
    """What a trial has cost: finished epochs and seconds of training."""

    epochs: int = 0
    seconds: float = 0.0


class History:
    """Suggests trials and remembers them. One process writes: ``storage.exclusive`` sees to that."""

    def __init__(self, storage: optuna.storages.BaseStorage, spec: StudySpec) -> None:
        study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
        self._study = study
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(STUDY_NAME)
        self._ids: dict[int, int] = {}
        self._spec = spec
        self._space = optuna_distributions(spec.space)
        self._records: dict[int, TrialRecord] = {}
        for trial in study.get_trials(deepcopy=False):
            if trial.state != TrialState.WAITING:
                self._records[trial.number] = _record(trial, spec)

    @classmethod
    def open(cls, database: Path, spec: StudySpec) -> History:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
            study = optuna.create_study(
                study_name=STUDY_NAME,
                storage=storage,
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
            with _calm():
                study.set_metric_names([VAL_MAE_YEARS, LATENCY_MS_P50])
            return cls(storage, spec)
        except Exception as error:  # SQLAlchemy and Optuna raise a dozen unrelated kinds for a broken file
            first = (str(error).splitlines() or [""])[0]
            raise InputError(f"'{database}' is not a study that Optuna can open: {first}") from error

    @property
    def records(self) -> list[TrialRecord]:
        """Every trial, by number."""
        return [self._records[number] for number in sorted(self._records)]

    @property
    def finished(self) -> int:
        """How many trials are COMPLETE, PRUNED or FAIL."""
        return sum(record.state is not State.RUNNING for record in self._records.values())

    @property
    def running(self) -> list[TrialRecord]:
        """Trials that were begun and not ended: after a kill, the ones to take up again."""
        return [record for record in self.records if record.state is State.RUNNING]

    def record(self, number: int) -> TrialRecord:
        return self._records[number]

    def front(self) -> list[TrialRecord]:
        """The COMPLETE trials that no other beats, by rising latency."""
        return front_of(self._records.values())

    def suggest(self) -> TrialRecord:
        """Begin a new trial."""
        self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False)))
        with _calm():
            trial = self._study.ask()
            return self._parametrised(trial)

    def take_up(self, number: int) -> TrialRecord:
        """A RUNNING trial again, with its parameters (those it lacks, if it was cut early, are suggested)."""
        self._study.sampler = self._sampler(number)
        return self._parametrised(optuna.trial.Trial(self._study, self._trial_id(number)))

    def knows_latency(self, number: int, latency_ms: float) -> TrialRecord:
        """Note a trial's latency, which is known before it trains."""
        return self._noted(number, {LATENCY_MS_P50: latency_ms})

    def retried(self, number: int) -> TrialRecord:
        """Note that a trial is taken up again after its process died."""
        return self._noted(number, {"retries": self._records[number].retries + 1})

    def complete(self, number: int, metrics: Mapping[str, float], spent: Spent) -> TrialRecord:
        """End a trial that trained its full budget; one without a finite error or latency FAILs instead."""
        mae, latency = metrics.get(VAL_MAE_YEARS), self._records[number].latency_ms_p50
        if mae is None or not math.isfinite(mae):
            stated = "missing" if mae is None else str(mae)
            return self.fail(number, f"{VAL_MAE_YEARS} is {stated}", spent)
        if latency is None or not math.isfinite(latency):
            return self.fail(number, f"{LATENCY_MS_P50} is {latency}", spent)
        notes: dict[str, Any] = {**asdict(spent), "reason": ""}
        if math.isfinite(metrics.get(VAL_CS5, math.nan)):
            notes[VAL_CS5] = metrics[VAL_CS5]
        self._noted(number, notes)
        self._study.tell(number, [mae, latency])
        return self._ended(number, State.COMPLETE, val_mae_years=mae)

    def prune(self, number: int, reason: str, spent: Spent, mae: float | None = None) -> TrialRecord:
        """End a trial that was stopped early; its last error is noted, and never on the front."""
        notes: dict[str, Any] = {"reason": reason, **asdict(spent)}
        if mae is not None and math.isfinite(mae):
            notes[VAL_MAE_YEARS] = mae
        self._noted(number, notes)
        self._study.tell(number, state=TrialState.PRUNED)
        return self._ended(number, State.PRUNED)

    def fail(self, number: int, reason: str, spent: Spent | None = None) -> TrialRecord:
        """End a trial that has no result."""
        self._noted(number, {"reason": reason, **asdict(spent or Spent())})
        self._study.tell(number, state=TrialState.FAIL)
        return self._ended(number, State.FAIL)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = int(np.random.SeedSequence([self._spec.seed, number]).generate_state(1)[0])
        with _calm():
            return optuna.samplers.TPESampler(
                n_startup_trials=self._spec.startup_trials, multivariate=True, group=True, seed=seed
            )

    def _parametrised(self, trial: optuna.Trial) -> TrialRecord:
        params = {field: _suggest(trial, field, dist) for field, dist in self._space.items()}
        known = self._records.get(trial.number)
        self._records[trial.number] = replace(
            known or TrialRecord(trial.number, State.RUNNING, ""),
            name=trial_name(trial.number, trial_spec(self._spec, params).model),
            params=params,
            started=_utc(trial.datetime_start),
        )
        return self._noted(trial.number, {"name": self._records[trial.number].name})

    def _noted(self, number: int, notes: dict[str, Any]) -> TrialRecord:
        trial_id = self._trial_id(number)
        for key, value in notes.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        self._records[number] = replace(self._records[number], **notes)
        return self._records[number]

    def _trial_id(self, number: int) -> int:
        if number not in self._ids:
            self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return self._ids[number]

    def _ended(self, number: int, state: State, **values: Any) -> TrialRecord:
        self._records[number] = replace(self._records[number], state=state, **values)
        return self._records[number]


@contextmanager
def _calm() -> Iterator[None]:
    """Without Optuna's warnings of what it marks experimental: metric names, and TPE in groups."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _suggest(trial: optuna.Trial, field: str, distribution: Any) -> Any:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(field, distribution.choices)
    low, high, log = distribution.low, distribution.high, distribution.log
    if isinstance(distribution, optuna.distributions.IntDistribution):
        return trial.suggest_int(field, low, high, step=distribution.step, log=log)
    return trial.suggest_float(field, low, high, step=distribution.step, log=log)


_STATES = {
    TrialState.RUNNING: State.RUNNING,
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAIL,
}


def _record(trial: FrozenTrial, spec: StudySpec) -> TrialRecord:
    notes = trial.user_attrs
    values = trial.values or [notes.get(VAL_MAE_YEARS), notes.get(LATENCY_MS_P50)]
    return TrialRecord(
        number=trial.number,
        state=_STATES[trial.state],
        name=notes.get("name") or trial_name(trial.number, trial_spec(spec, trial.params).model),
        params=dict(trial.params),
        reason=str(notes.get("reason", "")),
        val_mae_years=values[0],
        val_cs5=notes.get(VAL_CS5),
        latency_ms_p50=values[1],
        epochs=int(notes.get("epochs", 0)),
        started=_utc(trial.datetime_start),
        seconds=float(notes.get("seconds", 0.0)),
        retries=int(notes.get("retries", 0)),
    )


def _utc(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else ""  # Optuna keeps local time
