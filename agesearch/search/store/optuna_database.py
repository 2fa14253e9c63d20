"""Writing trials into Optuna's storage, each of their steps in one transaction.

Optuna's own calls write one attribute at a time, each in a transaction of its own with several look-ups:
beginning and ending a trial so took 45 ms of processor time and a dozen waits for the disk, in which a large
cluster's slots stand still. ``SQLiteWriter`` writes the same rows through Optuna's own tables, whole or not
at all; what it wrote, any Optuna tool reads. Other storages get Optuna's calls.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState


class TrialWriter(Protocol):
    """Writes the trials of one study. Ids are Optuna's; notes are user attributes, any JSON value each."""

    def begin(self, number: int, trial: FrozenTrial) -> int:
        """Store a new trial whole, as number ``number``; returns its id."""
        ...

    def note(self, trial_id: int, notes: Mapping[str, Any]) -> None:
        """Add notes to a trial that has not ended."""
        ...

    def end(
        self, trial_id: int, state: TrialState, notes: Mapping[str, Any], values: Sequence[float] = ()
    ) -> None:
        """End a trial with its last notes, and with both objectives where it is COMPLETE."""
        ...


def writer_of(storage: optuna.storages.BaseStorage, study_id: int) -> TrialWriter:
    """The fastest writer that a storage has."""
    if isinstance(storage, optuna.storages.RDBStorage) and storage.engine.name == "sqlite":
        return SQLiteWriter(storage, study_id)
    return PlainWriter(storage, study_id)


class PlainWriter:
    """Optuna's public calls, for any storage."""

    def __init__(self, storage: optuna.storages.BaseStorage, study_id: int) -> None:
        self._storage = storage
        self._study_id = study_id

    def begin(self, number: int, trial: FrozenTrial) -> int:
        """Store a new trial; Optuna counts it itself."""
        return self._storage.create_new_trial(self._study_id, template_trial=trial)

    def note(self, trial_id: int, notes: Mapping[str, Any]) -> None:
        """Add notes, one by one."""
        for key, value in notes.items():
            self._storage.set_trial_user_attr(trial_id, key, value)

    def end(
        self, trial_id: int, state: TrialState, notes: Mapping[str, Any], values: Sequence[float] = ()
    ) -> None:
        """The notes first: they cannot be changed once the trial has ended."""
        self.note(trial_id, notes)
        self._storage.set_trial_state_values(trial_id, state, list(values) or None)


class SQLiteWriter:
    """One transaction a call, on the tables of Optuna's ``RDBStorage``."""

    def __init__(self, storage: optuna.storages.RDBStorage, study_id: int) -> None:
        from optuna.storages._rdb import models

        self._storage = storage
        self._study_id = study_id
        self._models = models
        self._distributions: dict[Any, str] = {}

    def begin(self, number: int, trial: FrozenTrial) -> int:
        """The trial's row, its parameters, notes and values."""
        models = self._models
        row = models.TrialModel(study_id=self._study_id, number=number, state=trial.state)
        row.datetime_start, row.datetime_complete = trial.datetime_start, trial.datetime_complete
        with self._transaction() as session:
            session.add(row)
            session.flush()
            trial_id = int(row.trial_id)
            params = [self._param(trial_id, name, trial) for name in trial.params]
            if params:
                session.execute(models.TrialParamModel.__table__.insert(), params)
            self._write_notes(session, trial_id, trial.user_attrs)
            self._write_values(session, trial_id, trial.values or ())
        return trial_id

    def note(self, trial_id: int, notes: Mapping[str, Any]) -> None:
        """All notes at once."""
        with self._transaction() as session:
            self._running(session, trial_id)
            self._write_notes(session, trial_id, notes)

    def end(
        self, trial_id: int, state: TrialState, notes: Mapping[str, Any], values: Sequence[float] = ()
    ) -> None:
        """Notes, objectives and the state together: a kill leaves the trial RUNNING, or ended with all of
        them.
        """
        with self._transaction() as session:
            row = self._running(session, trial_id)
            self._write_notes(session, trial_id, notes)
            self._write_values(session, trial_id, values)
            row.state, row.datetime_complete = state, datetime.now()

    def _transaction(self) -> Any:
        from optuna.storages._rdb.storage import _create_scoped_session

        return _create_scoped_session(self._storage.scoped_session)

    def _running(self, session: Any, trial_id: int) -> Any:
        """The trial's row; Optuna's error where the trial has ended."""
        row: Any = self._models.TrialModel.find_or_raise_by_id(trial_id, session)
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
        from sqlalchemy.dialects.sqlite import insert

        table = self._models.TrialUserAttributeModel.__table__
        rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(notes[key])} for key in notes]
        if rows:
            new = insert(table)
            keep = {"value_json": new.excluded.value_json}
            session.execute(new.on_conflict_do_update(index_elements=["trial_id", "key"], set_=keep), rows)

    def _write_values(self, session: Any, trial_id: int, values: Sequence[float]) -> None:
        table = self._models.TrialValueModel
        rows = []
        for objective, value in enumerate(values):
            stored, kind = table.value_to_stored_repr(value)
            rows.append({"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind})
        if rows:
            session.execute(table.__table__.insert(), rows)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Without Optuna's warnings of what it marks experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
