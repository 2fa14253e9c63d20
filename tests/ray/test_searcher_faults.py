"""Where records cannot be written the searcher stops the study; hung trials are killed. No running Ray."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher
from search_helpers import ARCHS, tiny_spec
from sqlalchemy.exc import OperationalError

from agesearch.cluster import left_out
from agesearch.cluster.nodes import Node
from agesearch.cluster.room import Room
from agesearch.errors import StorageFullError
from agesearch.models.architectures import Network
from agesearch.search.run import searcher as module
from agesearch.search.run.driver import Stopping, Urgency
from agesearch.search.run.reports import COMPLETED, CUT, MISPLACED, NODE_ID, OUTCOME, REASON
from agesearch.search.run.searcher import StudySearcher
from agesearch.search.run.trial_manager import TrialManager
from agesearch.search.run.watchdog import Death, Watchdog
from agesearch.search.store.events import StudyEvent, TrialRetried
from agesearch.search.store.history import History
from agesearch.search.store.records import State, StudyFolder
from agesearch.storage import Location


class Run:
    """A searcher over a fresh study, as Tune would drive it."""

    def __init__(self, folder: Path) -> None:
        self.folder = StudyFolder(Location.of(folder))
        self.events: list[StudyEvent] = []
        self.stopping, self.now = Stopping(), 0.0
        spec = tiny_spec()
        self.history = History.open(self.folder.database, spec)
        latencies: dict[Network, float | str] = {Network(arch, 96): 1.0 for arch in ARCHS}
        self.manager = TrialManager(
            self.folder, self.history, spec, latencies=latencies, on_event=self.events.append
        )
        self.searcher = StudySearcher(
            self.manager,
            self.folder,
            room=Room(2),
            stopping=self.stopping,
            watchdog=Watchdog(1.0, lambda: self.now),
        )

    def started(self, trial_id: str) -> Any:
        """Tune's trial, suggested and with an actor."""
        config = self.searcher.suggest(trial_id)
        assert isinstance(config, dict)
        state = SimpleNamespace(ray_actor=f"actor of {trial_id}")
        trial = SimpleNamespace(
            trial_id=trial_id, config=config, status="RUNNING", error_file=None, temporary_state=state
        )
        self.searcher.began(trial)  # type: ignore[arg-type]
        return trial


def full(*_: object, **__: object) -> None:
    raise StorageFullError("'trials.parquet' could not be written: No space left on device.")


def full_database(*_: object, **__: object) -> None:
    raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (full, "'trials.parquet' could not be written: No space left on device."),
        (full_database, "optuna.db could not be written: database or disk is full."),
    ],
)
def test_a_trial_that_cannot_be_begun_ends_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any, told: str
) -> None:
    run = Run(tmp_path)
    first = run.started("a")
    monkeypatch.setattr(run.history, "begin", fault)
    assert run.searcher.suggest("b") is None  # one trial still runs
    assert (run.manager.halted, run.stopping.urgency) == (told, Urgency.WITH_CHECKPOINTS)
    run.searcher.heed()
    assert run.searcher.report(first.trial_id, {"epoch": 1, "val_mae_years": 7.0})
    run.searcher.on_trial_complete(first.trial_id, {"epoch": 1, "val_mae_years": 7.0})
    assert [record.state for record in run.manager.records] == [State.RUNNING]  # a later run takes it up
    assert run.searcher.suggest("c") == Searcher.FINISHED


def test_a_result_that_cannot_be_kept_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    trial = run.started("a")
    with monkeypatch.context() as broken:
        broken.setattr(run.history, "complete", full_database)
        run.searcher.on_trial_complete(
            trial.trial_id, {OUTCOME: COMPLETED, "epoch": 3, "val_mae_years": 6.0, "val_cs5": 0.5}
        )
    assert run.manager.halted == "optuna.db could not be written: database or disk is full."
    again = Run(tmp_path)
    assert again.started("b").config["number"] == trial.config["number"]


def test_a_trial_whose_disk_is_full_ends_the_study_and_stays_its_own(tmp_path: Path) -> None:
    run = Run(tmp_path)
    trial = run.started("a")
    run.searcher.on_trial_complete(trial.trial_id, {OUTCOME: CUT, REASON: "no room."})
    run.searcher.heed()
    assert (run.manager.halted, run.searcher.suggest("b")) == ("no room.", Searcher.FINISHED)
    assert [record.state for record in run.manager.records] == [State.RUNNING]


def test_a_trial_whose_node_cannot_train_it_goes_on_elsewhere_until_no_node_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [Node("a1", "one", "10.0.0.1", 1.0), Node("b2", "two", "10.0.0.2", 1.0)]
    monkeypatch.setattr(left_out, "alive_nodes", lambda: nodes)
    run = Run(tmp_path)
    first = run.started("a")
    assert first.config["without"] == []
    run.searcher.on_trial_complete(
        first.trial_id, {OUTCOME: MISPLACED, REASON: "its disk is full.", NODE_ID: "b2"}
    )
    again = run.started("b")
    assert (again.config["number"], again.config["without"]) == (first.config["number"], ["b2"])
    (retried,) = [event for event in run.events if isinstance(event, TrialRetried)]
    assert (retried.reason, run.manager.halted) == ("its disk is full.", "")
    run.searcher.on_trial_complete(
        again.trial_id, {OUTCOME: MISPLACED, REASON: "it cannot read 'a'", NODE_ID: "a1"}
    )
    run.searcher.heed()
    assert "node two (10.0.0.2) takes no part in the study: its disk is full. The" in run.manager.halted
    assert run.searcher.suggest("c") == Searcher.FINISHED
    assert [record.state for record in run.manager.records] == [State.RUNNING]  # a later run takes it up


def test_a_silent_trial_is_killed_taken_up_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[str] = []
    monkeypatch.setattr(module.ray, "kill", killed.append)
    run = Run(tmp_path)
    for trial_id in ("a", "b"):
        trial = run.started(trial_id)
        run.now += 3.5
        run.searcher.kill_hung([trial])
        assert killed[-1] == f"actor of {trial_id}"
        trial.status = "ERROR"
        run.searcher.settle_lost([trial])
        assert trial.config["number"] == 0
    assert sum(isinstance(event, TrialRetried) for event in run.events) == 1
    record = run.manager.records[0]
    assert (record.state, record.retries) == (State.FAIL, 1)
    assert record.reason == "hung: no progress for 4 s, twice before its first epoch"


@pytest.mark.parametrize(
    ("text", "reason", "of_node"),
    [
        ("ray.exceptions.ActorDiedError: The actor died: its worker process has died", "worker died", False),
        (
            "ActorDiedError: died because the actor's node was terminated unexpectedly",
            "its node was lost",
            True,
        ),
        ("ray.exceptions.ActorUnavailableError: The actor is unavailable", "worker out of reach", True),
        (
            "The actor 3f0c1a is unavailable: The actor is temporarily unavailable: RpcError: IOError",
            "worker out of reach",
            True,
        ),
        ("ray.exceptions.OutOfMemoryError: killed", "worker died: out of memory", False),
        ("Traceback\n  line\nConflictError: in use\n", "worker failed: ConflictError: in use", False),
        ("", "worker failed to take the trial", False),
    ],
)
def test_last_words_tell_a_lost_node_from_a_dead_worker(
    tmp_path: Path, text: str, reason: str, of_node: bool
) -> None:
    (tmp_path / "error.txt").write_text(text)
    trial: Any = SimpleNamespace(error_file=str(tmp_path / "error.txt"))
    assert module._last_words(trial) == Death(reason, of_node)
