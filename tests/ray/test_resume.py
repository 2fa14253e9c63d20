"""A study that was cut goes on: after kill -9 of its driver, after Ctrl-C, only with what it began with."""

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

from agesearch.errors import InputError
from agesearch.search.run.driver import read_driver
from agesearch.search.run.study import RunLimits, resume_study, run_study
from agesearch.search.store.events import Outcome, StudyEvent, StudyStarted, TrialStarted
from agesearch.search.store.records import State, TrialRecord, open_study
from agesearch.specs import RungSpec
from agesearch.storage import Location

DRIVER = """
import sys
sys.path.insert(0, {tests!r})
import search_helpers as helpers
from agesearch.search.run.study import RunLimits, run_study
from agesearch.session import prepare_environment

prepare_environment()
from ray import cloudpickle

cloudpickle.register_pickle_by_value(helpers)
result = run_study(
    helpers.tiny_spec(), {data!r}, {teacher!r}, {out!r},
    limits=RunLimits(concurrency=1, dashboard=False),
    on_event=lambda event: print(type(event).__name__, getattr(event, "epoch", ""), flush=True),
    functions=helpers.functions(helpers.pretend, 0.3),
)
print(result.outcome.value, flush=True)
"""


@pytest.fixture(autouse=True)
def _helpers_reach_the_workers(ray_local: None) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(helpers)


def cut_by(signum: int, root: Path) -> str:
    """Run a study in a process group of its own, which is cut in the second trial's first epochs; the last
    line of it.
    """
    data, teacher = write_sources(root)
    code = DRIVER.format(
        tests=str(Path(__file__).parent), data=data, teacher=teacher, out=str(root / "study")
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert driver.stdout is not None
    finished, lines = 0, []
    for line in driver.stdout:
        lines.append(line.strip())
        finished += line.startswith("TrialFinished")
        if finished == 1 and line.startswith("TrialProgress 1"):
            os.killpg(driver.pid, signum)
            break
    lines += [line.strip() for line in driver.stdout]
    driver.wait(timeout=60)
    return lines[-1]


def check_resumed(root: Path) -> None:
    """The study ends with the full count; the finished trial is untouched, the cut one went on."""
    before = open_study(root / "study").header()
    kept = (root / "study/trials/0000/curve.jsonl").stat().st_mtime_ns
    events: list[StudyEvent] = []
    result = resume_study(str(root / "study"), on_event=events.append, functions=functions())
    assert result.outcome is Outcome.COMPLETE
    assert [record.number for record in result.records] == [0, 1, 2, 3]
    assert {record.state for record in result.records} == {State.COMPLETE}
    began = next(event for event in events if isinstance(event, StudyStarted))
    assert (began.resumed, [record.state for record in began.records]) == (1, [State.COMPLETE, State.RUNNING])
    started = [event.record.number for event in events if isinstance(event, TrialStarted)]
    assert sorted(started) == [1, 2, 3]
    assert (root / "study/trials/0000/curve.jsonl").stat().st_mtime_ns == kept
    curve = [json.loads(line) for line in (root / "study/trials/0001/curve.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in curve] == [1, 2, 3]
    assert len({epoch["pid"] for epoch in curve}) == 2
    assert open_study(root / "study").header() == before


def test_a_killed_driver_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    cut_by(signal.SIGKILL, tmp_path)
    check_resumed(tmp_path)
    again = resume_study(str(tmp_path / "study"), functions=functions())
    assert again.outcome is Outcome.COMPLETE
    assert len(again.records) == 4


def test_stopped_trials_stay_stopped_and_their_curves_judge_those_that_come_later(tmp_path: Path) -> None:
    data, teacher = write_sources(tmp_path)
    out = str(tmp_path / "study")
    student = tiny_spec().student.with_values({"optim.epochs": 8})
    # A paused trial goes on at the latest when no new ones are left, which more trials put off.
    rungs = RungSpec(first_epoch=2, evidence=3, pause_margin=None)
    spec = tiny_spec(trials=8, startup_trials=20, student=student, rungs=rungs)
    alone = RunLimits(concurrency=1)
    first = run_study(spec, data, teacher, out, limits=alone, functions=functions(helpers.curved))
    more = resume_study(out, trials=14, limits=alone, functions=functions(helpers.curved))
    assert more.records[:8] == first.records
    whole = run_study(
        spec.model_copy(update={"trials": 14}),
        data,
        teacher,
        str(tmp_path / "whole"),
        limits=alone,
        functions=functions(helpers.curved),
    )
    assert [told(record) for record in more.records] == [told(record) for record in whole.records]
    assert State.PRUNED in {record.state for record in more.records[8:]}


def told(record: TrialRecord) -> tuple[object, ...]:
    """What must not depend on when a study was cut."""
    return record.state, record.params, record.reason, record.epochs, record.curve


def test_ctrl_c_stops_cleanly_and_the_study_goes_on(tmp_path: Path) -> None:
    assert cut_by(signal.SIGINT, tmp_path) == "interrupted"
    assert [record.state for record in open_study(tmp_path / "study").trials()] == [
        State.COMPLETE,
        State.RUNNING,
    ]
    driver = read_driver(Location.of(tmp_path / "study"))
    assert driver is not None
    assert (driver.outcome, driver.stopping) == ("interrupted", "Ctrl-C")
    check_resumed(tmp_path)


def test_a_study_goes_on_only_with_what_it_began_with(tmp_path: Path) -> None:
    data, teacher = write_sources(tmp_path)
    out = str(tmp_path / "study")
    run_study(tiny_spec(trials=1), data, teacher, out, functions=functions())
    (tmp_path / "ds").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="dataset is no longer at .* --data"):
        resume_study(out, functions=functions())
    more = resume_study(out, dataset=tmp_path / "moved", trials=2, functions=functions())  # type: ignore[arg-type]
    assert [record.number for record in more.records] == [0, 1]
    assert open_study(out).header().spec.trials == 2
    manifest = tmp_path / "moved" / "dataset.json"
    manifest.write_text(manifest.read_text().replace("d" * 16, "e" * 16))
    with pytest.raises(InputError, match="is not the one the study was started with"):
        resume_study(out, functions=functions())


def test_what_is_no_study_cannot_go_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a study"):
        resume_study(str(tmp_path))
    (tmp_path / "study.yaml").write_text("spec: {trials: many}\n")
    with pytest.raises(InputError, match="study.yaml"):
        resume_study(str(tmp_path))
