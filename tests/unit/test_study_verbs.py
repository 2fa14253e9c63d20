"""``status``, ``stop`` and ``trial`` on the records of a study that nothing runs, or that something does."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from fake_study import write_study
from typer.testing import CliRunner, Result

from agesearch.cli.main import app
from agesearch.errors import InputError
from agesearch.search.run.driver import registered_driver
from agesearch.search.store.records import State, StudyFolder
from agesearch.search.view.status import study_status
from agesearch.search.view.trial_details import trial_details
from agesearch.storage import Location
from agesearch.training.curve import append_row, keep_epochs
from agesearch.training.standing import WITHIN, Standing


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return write_study(Location.of(tmp_path / "study"))


def cut(study: StudyFolder, number: int = 23) -> None:
    """Leave a trial as a killed driver does."""
    records = study.trials()
    changed = {"state": State.RUNNING, "reason": "", "val_mae_years": None, "epochs": 0}
    records[number] = type(records[number])(**{**vars(records[number]), **changed})
    study.write_trials(records)


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


def test_status_tells_a_finished_study_from_its_records(study: StudyFolder) -> None:
    found = json.loads(call("status", str(study.root), "--json").stdout)
    assert (found["running"], found["finished"], found["trials"]) == (False, 24, 24)
    assert found["states"] == {"COMPLETE": 18, "PRUNED": 3, "FAIL": 3}
    assert found["reasons"][0]["trials"] == 3
    assert found["resume"] is None
    assert [trial["number"] for trial in found["front"]] == [trial.number for trial in study.front()]
    text = call("status", str(study.root)).stdout
    assert "24 of 24 trials" in text
    assert "3 failed: the loss is not finite" in text


def test_status_says_what_was_cut_and_how_to_go_on(study: StudyFolder) -> None:
    cut(study)
    with pytest.raises(RuntimeError), registered_driver(study.root):
        raise RuntimeError("no space left")
    text = call("status", str(study.root)).stdout
    assert "1 to be taken up again" in text
    assert "ended" in text
    assert "RuntimeError: no space left" in text
    assert "agesearch resume" in text


def test_status_of_a_running_study_shows_who_holds_it_and_the_curves(study: StudyFolder) -> None:
    cut(study)
    with registered_driver(study.root) as heartbeat:
        heartbeat.search_began(finished=20, concurrency=2, dashboard=None)
        found = study_status(study.root)
        assert found.is_running
        assert found.how_to_go_on == ""
        progress = found.progress
        assert progress is not None
        assert [(trial.record.number, trial.epoch, trial.epochs) for trial in progress.running] == [
            (23, 2, 20)
        ]
        assert len(progress.running[0].curve) == 2
        assert progress.pace.finished == 3
        text = call("status", str(study.root)).stdout
        assert "Runs in process" in text
        assert "2/20" in text


def test_status_and_trial_tell_where_a_long_epoch_stands(study: StudyFolder) -> None:
    """While it runs by what the trial wrote last, and of one that was cut by its curve."""
    cut(study)
    place = study.trial_folder(23)
    keep_epochs(place, 2)  # what a resumed run does first: the last line is torn
    stood = Standing(3, 60_000, 100_000, 200.0, 2.5, seconds=300.0)
    append_row(place, stood.row())
    append_row(place, dataclasses.replace(stood, epoch=9).row())
    (place / WITHIN).write_json(dataclasses.replace(stood, faces=70_000).row())
    with registered_driver(study.root) as heartbeat:
        heartbeat.search_began(finished=20, concurrency=2, dashboard=None)
        (trial,) = json.loads(call("status", str(study.root), "--json").stdout)["running_trials"]
        assert trial["epoch"] == 2
        within = trial["within_epoch"]
        assert (within["epoch"], within["faces"], within["total"]) == (3, 70_000, 100_000)
        assert within["seconds_left"] == (100_000 * 18 - 70_000) / 200
        text = call("status", str(study.root)).stdout
        assert "2.7/20" in text
        assert "epoch 3: 70,000 of 100,000 faces, 200 faces/s, loss 2.5, 2.4 h left" in " ".join(text.split())
    (place / WITHIN).delete()
    known = trial_details(study.root, 23)
    assert len(known.rows) == len(known.curve) == 2
    assert known.standing is None  # the last row is of another epoch
    assert "cut short after epoch 2, to be taken up" in known.state
    keep_epochs(place, 2, faces=60_000)
    assert "cut short after epoch 2 and 60% of the next" in trial_details(study.root, 23).state
    assert len(json.loads(call("trial", str(study.root), "23", "--json").stdout)["within_epochs"]) == 1


def test_status_of_a_study_that_is_being_prepared(tmp_path: Path) -> None:
    with registered_driver(Location.of(tmp_path)):
        found = study_status(tmp_path)
        assert found.progress is None
        assert found.holder.startswith("Is being prepared in process")
        assert "No trial has started" in call("status", str(tmp_path)).stdout


def test_what_is_no_study_has_no_status(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a study"):
        study_status(tmp_path)


def test_stop_says_when_nothing_runs(study: StudyFolder) -> None:
    result = call("stop", str(study.root), "--json")
    assert json.loads(result.stdout)["asked"] is False
    assert "Nothing runs it" in result.stderr
    assert not (study.root / "stop.json").exists()


def test_trial_tells_all_that_is_known(study: StudyFolder) -> None:
    front = study.front()[0].number
    found = json.loads(call("trial", str(study.root), str(front), "--json").stdout)
    assert found["role"].startswith("on the front")
    assert len(found["curve"]) == 20  # the torn last line is left out
    assert found["spec"]["optim"]["learning_rate"] == found["params"]["optim.learning_rate"]
    assert "curve.jsonl" in found["files"]
    failed = next(record.number for record in study.trials() if record.state is State.FAIL)
    text = call("trial", str(study.root), str(failed)).stdout
    assert "FAIL: the loss is not finite at epoch 3" in text
    assert "Validation MAE in years by epoch" in text


def test_a_trial_that_does_not_exist_or_does_not_end_is_refused(study: StudyFolder) -> None:
    from agesearch.search.view.rerun import rerun_trial

    result = CliRunner().invoke(app, ["trial", str(study.root), "99"])
    assert isinstance(result.exception, InputError)
    assert "has no trial 99; it has 0 to 23" in str(result.exception)
    with pytest.raises(InputError, match="inside the study"):
        rerun_trial(study.root, 0, study.root / "trials" / "again")
    cut(study)
    with pytest.raises(InputError, match="is not finished"):
        rerun_trial(study.root, 23)
