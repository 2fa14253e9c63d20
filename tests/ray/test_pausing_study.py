"""Trials that are paused at a rung on real Ray Tune: they go on from their checkpoint, in this run or a later
one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import search_helpers as helpers
from search_helpers import functions, tiny_spec, write_sources

from agesearch.search.run.study import RunLimits, resume_study, run_study
from agesearch.search.store.events import Outcome, StudyEvent, TrialPaused, TrialStarted
from agesearch.search.store.history import History
from agesearch.search.store.records import State, StudyFolder, TrialRecord, open_study
from agesearch.search.view.status import study_status
from agesearch.search.view.trial_details import trial_details
from agesearch.specs import RungSpec, StudySpec

EPOCHS = 8

DRIVER = """
import sys
sys.path.insert(0, {tests!r})
import search_helpers as helpers
import test_pausing_study
from agesearch.search.run.study import RunLimits, run_study
from agesearch.session import prepare_environment

prepare_environment()
from ray import cloudpickle

cloudpickle.register_pickle_by_value(helpers)
run_study(
    test_pausing_study.study(), {data!r}, {teacher!r}, {out!r},
    limits=RunLimits(concurrency=1, dashboard=False),
    on_event=lambda event: print(type(event).__name__, flush=True),
    functions=helpers.functions(helpers.uneven),
)
"""


def study() -> StudySpec:
    """Sixteen trials with rungs after two and four of their epochs."""
    student = tiny_spec().student.with_values({"optim.epochs": EPOCHS})
    rungs = RungSpec(first_epoch=2, evidence=3, margin=0.99, pause_margin=0.6)
    return tiny_spec(trials=16, startup_trials=5, student=student, rungs=rungs)


@pytest.fixture(autouse=True)
def _helpers_reach_the_workers(ray_local: None) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(helpers)


def told(record: TrialRecord) -> tuple[object, ...]:
    """What must not depend on when a study was cut."""
    return record.state, record.params, record.reason, record.epochs, record.curve


def check_epochs(folder: StudyFolder, records: list[TrialRecord]) -> None:
    """Each epoch was trained once, in order, and what never goes on has left no checkpoint."""
    for record in records:
        place = folder.trial_folder(record)
        rows = [json.loads(line) for line in (place / "curve.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in rows] == list(range(1, record.epochs + 1))
        assert record.curve == pytest.approx([row["val_mae_years"] for row in rows])
        assert (place / "checkpoint").exists() == (record.state is State.COMPLETE)


def test_paused_trials_go_on_from_their_checkpoint_and_survive_the_driver(tmp_path: Path) -> None:
    data, teacher = write_sources(tmp_path)
    events: list[StudyEvent] = []
    whole = run_study(
        study(),
        data,
        teacher,
        str(tmp_path / "whole"),
        limits=RunLimits(concurrency=1),
        on_event=events.append,
        functions=functions(helpers.uneven),
    )
    assert whole.outcome is Outcome.COMPLETE
    assert len(whole.records) == 16
    assert all(record.state.ended for record in whole.records)
    waited = {event.record.number for event in events if isinstance(event, TrialPaused)}
    begun = [event.record.number for event in events if isinstance(event, TrialStarted)]
    assert any(begun.count(number) > 1 for number in waited)
    check_epochs(whole.folder, whole.records)

    out = str(tmp_path / "cut")
    kill_at_the_first_pause(data, teacher, out)
    folder = open_study(out)
    folder.write_trials(History.open(folder.database, study()).records)  # as a driver does every few seconds
    status = study_status(out)
    assert status.progress is not None
    (waiting,) = status.progress.paused
    assert (status.is_running, waiting.epochs) == (False, EPOCHS)
    assert trial_details(out, waiting.record.number).state.startswith("PAUSED: unlikely to reach the front: ")
    assert (folder.trial_folder(waiting.record) / "checkpoint").exists()
    more = resume_study(out, limits=RunLimits(concurrency=1), functions=functions(helpers.uneven))
    assert [told(record) for record in more.records] == [told(record) for record in whole.records]
    check_epochs(more.folder, more.records)


def kill_at_the_first_pause(data: str, teacher: str, out: str) -> None:
    """Run the study in a process of its own and kill that where a trial is paused for the first time."""
    code = DRIVER.format(tests=str(Path(__file__).parent), data=data, teacher=teacher, out=out)
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    for line in driver.stdout:
        if line.startswith("TrialPaused"):
            os.kill(driver.pid, signal.SIGKILL)
            break
    driver.wait(timeout=60)
    assert driver.returncode == -signal.SIGKILL
