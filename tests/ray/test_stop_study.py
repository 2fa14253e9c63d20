"""A running study that is asked to stop, by Ctrl-C or from elsewhere; and one trial repeated."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import search_helpers as helpers
from search_helpers import functions, tiny_spec, write_sources

from agesearch.search.run.driver import ask_to_stop, read_driver
from agesearch.search.run.study import RunLimits, StudyResult, resume_study, run_study
from agesearch.search.store.events import (
    Outcome,
    StudyEnded,
    StudyEvent,
    StudyStopping,
    TrialFinished,
    TrialParked,
    TrialProgress,
)
from agesearch.search.store.records import State, open_study
from agesearch.search.view.rerun import rerun_trial
from agesearch.storage import Location


@pytest.fixture(autouse=True)
def _helpers_reach_the_workers(ray_local: None) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(helpers)


def run_until(root: Path, ask: object, events: list[StudyEvent], epoch_s: float) -> StudyResult:
    """Run a study and ask it to stop when its second trial has reported an epoch."""
    data, teacher = write_sources(root)
    terminal = threading.RLock()

    def listen(event: StudyEvent) -> None:
        with terminal:
            events.append(event)
        if isinstance(event, TrialProgress) and (event.number, event.epoch) == (1, 1):
            ask()  # type: ignore[operator]

    return run_study(
        tiny_spec(),
        data,
        teacher,
        str(root / "study"),
        limits=RunLimits(concurrency=1),
        on_event=listen,
        functions=functions(helpers.pretend, epoch_s),
    )


def test_a_request_lets_the_running_epoch_end_and_parks_the_trial(tmp_path: Path) -> None:
    """As Ctrl-C does, which ``test_signals`` sends to a process of its own."""
    events: list[StudyEvent] = []
    study = Location.of(tmp_path / "study")
    result = run_until(tmp_path, lambda: ask_to_stop(study), events, 1.5)
    assert result.outcome is Outcome.INTERRUPTED
    assert [record.state for record in result.records] == [State.COMPLETE, State.RUNNING]
    assert [event.at_once for event in events if isinstance(event, StudyStopping)] == [False]
    parked = next(event for event in events if isinstance(event, TrialParked))
    curve = (tmp_path / "study/trials/0001/curve.jsonl").read_text().splitlines()
    assert parked.epoch == len(curve) == 2  # the epoch that ran was not lost
    assert isinstance(events[-1], StudyEnded)
    driver = read_driver(Location.of(tmp_path / "study"))
    assert driver is not None
    assert (driver.outcome, driver.is_live) == ("interrupted", False)
    more = resume_study(str(tmp_path / "study"), functions=functions())
    assert [record.state for record in more.records] == [State.COMPLETE] * 4
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "study/trials/0001/curve.jsonl").open()]
    assert epochs == [1, 2, 3]


def test_a_request_in_the_folder_stops_it_now(tmp_path: Path) -> None:
    events: list[StudyEvent] = []
    study = Location.of(tmp_path / "study")
    result = run_until(tmp_path, lambda: ask_to_stop(study, at_once=True), events, 2.0)
    assert result.outcome is Outcome.INTERRUPTED
    assert [record.state for record in result.records] == [State.COMPLETE, State.RUNNING]
    stopping = [event for event in events if isinstance(event, StudyStopping)]
    assert [event.at_once for event in stopping] == [True]
    parked = next(event for event in events if isinstance(event, TrialParked))
    assert parked.epoch == 1  # nobody waited for the second
    assert not (tmp_path / "study/stop.json").exists()
    assert sum(isinstance(event, TrialFinished) for event in events) == 1


def test_a_trial_trained_anew_is_compared_and_the_study_stays_as_it_is(tmp_path: Path) -> None:
    data, teacher = write_sources(tmp_path)
    study = str(tmp_path / "study")
    run_study(tiny_spec(trials=2), data, teacher, study, functions=functions(helpers.curved))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*") if path.is_file()}
    same = rerun_trial(study, 1, tmp_path / "same", functions=functions(helpers.curved))
    assert same.is_identical
    assert same.verdict == "Bit-identical: all figures of 3 epochs are equal."
    other = rerun_trial(study, 1, tmp_path / "other", functions=functions(helpers.pretend))
    assert not other.is_identical
    failed = rerun_trial(study, 1, tmp_path / "failed", functions=functions(helpers.broken))
    assert (failed.failure, failed.epochs) == ("MemoryError: no room for it", 0)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert open_study(study).trial(1).state is State.COMPLETE
