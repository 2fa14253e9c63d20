"""What the fast writer leaves in SQLite, Optuna reads as if its own calls had written it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from agesearch.search.store.optuna_database import Ending, PlainWriter, SQLiteWriter, TrialWriter, writer_of
from agesearch.search.store.optuna_tables import optuna_tables

SPACE: dict[str, BaseDistribution] = {
    "arch": CategoricalDistribution(("a", "b")),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "epochs": IntDistribution(2, 8),
}


def opened(path: Path) -> tuple[optuna.storages.RDBStorage, int]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    study = optuna.create_study(study_name="s", storage=storage, directions=["minimize", "minimize"])
    return storage, study._study_id


def begun(arch: str = "b") -> FrozenTrial:
    params = {"arch": arch, "rate": 0.01, "epochs": 3}
    notes = {"name": "one", "latency": 0.5}
    return create_trial(state=TrialState.RUNNING, params=params, distributions=SPACE, user_attrs=notes)


def write(writer: TrialWriter) -> None:
    first = writer.begin(0, begun())
    writer.note(first, {"retries": 1})
    writer.end(
        first, Ending(TrialState.COMPLETE, {"curve": (3.0, 2.0), "name": "renamed"}, values=(2.0, 0.5))
    )
    second = writer.begin(1, begun("a"))
    writer.end(second, Ending(TrialState.PRUNED, {"reason": "slow"}))
    writer.begin(2, begun())


def told(path: Path) -> list[tuple[Any, ...]]:
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{path}")
    return [
        (trial.number, trial.state, trial.params, trial.distributions, trial.user_attrs, trial.values)
        + (trial.datetime_start is not None, trial.datetime_complete is not None)
        for trial in study.trials
    ]


def test_both_writers_leave_the_same_trials(tmp_path: Path) -> None:
    fast, plain = tmp_path / "fast.db", tmp_path / "plain.db"
    tables = optuna_tables()
    assert tables is not None
    write(SQLiteWriter(*opened(fast), tables))
    write(PlainWriter(*opened(plain)))
    assert told(fast) == told(plain)
    assert told(fast)[0][5] == [2.0, 0.5]


def test_an_ended_trial_takes_nothing_more(tmp_path: Path) -> None:
    writer = writer_of(*opened(tmp_path / "s.db"))
    trial = writer.begin(0, begun())
    writer.end(trial, Ending(TrialState.FAIL, {"reason": "first"}))
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        writer.note(trial, {"reason": "second"})
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        writer.end(trial, Ending(TrialState.COMPLETE, {"reason": "second"}, values=(1.0, 1.0)))
    assert told(tmp_path / "s.db")[0][4]["reason"] == "first"


def test_an_ending_that_cannot_be_written_leaves_the_trial_running(tmp_path: Path) -> None:
    writer = writer_of(*opened(tmp_path / "s.db"))
    trial = writer.begin(0, begun())
    with pytest.raises(TypeError):
        writer.end(
            trial, Ending(TrialState.COMPLETE, {"curve": (1.0,), "strange": object()}, values=(1.0, 1.0))
        )
    state, notes = told(tmp_path / "s.db")[0][1], told(tmp_path / "s.db")[0][4]
    assert state is TrialState.RUNNING
    assert "curve" not in notes


def test_only_sqlite_is_written_directly() -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, directions=["minimize", "minimize"])
    assert isinstance(writer_of(storage, study._study_id), PlainWriter)
