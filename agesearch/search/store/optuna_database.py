"""Writing trials into Optuna's storage, each of their steps in one transaction.

Optuna's own calls write one attribute at a time, each in a transaction of its own with several look-ups:
beginning and ending a trial so took 45 ms of processor time and a dozen waits for the disk, in which a large
cluster's slots stand still. ``SQLiteWriter`` writes the same rows into Optuna's own tables, whole or not at
all; what it wrote, any Optuna tool reads. Other storages, and other tables, get Optuna's calls.

A learning curve is stored as intermediate values, one a step, when a trial ends or pauses: a transaction for
each epoch would be most of a driver's work. Optuna's own ``Trial.report`` refuses several objectives, its
storages and its dashboard do not.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from agesearch.search.store.optuna_tables import OptunaTables, optuna_tables


@dataclass(frozen=True)
class Ending:
    """How a trial ends: its state, last notes and curve, and where it is COMPLETE both objectives and how far
    they are above each limit (Optuna's constraints: at most 0 is within).
    """

    state: TrialState
    notes: Mapping[str, Any]
    curve: Sequence[float] = ()
    values: Sequence[float] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)


class TrialWriter(Protocol):
    """Writes the trials of one study. Ids are Optuna's; notes are user attributes, any JSON value each."""

    def begin(self, number: int, trial: FrozenTrial) -> int:
        """Store a new trial whole, as number ``number``; returns its id."""
        ...

    def note(self, trial_id: int, notes: Mapping[str, Any], curve: Sequence[float] = ()) -> None:
        """Add notes to a trial that has not ended, and its error after each epoch so far."""
        ...

    def end(self, trial_id: int, ending: Ending) -> None:
        """End a trial that has not ended."""
        ...


def writer_of(storage: optuna.storages.BaseStorage, study_id: int) -> TrialWriter:
    """The fastest writer that a storage has."""
    if isinstance(storage, optuna.storages.RDBStorage) and storage.engine.name == "sqlite":
        tables = optuna_tables()
        if tables is not None:
            return SQLiteWriter(storage, study_id, tables)
    return PlainWriter(storage, study_id)


class PlainWriter:
    """Optuna's public calls, for any storage."""

    def __init__(self, storage: optuna.storages.BaseStorage, study_id: int) -> None:
        self._storage = storage
        self._study_id = study_id
        name = storage.get_study_name_from_id(study_id)
        self._study = optuna.load_study(study_name=name, storage=storage)

    def begin(self, number: int, trial: FrozenTrial) -> int:
        """Store a new trial; Optuna counts it itself."""
        return self._storage.create_new_trial(self._study_id, template_trial=trial)

    def note(self, trial_id: int, notes: Mapping[str, Any], curve: Sequence[float] = ()) -> None:
        """Add notes and the curve, one by one."""
        for key, value in notes.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        for epoch, error in enumerate(curve, start=1):
            self._storage.set_trial_intermediate_value(trial_id, epoch, error)

    def end(self, trial_id: int, ending: Ending) -> None:
        """All else first: it cannot be changed once the trial has ended."""
        self.note(trial_id, ending.notes, ending.curve)
        if ending.constraints:
            trial = Trial(self._study, trial_id)
            for name, above in ending.constraints.items():
                trial.set_constraint(name, above)
        self._storage.set_trial_state_values(trial_id, ending.state, list(ending.values) or None)


class SQLiteWriter:
    """One transaction a call, on the tables of Optuna's ``RDBStorage``."""

    def __init__(self, storage: optuna.storages.RDBStorage, study_id: int, tables: OptunaTables) -> None:
        self._storage = storage
        self._study_id = study_id
        self._tables = tables
        self._distributions: dict[Any, str] = {}

    def begin(self, number: int, trial: FrozenTrial) -> int:
        """The trial's row, its parameters, notes and values."""
        tables = self._tables
        row = tables.trials(study_id=self._study_id, number=number, state=trial.state)
        row.datetime_start, row.datetime_complete = trial.datetime_start, trial.datetime_complete
        with self._transaction() as session:
            session.add(row)
            session.flush()
            trial_id = int(row.trial_id)
            params = [self._param(trial_id, name, trial) for name in trial.params]
            if params:
                session.execute(tables.params.__table__.insert(), params)
            self._write_notes(session, trial_id, trial.user_attrs)
            self._write_curve(session, trial_id, trial.intermediate_values)
            self._write_values(session, trial_id, trial.values or ())
        return trial_id

    def note(self, trial_id: int, notes: Mapping[str, Any], curve: Sequence[float] = ()) -> None:
        """All at once."""
        with self._transaction() as session:
            self._running(session, trial_id)
            self._write_notes(session, trial_id, notes)
            self._write_curve(session, trial_id, dict(enumerate(curve, start=1)))

    def end(self, trial_id: int, ending: Ending) -> None:
        """All of it and the state together: a kill leaves the trial RUNNING, or ended with all of them."""
        with self._transaction() as session:
            row = self._running(session, trial_id)
            self._write_notes(session, trial_id, ending.notes)
            self._write_curve(session, trial_id, dict(enumerate(ending.curve, start=1)))
            self._write_values(session, trial_id, ending.values)
            # How Optuna stores a constraint is its own business: it is asked what one looks like.
            kept = create_trial(state=TrialState.RUNNING, constraints=dict(ending.constraints))
            self._write_attributes(session, self._tables.attributes, trial_id, kept.system_attrs)
            row.state, row.datetime_complete = ending.state, datetime.now()

    def _transaction(self) -> Any:
        return self._tables.transaction(self._storage.scoped_session)

    def _running(self, session: Any, trial_id: int) -> Any:
        """The trial's row; Optuna's error where the trial has ended."""
        row: Any = self._tables.trials.find_or_raise_by_id(trial_id, session)
        self._storage.check_trial_is_updatable(trial_id, row.state)
        return row

    def _param(self, trial_id: int, name: str, trial: FrozenTrial) -> dict[str, Any]:
        distribution = trial.distributions[name]
        key = name, repr(distribution)
        if key not in self._distributions:
            self._distributions[key] = distribution_to_json(distribution)
        return {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": distribution.to_internal_repr(trial.params[name]),
            "distribution_json": self._distributions[key],
        }

    def _write_notes(self, session: Any, trial_id: int, notes: Mapping[str, Any]) -> None:
        self._write_attributes(session, self._tables.notes, trial_id, notes)

    def _write_attributes(self, session: Any, table: Any, trial_id: int, values: Mapping[str, Any]) -> None:
        rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(values[key])} for key in values]
        _upsert(session, table, rows, ["trial_id", "key"])

    def _write_curve(self, session: Any, trial_id: int, errors: Mapping[int, float]) -> None:
        """A trial that was paused, or taken up again, has the first of them already."""
        table, rows = self._tables.curves, []
        for step, error in errors.items():
            stored, kind = table.intermediate_value_to_stored_repr(error)
            row = {"intermediate_value": stored, "intermediate_value_type": kind}
            rows.append({"trial_id": trial_id, "step": step} | row)
        _upsert(session, table, rows, ["trial_id", "step"])

    def _write_values(self, session: Any, trial_id: int, values: Sequence[float]) -> None:
        table = self._tables.values
        rows = []
        for objective, value in enumerate(values):
            stored, kind = table.value_to_stored_repr(value)
            rows.append({"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind})
        if rows:
            session.execute(table.__table__.insert(), rows)


def _upsert(session: Any, table: Any, rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
    """Insert rows, or renew those that have the same key."""
    from sqlalchemy.dialects.sqlite import insert

    if not rows:
        return
    new = insert(table.__table__)
    keep = {name: new.excluded[name] for name in rows[0] if name not in key}
    session.execute(new.on_conflict_do_update(index_elements=list(key), set_=keep), rows)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Without Optuna's warnings of what it marks experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
