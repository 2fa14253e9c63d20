"""The trials of a study, kept by Optuna in one SQLite file: what was tried, and what came of it.

Thin over Optuna's storage, without Ray, so that a test or a replay can drive it. What Optuna is told is the
truth: COMPLETE with both objectives, PRUNED and FAIL with their reason. What is tried next is none of its
business: ``agesearch.search.run.suggester`` asks the sampler.

Optuna has no word for a trial that is paused: it is RUNNING there, with the note ``paused`` and its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from agesearch.errors import InputError
from agesearch.metrics import AT_END, LATENCY_MS_P50, VAL_CS5, VAL_MAE_YEARS, or_nan
from agesearch.models.architectures import Network
from agesearch.search.space.limits import Latencies
from agesearch.search.space.space import Params, optuna_distributions, trial_name, trial_spec
from agesearch.search.store.front_limits import LIMITED, FrontLimits
from agesearch.search.store.optuna_database import Ending, without_warnings, writer_of
from agesearch.search.store.records import (
    CURVE,
    EXPECTED_LOSS,
    INHERITED,
    NODE,
    PAUSED,
    State,
    TrialRecord,
    front_of,
)
from agesearch.specs import StudySpec
from agesearch.storage import sqlite_url

STUDY_NAME = "agesearch"

#: Hears of each record that is new or has changed.
RecordListener = Callable[[TrialRecord], None]


@dataclass(frozen=True)
class TrialCost:
    """What a trial has cost: finished epochs, seconds of training, and the error after each epoch; and the
    node that ran it last.
    """

    epochs: int = 0
    seconds: float = 0.0
    curve: tuple[float, ...] = ()
    node: str = ""


class History:
    """Remembers trials. One process writes: ``storage.exclusive`` sees to that."""

    def __init__(self, storage: optuna.storages.BaseStorage, spec: StudySpec) -> None:
        study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
        self._study = study
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(STUDY_NAME)
        self._writer = writer_of(storage, self._study_id)
        self._ids: dict[int, int] = {}
        self._spec = spec
        self.latencies: Latencies = {}  # of the networks, where known: a trial begins with its own
        self._space = optuna_distributions(spec.space)
        self._records: dict[int, TrialRecord] = {}
        trials = study.get_trials(deepcopy=False)
        self._begun = len(trials)  # Optuna would read every trial from disk to count them
        for trial in sorted(trials, key=lambda trial: trial.number):
            if trial.state != TrialState.WAITING:
                self._records[trial.number] = _record(trial, spec)
        self._finished = sum(record.state.ended for record in self._records.values())
        self._listeners: list[RecordListener] = []
        self._paused = {n: record for n, record in self._records.items() if record.state is State.PAUSED}

    @classmethod
    def open(cls, database: Path, spec: StudySpec) -> History:
        """The study in an SQLite file, new or old."""
        try:
            return cls(_study_in(optuna.storages.RDBStorage(sqlite_url(database))), spec)
        except Exception as error:  # SQLAlchemy and Optuna raise a dozen unrelated kinds for a broken file
            first = (str(error).splitlines() or [""])[0]
            raise InputError(f"'{database}' is not a study that Optuna can open: {first}") from error

    @classmethod
    def in_memory(cls, spec: StudySpec) -> History:
        """A new study that nobody else sees, for replays."""
        return cls(_study_in(optuna.storages.InMemoryStorage()), spec)

    @property
    def records(self) -> list[TrialRecord]:
        """Every trial, by number."""
        return list(self._records.values())

    def all(self) -> Collection[TrialRecord]:
        """Every trial, by number, which is the order they began in; nothing is copied."""
        return self._records.values()

    def newest(self, most: int) -> list[TrialRecord]:
        """At most so many trials, those that began last, newest first."""
        return list(islice(reversed(self._records.values()), most))

    @property
    def finished(self) -> int:
        """How many trials are COMPLETE, PRUNED or FAIL."""
        return self._finished

    @property
    def running(self) -> list[TrialRecord]:
        """Trials that were begun and not ended: after a kill, the ones to take up again."""
        return [record for record in self.records if record.state is State.RUNNING]

    @property
    def begun(self) -> int:
        """How many trials were begun, which is the number of the next."""
        return self._begun

    @property
    def paused(self) -> list[TrialRecord]:
        """The trials that wait at a rung, by number."""
        return [self._paused[number] for number in sorted(self._paused)]

    def record(self, number: int) -> TrialRecord:
        return self._records[number]

    def watch(self, listener: RecordListener) -> None:
        """From now on tell ``listener`` of each record that is new or has changed."""
        self._listeners.append(listener)

    def attribute(self, name: str) -> Any:
        """An attribute of the study; None where it has none of this name."""
        return self._study.user_attrs.get(name)

    def set_attribute(self, name: str, value: Any) -> None:
        """Keep an attribute of the study, any JSON value."""
        self._storage.set_study_user_attr(self._study_id, name, value)

    def front(self) -> list[TrialRecord]:
        """The COMPLETE trials within the limits that no other beats, by rising latency."""
        return front_of(self._records.values(), FrontLimits.of(self._spec))

    def begin(self, params: Params, notes: Mapping[str, Any] | None = None) -> TrialRecord:
        """Begin a new trial with these parameters: it is stored whole, or not at all."""
        number = self._begun
        model = trial_spec(self._spec, params).model
        name, latency = trial_name(number, model), self.latencies.get(Network.of(model))
        known: dict[str, Any] = {LATENCY_MS_P50: latency} if isinstance(latency, float) else {}
        trial = create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions={name: self._space[name] for name in params},
            user_attrs={"name": name, **known, **(notes or {})},
        )
        self._stored(number, trial)
        begun = TrialRecord(number, State.RUNNING, name, dict(params), started=_utc(trial.datetime_start))
        return self._kept(replace(begun, **known, inherited=(notes or {}).get(INHERITED)))

    def add(self, records: Iterable[TrialRecord]) -> None:
        """Take COMPLETE trials in that were run elsewhere; they get the next numbers."""
        for record in records:
            notes = {"name": record.name, "epochs": record.epochs, CURVE: list(record.curve)}
            trial = create_trial(
                state=TrialState.COMPLETE,
                params=record.params,
                distributions={name: self._space[name] for name in record.params},
                values=[or_nan(record.val_mae_years), or_nan(record.latency_ms_p50)],
                user_attrs=notes,
                intermediate_values=dict(enumerate(record.curve, start=1)),
            )
            number = self._begun
            self._stored(number, trial)
            self._kept(replace(record, number=number))
            self._finished += 1

    def set_params(self, number: int, params: Params) -> TrialRecord:
        """Give a RUNNING trial the parameters that it lacks: another tool began it and left."""
        record = self._records[number]
        for field in params.keys() - record.params.keys():
            value = self._space[field].to_internal_repr(params[field])
            self._storage.set_trial_param(self._trial_id(number), field, value, self._space[field])
        name = trial_name(number, trial_spec(self._spec, params).model)
        self._kept(replace(record, params=params))
        return self._noted(number, {"name": name})

    def pause(self, number: int, reason: str, spent: TrialCost) -> TrialRecord:
        """A trial waits at a rung: for Optuna it runs on."""
        record = self._noted(number, {"reason": reason, **asdict(spent)}, {PAUSED: True})
        self._paused[number] = self._kept(replace(record, state=State.PAUSED))
        return self._records[number]

    def unpause(self, number: int) -> TrialRecord:
        """A PAUSED trial goes on."""
        record = self._noted(number, {"reason": "", **asdict(TrialCost())}, {PAUSED: False})
        del self._paused[number]
        return self._kept(replace(record, state=State.RUNNING))

    def knows_latency(self, number: int, latency_ms: float) -> TrialRecord:
        """Note a trial's latency, which is known before it trains."""
        if self._records[number].latency_ms_p50 == latency_ms:
            return self._records[number]
        return self._noted(number, {LATENCY_MS_P50: latency_ms})

    def retried(self, number: int) -> TrialRecord:
        """Note that a trial is taken up again after its process died."""
        return self._noted(number, {"retries": self._records[number].retries + 1})

    def complete(self, number: int, metrics: Mapping[str, float], spent: TrialCost) -> TrialRecord:
        """End a trial that trained its full budget; one without a finite error or latency FAILs instead."""
        mae, latency = metrics.get(VAL_MAE_YEARS), self._records[number].latency_ms_p50
        if mae is None or not math.isfinite(mae):
            stated = "missing" if mae is None else str(mae)
            return self.fail(number, f"{VAL_MAE_YEARS} is {stated}", spent)
        if latency is None or not math.isfinite(latency):
            return self.fail(number, f"{LATENCY_MS_P50} is {latency}", spent)
        notes: dict[str, Any] = {**asdict(spent), "reason": ""}
        notes |= {name: metrics[name] for name in (VAL_CS5, *AT_END) if _is_finite(metrics.get(name))}
        return self._ended(number, TrialState.COMPLETE, notes, (mae, latency))

    def prune(
        self,
        number: int,
        reason: str,
        spent: TrialCost,
        mae: float | None = None,
        loss: float | None = None,
    ) -> TrialRecord:
        """End a trial that was stopped early; its last error is noted, and never on the front, and what
        stopping it is expected to cost.
        """
        notes: dict[str, Any] = {"reason": reason, **asdict(spent)}
        if loss:
            notes[EXPECTED_LOSS] = loss
        if mae is not None and math.isfinite(mae):
            notes[VAL_MAE_YEARS] = mae
        return self._ended(number, TrialState.PRUNED, notes)

    def fail(self, number: int, reason: str, spent: TrialCost | None = None) -> TrialRecord:
        """End a trial that has no result."""
        return self._ended(number, TrialState.FAIL, {"reason": reason, **asdict(spent or TrialCost())})

    def _stored(self, number: int, trial: FrozenTrial) -> None:
        self._ids[number] = self._writer.begin(number, trial)
        self._begun += 1

    def _noted(
        self, number: int, notes: dict[str, Any], flags: Mapping[str, bool] | None = None
    ) -> TrialRecord:
        self._writer.note(self._trial_id(number), notes | dict(flags or {}), notes.get(CURVE, ()))
        return self._kept(replace(self._records[number], **notes))

    def _kept(self, record: TrialRecord) -> TrialRecord:
        self._records[record.number] = record
        for listener in self._listeners:
            listener(record)
        return record

    def _trial_id(self, number: int) -> int:
        if number not in self._ids:
            self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return self._ids[number]

    def _ended(
        self, number: int, state: TrialState, notes: dict[str, Any], values: tuple[float, ...] = ()
    ) -> TrialRecord:
        flag = {} if self._paused.pop(number, None) is None else {PAUSED: False}
        above = above_limits(self._spec, values, notes)
        ending = Ending(state, notes | flag, curve=notes[CURVE], values=values, constraints=above)
        self._writer.end(self._trial_id(number), ending)
        self._finished += 1
        if values:
            notes = notes | {VAL_MAE_YEARS: values[0]}
        return self._kept(replace(self._records[number], state=_STATES[state], **notes))


def above_limits(spec: StudySpec, values: Sequence[float], notes: Mapping[str, Any]) -> dict[str, float]:
    """How far a trial's objectives (none where it is not COMPLETE), and what its ``notes`` say was measured
    at its end, are above the limits of its study, at most 0 within them: Optuna's constraints.
    """
    limits = {"max_mae_years": spec.max_mae_years, "max_latency_ms": spec.max_latency_ms}
    pairs = zip(limits.items(), values, strict=False)
    found = {name: value - limit for (name, limit), value in pairs if limit is not None}
    for name, limit in FrontLimits.of(spec).besides_the_error.highest.items():
        if values and notes.get(LIMITED[name]) is not None:
            found[name] = notes[LIMITED[name]] - limit
    return found


def _study_in(storage: optuna.storages.BaseStorage) -> optuna.storages.BaseStorage:
    """The storage, with the study made where it is not there yet."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=STUDY_NAME, storage=storage, directions=["minimize", "minimize"], load_if_exists=True
    )
    with without_warnings():
        study.set_metric_names([VAL_MAE_YEARS, LATENCY_MS_P50])
    return storage


_STATES = {
    TrialState.RUNNING: State.RUNNING,
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAIL,
}


def _record(trial: FrozenTrial, spec: StudySpec) -> TrialRecord:
    notes, is_open = trial.user_attrs, trial.state == TrialState.RUNNING
    values = trial.values or [notes.get(VAL_MAE_YEARS), notes.get(LATENCY_MS_P50)]
    return TrialRecord(
        number=trial.number,
        state=State.PAUSED if is_open and notes.get(PAUSED) and notes.get(CURVE) else _STATES[trial.state],
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
        inherited=notes.get(INHERITED),
        expected_loss=notes.get(EXPECTED_LOSS),
        curve=tuple(notes.get(CURVE, ())),
        node=str(notes.get(NODE, "")),
        **{name: notes.get(name) for name in AT_END},
    )


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _utc(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else ""  # Optuna keeps local time
