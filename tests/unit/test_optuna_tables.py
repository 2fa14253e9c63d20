"""What others see of a study in Optuna: curves and constraints, by our tables as by Optuna's own calls."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from test_searcher_history import study_spec

from agesearch.metrics import VAL_MAE_YEARS
from agesearch.search.space.space import Params
from agesearch.search.store import optuna_database, optuna_tables
from agesearch.search.store.history import STUDY_NAME, History, TrialCost
from agesearch.search.store.optuna_database import PlainWriter, SQLiteWriter, writer_of
from agesearch.storage import sqlite_url

PARAMS: Params = {"model.arch": "mobilenetv3_small_050", "optim.learning_rate": 1e-3, "optim.epochs": 3}
SPEC = study_spec().with_values({"max_mae_years": 7.0, "max_latency_ms": 2.0})


def _seen(database: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{database}").trials


def _lived(history: History) -> None:
    """One trial that is paused, goes on and is above a limit; one that is stopped; one that runs."""
    for _ in range(3):
        number = history.begin(dict(PARAMS)).number
        history.knows_latency(number, 0.5)
    history.pause(0, "unlikely", TrialCost(2, 1.0, (9.0, 8.5)))
    history.unpause(0)
    history.complete(0, {VAL_MAE_YEARS: 7.5}, TrialCost(3, 2.0, (9.0, 8.25, 7.5)))
    history.prune(1, "hopeless", TrialCost(1, 1.0, (12.0,)), mae=12.0)


@pytest.mark.parametrize("writer", [SQLiteWriter, PlainWriter])
def test_curves_and_limits_are_where_others_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: type
) -> None:
    if writer is PlainWriter:
        monkeypatch.setattr(optuna_database, "optuna_tables", lambda: None)
    history = History.open(tmp_path / "s.db", SPEC)
    _lived(history)
    complete, pruned, running = _seen(tmp_path / "s.db")
    assert complete.intermediate_values == {1: 9.0, 2: 8.25, 3: 7.5}
    assert complete.constraints == {"max_mae_years": 0.5, "max_latency_ms": -1.5}
    assert (pruned.intermediate_values, pruned.constraints) == ({1: 12.0}, {})
    assert (running.intermediate_values, running.constraints) == ({}, {})
    assert History.open(tmp_path / "s.db", SPEC).records == history.records


def test_optuna_counts_a_trial_above_a_limit_as_we_do(tmp_path: Path) -> None:
    history = History.open(tmp_path / "s.db", SPEC)
    _lived(history)
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path / 's.db'}")
    assert study.best_trials == []
    assert history.front() == []


def test_this_version_of_optuna_has_the_tables() -> None:
    assert optuna_tables.missing_parts() == []  # this names what an upgrade of Optuna has broken


def test_other_tables_are_left_alone_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = {("optuna.storages._rdb.models", "TrialModel"): ("gone",), ("optuna.nowhere", "Table"): ()}
    monkeypatch.setattr(optuna_tables, "_PARTS", parts)
    storage = optuna.storages.RDBStorage(sqlite_url(tmp_path / "s.db"))
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE])
    assert isinstance(writer_of(storage, study), PlainWriter)
    for name in ("optuna.storages._rdb.models.TrialModel.gone", "optuna.nowhere.Table"):
        assert name in caplog.text


def test_nothing_else_of_optuna_or_ray_is_private() -> None:
    package = Path(optuna_tables.__file__).parents[2]
    allowed = {"optuna_tables.py", "ray_internals.py"}
    private = ("optuna.storages._", "optuna.samplers._", "optuna.study._", "optuna._", "ray._", "_internal.")
    found = [
        json.dumps([file.name, word])
        for file in package.rglob("*.py")
        if file.name not in allowed
        for word in private
        if word in file.read_text(encoding="utf-8")
    ]
    assert not found
