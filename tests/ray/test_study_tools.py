"""Other people's tools: Optuna and its dashboard read a study, MLflow and TensorBoard read what was logged.

No Ray; here and not among the unit tests because the tools take seconds to start.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest
from search_helpers import ARCHS, tiny_spec

from agesearch.machine import free_port
from agesearch.metrics import LATENCY_MS_P50, VAL_MAE_YEARS
from agesearch.search.store.events import (
    Note,
    Outcome,
    StudyEnded,
    StudyEvent,
    StudyStarted,
    TrialFinished,
    TrialParked,
    TrialProgress,
    TrialStarted,
)
from agesearch.search.store.history import STUDY_NAME, History, TrialCost
from agesearch.search.store.records import State, StudyHeader, StudyInput, TrialRecord
from agesearch.search.tracking.feed import tracked
from agesearch.specs import CropSpec

SPEC = tiny_spec(trials=4)
SOURCE = StudyInput(path="/data", content_digest="d" * 16)
HEADER = StudyHeader(
    spec=SPEC, dataset=SOURCE, teacher=SOURCE, crop=CropSpec(), spec_digest=SPEC.digest(), created="now"
)
STOPPED = "out of reach of the front: 9.10 years after epoch 1 of 3 at 1.50 ms"


def finished_study(database: Path) -> list[TrialRecord]:
    """COMPLETE, PRUNED and FAILed trials, and one that was cut short."""
    history = History.open(database, SPEC)
    for number in range(4):
        history.begin({"model.arch": ARCHS[number % 2], "optim.learning_rate": 1e-3})
        history.knows_latency(number, 0.5 + number)
    history.complete(0, {VAL_MAE_YEARS: 6.5, "val_cs5": 0.5}, TrialCost(3, 30.0, (9.0, 7.0, 6.5)))
    history.prune(1, STOPPED, TrialCost(1, 10.0, (9.1,)), 9.1)
    history.fail(2, "worker died again", TrialCost(1, 12.0))
    return history.records


def asked(url: str, process: subprocess.Popen[bytes]) -> Any:
    """The JSON at an address of a server that is starting."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, "the server has ended"
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_the_optuna_dashboard_shows_a_study(tmp_path: Path) -> None:
    finished_study(tmp_path / "optuna.db")
    port = free_port("127.0.0.1")
    command = [str(Path(sys.executable).parent / "optuna-dashboard"), f"sqlite:///{tmp_path}/optuna.db"]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        studies = asked(f"http://127.0.0.1:{port}/api/studies", server)["study_summaries"]
        assert [study["study_name"] for study in studies] == [STUDY_NAME]
        shown = asked(f"http://127.0.0.1:{port}/api/studies/{studies[0]['study_id']}", server)
    finally:
        server.terminate()
        server.wait(timeout=20)
    assert shown["directions"] == ["minimize", "minimize"]
    assert shown["objective_names"] == [VAL_MAE_YEARS, LATENCY_MS_P50]
    assert [trial["state"] for trial in shown["trials"]] == ["Complete", "Pruned", "Fail", "Running"]
    assert shown["trials"][0]["values"] == [6.5, 0.5]
    notes = [{note["key"]: note["value"] for note in trial["user_attrs"]} for trial in shown["trials"]]
    assert notes[1]["reason"] == STOPPED
    assert notes[3]["name"].startswith(f"0003-{ARCHS[1]}")
    assert [trial["number"] for trial in shown["best_trials"]] == [0]


def test_optuna_itself_reads_states_reasons_and_curves(tmp_path: Path) -> None:
    records = finished_study(tmp_path / "optuna.db")
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path}/optuna.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert [trial.user_attrs["name"] for trial in study.trials] == [record.name for record in records]
    assert study.trials[2].user_attrs["reason"] == "worker died again"
    # Optuna takes no intermediate values of studies with two objectives: the curve is an attribute.
    assert study.trials[0].user_attrs["curve"] == [9.0, 7.0, 6.5]
    assert [trial.number for trial in study.best_trials] == [0]
    assert study.trials_dataframe()["state"].tolist()[:3] == ["COMPLETE", "PRUNED", "FAIL"]


RUNNING = TrialRecord(0, State.RUNNING, f"0000-{ARCHS[0]}-96px", {"model.arch": ARCHS[0]})
ENDED = TrialRecord(
    0,
    State.COMPLETE,
    RUNNING.name,
    RUNNING.params,
    val_mae_years=6.5,
    val_cs5=0.5,
    latency_ms_p50=0.5,
    epochs=3,
    curve=(9.0, 7.0, 6.5),
)
FAILED = TrialRecord(2, State.FAIL, f"0002-{ARCHS[1]}-96px", {}, "its latency is not known")
PRUNED = TrialRecord(1, State.PRUNED, f"0001-{ARCHS[1]}-96px", {}, STOPPED, 9.1, epochs=1, curve=(9.1,))


def epoch(number: int, done: int, error: float) -> TrialProgress:
    return TrialProgress(number, done, 3, error, {VAL_MAE_YEARS: error, "train_loss": error / 2})


def log_two_runs(folder: Path, *wanted: str) -> list[str]:
    """A study that is cut in its first trial's second epoch, and resumed; what was said."""
    started = StudyStarted(str(folder / "study"), 4, (), 0, 1, None, HEADER)
    first: list[StudyEvent] = [
        started,
        TrialStarted(RUNNING, 3),
        epoch(0, 1, 9.0),
        TrialParked(RUNNING, 1),
        StudyEnded(Outcome.INTERRUPTED),
    ]
    again = StudyStarted(str(folder / "study"), 4, (RUNNING, PRUNED), 1, 1, None, HEADER)
    second: list[StudyEvent] = [
        again,
        TrialStarted(RUNNING, 3),
        epoch(0, 2, 7.0),
        epoch(0, 3, 6.5),
        TrialFinished(ENDED, 2, 4, (ENDED,)),
        TrialFinished(FAILED, 3, 4, (ENDED,)),  # before it began
        StudyEnded(Outcome.COMPLETE),
    ]
    heard: list[StudyEvent] = []
    for events in (first, second):
        with tracked(wanted, heard.append) as listener:
            for event in events:
                listener(event)
    return [event.text for event in heard if isinstance(event, Note)]


def test_mlflow_has_one_run_a_trial_under_the_studys_and_goes_on_in_it(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    assert log_two_runs(tmp_path, f"mlflow={tmp_path / 'ml'}") == []
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/ml/mlflow.db")
    experiment = client.get_experiment_by_name("agesearch")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {"study", ENDED.name, PRUNED.name, FAILED.name}
    study, trial, pruned = runs["study"], runs[ENDED.name], runs[PRUNED.name]
    assert study.data.tags["agesearch.outcome"] == "complete"
    assert {trial.data.tags["mlflow.parentRunId"], pruned.data.tags["mlflow.parentRunId"]} == {
        study.info.run_id
    }
    assert trial.data.params == {"model.arch": ARCHS[0], "epochs": "3"}
    curve = client.get_metric_history(trial.info.run_id, VAL_MAE_YEARS)
    assert [(metric.step, metric.value) for metric in curve] == [(1, 9.0), (2, 7.0), (3, 6.5)]
    assert trial.data.metrics["train_loss"] == 3.25
    assert (trial.data.metrics[f"final_{VAL_MAE_YEARS}"], trial.data.metrics[LATENCY_MS_P50]) == (6.5, 0.5)
    assert (trial.info.status, trial.data.tags["agesearch.state"]) == ("FINISHED", "COMPLETE")
    # It had ended before anybody logged: what the records know of it is written all the same.
    assert (pruned.info.status, pruned.data.tags["agesearch.reason"]) == ("KILLED", STOPPED)
    assert (runs[FAILED.name].info.status, runs[FAILED.name].data.tags["agesearch.state"]) == (
        "FAILED",
        "FAIL",
    )


def test_tensorboard_has_a_folder_a_trial_and_goes_on_in_it(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert log_two_runs(tmp_path, f"tensorboard={tmp_path / 'tb'}") == []
    folders = {folder.name: folder for folder in (tmp_path / "tb").glob("study-*/*")}
    assert folders.keys() == {ENDED.name, PRUNED.name, FAILED.name}
    read = EventAccumulator(str(folders[ENDED.name]))
    read.Reload()
    curve = [(event.step, event.value) for event in read.Scalars(VAL_MAE_YEARS)]
    assert curve == [(1, 9.0), (2, 7.0), (3, 6.5)]
    assert read.Scalars(f"final/{VAL_MAE_YEARS}")[0].value == 6.5
    assert b"COMPLETE" in read.Tensors("state/text_summary")[0].tensor_proto.string_val[0]
    assert any(name.startswith("_hparams_") for name in read.PluginTagToContent("hparams"))


def test_a_server_that_is_down_is_told_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = log_two_runs(tmp_path, "mlflow=http://me:secret@127.0.0.1:9")  # nobody listens there
    assert told[0].startswith("mlflow=http://***@127.0.0.1:9 failed: ")
    assert sum("failed" in text for text in told) == 2  # once a run
    assert not any("secret" in text for text in told)
