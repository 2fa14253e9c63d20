"""Studies on a real Ray Tune with pretended training: states, retries of killed workers, limits, records."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import faulty_trainers
import optuna
import pytest
import search_helpers as helpers
from faulty_trainers import FAULTS
from search_helpers import ARCHS, functions, tiny_spec, write_sources

from agesearch.bench.chaos.run import run_chaos
from agesearch.errors import AgeSearchError, ConflictError, InputError
from agesearch.search.run.study import RunLimits, StudyResult, resume_study, run_study
from agesearch.search.store.events import Note, Outcome, StudyEvent, TrialProgress, TrialRetried, TrialStarted
from agesearch.search.store.front_limits import LIMITED
from agesearch.search.store.history import STUDY_NAME
from agesearch.search.store.records import State, open_study
from agesearch.specs import RungSpec
from agesearch.storage import Location, exclusive


@pytest.fixture(autouse=True)
def _helpers_reach_the_workers(ray_local: None) -> None:
    from ray import cloudpickle

    for module in (helpers, faulty_trainers):
        cloudpickle.register_pickle_by_value(module)


def run(
    root: Path, *, events: list[StudyEvent] | None = None, limits: RunLimits | None = None, **made: object
) -> StudyResult:
    trainer, epoch_s = made.pop("trainer", helpers.pretend), made.pop("epoch_s", 0.0)
    data, teacher = write_sources(root)
    terminal, sink = threading.RLock(), [] if events is None else events

    def listen(event: StudyEvent) -> None:
        with terminal:  # what listens cannot be pickled, and must not be
            sink.append(event)

    return run_study(
        tiny_spec(**made),
        data,
        teacher,
        str(root / "study"),
        limits=limits,
        on_event=listen,
        functions=functions(trainer, epoch_s),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("limit", ["max_mae_c_years", "max_worst_decade_mae_years"])
def test_a_limited_figure_is_measured_at_the_end_of_each_trial(tmp_path: Path, limit: str) -> None:
    result = run(tmp_path, **{limit: 15.0}, trials=5, sampler="random")
    assert result.outcome is Outcome.COMPLETE
    assert all(getattr(record, LIMITED[limit]) is not None for record in result.records)
    assert all(record.val_worst_decade_first_years == 60.0 for record in result.records)
    assert {record.arch for record in result.front} == {ARCHS[0]}
    again = open_study(tmp_path / "study")
    assert again.trials() == result.records
    assert [record.number for record in again.front()] == [record.number for record in result.front]
    more = resume_study(str(tmp_path / "study"), trials=6, functions=functions())
    assert getattr(more.folder.header().spec, limit) == 15.0
    assert more.records[:5] == result.records
    assert {record.arch for record in more.front} == {ARCHS[0]}


def test_a_study_leaves_all_its_records(tmp_path: Path) -> None:
    events: list[StudyEvent] = []
    result = run(tmp_path, events=events)
    root = tmp_path / "study"
    assert result.outcome is Outcome.COMPLETE
    assert [record.state for record in result.records] == [State.COMPLETE] * 4
    folder = open_study(root)
    assert folder.trials() == result.records
    front = json.loads((root / "front.json").read_text(encoding="utf-8"))
    assert [trial["number"] for trial in front["trials"]] == [record.number for record in result.front]
    assert folder.header().spec == tiny_spec()
    optuna_trials = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{root}/optuna.db").trials
    assert [trial.values for trial in optuna_trials] == [
        [record.val_mae_years, record.latency_ms_p50] for record in result.records
    ]
    for record in result.records:
        spec = json.loads((root / record.folder / "spec.json").read_text(encoding="utf-8"))
        assert spec["optim"]["learning_rate"] == record.params["optim.learning_rate"]
        assert record.latency_ms_p50 == (0.5 if record.arch == ARCHS[0] else 1.5)
        assert record.epochs == helpers.EPOCHS
    started = [event.record.name for event in events if isinstance(event, TrialStarted)]
    assert sorted(started) == [record.name for record in result.records]
    assert sum(isinstance(event, TrialProgress) for event in events) == 4 * helpers.EPOCHS
    assert not (root / ".tune").exists()
    with pytest.raises(
        ConflictError, match="already holds this study, with 4 of 4 trials finished.*agesearch resume "
    ):
        run(tmp_path)
    with pytest.raises(ConflictError, match="already holds another study"):
        run(tmp_path, seed=9)


def test_one_at_a_time_the_same_seed_repeats_the_study(tmp_path: Path) -> None:
    alone = RunLimits(concurrency=1)
    first = run(tmp_path / "a", limits=alone, trials=3, seed=5)
    second = run(tmp_path / "b", limits=alone, trials=3, seed=5)
    assert [record.params for record in first.records] == [record.params for record in second.records]
    assert [record.val_mae_years for record in first.front] == [
        record.val_mae_years for record in second.front
    ]


def test_failures_are_told_truly_and_never_end_the_study(tmp_path: Path) -> None:
    result = run(tmp_path, trainer=helpers.faulty, trials=6)
    assert result.outcome is Outcome.COMPLETE
    assert len(result.records) == 6
    for record in result.records:
        low = record.params["optim.learning_rate"] < 1e-3
        if record.arch == ARCHS[1]:
            assert (record.state, record.reason) == (State.FAIL, "MemoryError: no room for it")
        elif low:
            assert (record.state, record.reason) == (State.FAIL, "val_mae_years is nan")
        else:
            assert record.state is State.COMPLETE
    assert {State.FAIL, State.COMPLETE} == {record.state for record in result.records}


def test_a_killed_worker_goes_on_from_its_checkpoint_and_fails_the_second_time(tmp_path: Path) -> None:
    events: list[StudyEvent] = []
    result = run(tmp_path, trainer=helpers.suicidal, trials=3, events=events)
    retried = [event for event in events if isinstance(event, TrialRetried)]
    assert len(retried) == 3
    assert {event.reason for event in retried} == {"worker died"}
    assert {record.arch for record in result.records} == set(ARCHS)
    for record in result.records:
        assert record.retries == 1
        curve = (tmp_path / "study" / record.folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()
        epochs = [json.loads(line)["epoch"] for line in curve]
        if record.arch == ARCHS[1]:
            assert (record.state, record.reason) == (State.FAIL, "worker died, twice before its first epoch")
        else:
            assert record.state is State.COMPLETE
            assert epochs == [1, 2, 3]  # none twice
            assert len({json.loads(line)["pid"] for line in curve}) == 2
            assert 10.0 <= record.seconds < 20.0  # the first attempt's epoch is counted


def test_hopeless_trials_are_stopped_at_a_rung_with_reason_and_epoch(tmp_path: Path) -> None:
    student = tiny_spec().student.with_values({"optim.epochs": 8})
    rungs = RungSpec(first_epoch=2, evidence=3)
    result = run(tmp_path, trainer=helpers.curved, trials=14, startup_trials=14, student=student, rungs=rungs)
    assert result.outcome is Outcome.COMPLETE
    pruned = [record for record in result.records if record.state is State.PRUNED]
    assert pruned
    assert len(pruned) + sum(record.state is State.COMPLETE for record in result.records) == 14
    frozen = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path}/study/optuna.db").trials
    kept = {record.number: record for record in open_study(tmp_path / "study").trials()}
    for record in pruned:
        assert record.params["optim.learning_rate"] > 1e-3
        assert record.epochs in (2, 4)
        assert len(record.curve) == record.epochs
        assert record.reason.startswith(
            f"out of reach of the front: 20.00 years after epoch {record.epochs} of 8 "
            f"at {record.latency_ms_p50:.2f} ms"
        )
        assert frozen[record.number].state.name == "PRUNED"
        assert frozen[record.number].user_attrs["reason"] == record.reason
        assert kept[record.number] == record
        assert not (tmp_path / "study" / record.folder / "checkpoint").exists()
    assert all(record.state is State.COMPLETE for record in result.front)


def test_the_same_study_without_rungs_trains_every_trial_to_its_end(tmp_path: Path) -> None:
    student = tiny_spec().student.with_values({"optim.epochs": 8})
    result = run(tmp_path, trainer=helpers.curved, trials=8, startup_trials=8, student=student, rungs=None)
    assert {record.state for record in result.records} == {State.COMPLETE}


def test_trials_without_an_error_in_years_fail_after_one_epoch(tmp_path: Path) -> None:
    result = run(tmp_path, trainer=helpers.without_error, trials=6, startup_trials=6)
    assert result.outcome is Outcome.COMPLETE
    assert {(record.state, record.epochs) for record in result.records} == {(State.FAIL, 1)}
    reasons = {record.arch: record.reason for record in result.records}
    assert reasons == {
        ARCHS[0]: "val_mae_years is missing after epoch 1",
        ARCHS[1]: "val_mae_years is nan after epoch 1",
    }


def test_networks_above_a_limit_are_never_trained(tmp_path: Path) -> None:
    events: list[StudyEvent] = []
    result = run(tmp_path, trials=6, max_latency_ms=1.0, events=events)
    assert {record.arch for record in result.records} == {ARCHS[0]}
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes[-1] == "1 of the space's 2 networks are above max_latency_ms 1: they are never trained."
    with pytest.raises(
        InputError, match=r"No network of the space is within max_latency_ms 0.1: the fastest"
    ):
        run(tmp_path / "none", max_latency_ms=0.1)


def test_time_that_is_up_prunes_what_runs(tmp_path: Path) -> None:
    # a whole trial takes 18 s, more than there is: the first ones never end
    result = run(tmp_path, trials=50, epoch_s=6.0, limits=RunLimits(minutes=0.2))
    assert result.outcome is Outcome.TIME_UP
    assert len(result.records) < 50
    states = [record.state for record in result.records]
    assert State.PRUNED in states
    assert State.RUNNING not in states
    for record in result.records:
        if record.state is State.PRUNED:
            assert record.reason == f"time is up after epoch {record.epochs}"
            assert 0 < record.epochs < helpers.EPOCHS


def test_wrong_inputs_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    data, teacher = write_sources(tmp_path)
    out = str(tmp_path / "study")
    with pytest.raises(InputError, match="is not a dataset"):
        run_study(tiny_spec(), str(tmp_path / "nowhere"), teacher, out)
    with pytest.raises(InputError, match="is not a model"):
        run_study(tiny_spec(), data, str(tmp_path / "nowhere"), out)
    with pytest.raises(InputError, match="--minutes is 0"):
        run_study(tiny_spec(), data, teacher, out, limits=RunLimits(minutes=0), functions=functions())
    with pytest.raises(InputError, match="--concurrency"):
        run_study(tiny_spec(), data, teacher, out, limits=RunLimits(concurrency=99), functions=functions())
    far = Location("s3://bucket/study", "bucket/study")
    with pytest.raises(InputError, match="no folder that the workers of a trial share"):
        run_study(tiny_spec(), data, teacher, far, limits=RunLimits(workers_per_trial=2))
    assert not (tmp_path / "study" / "study.yaml").exists()


def test_a_study_in_use_refuses_a_second_driver(tmp_path: Path) -> None:
    with (
        exclusive(Location.of(tmp_path / "study"), "the study"),
        pytest.raises(ConflictError, match="in use by"),
    ):
        run(tmp_path)


def test_killed_workers_and_drivers_lose_nothing(tmp_path: Path) -> None:
    found = run_chaos(
        kills=2, trials=5, epochs=4, seed=1, nodes=False, pretend=True, reference=False, folder=tmp_path
    )
    assert found.faults == []
    assert found.kills == {"driver": 1, "worker": 1}
    assert found.states == {"COMPLETE": 5}
    assert found.retries == 1
    assert found.lost <= 2
    assert found.worst <= 1


def test_a_full_disk_is_told_truly_stops_the_study_and_resume_goes_on(tmp_path: Path) -> None:
    data, teacher = write_sources(tmp_path)
    out = str(tmp_path / "study")
    made = functions(faulty_trainers.without_room)
    with pytest.raises(
        AgeSearchError, match=r"^The study stopped: '.*' could not be written: No space"
    ) as caught:
        run_study(tiny_spec(), data, teacher, out, limits=RunLimits(concurrency=1), functions=made)
    assert caught.value.exit_code == 1
    assert f"agesearch resume {out}" in str(caught.value)
    before = open_study(out).trials()
    assert [record.state for record in before] == [State.COMPLETE, State.RUNNING]
    (tmp_path / "study" / "room").touch()
    result = resume_study(out, functions=made)
    assert [record.state for record in result.records] == [State.COMPLETE] * 4
    assert result.records[0] == before[0]


_HOLDER = """
import sys
from agesearch.storage import Location, exclusive
with exclusive(Location.of(sys.argv[1]), "the study"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("verb", ["new", "resume"])
def test_a_second_driver_in_its_own_process_is_refused(tmp_path: Path, verb: str) -> None:
    data, teacher = write_sources(tmp_path)
    out = tmp_path / "study"
    if verb == "resume":
        run_study(tiny_spec(trials=1), data, teacher, str(out), functions=functions())
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    space = tmp_path / "space.yaml"
    space.write_text(json.dumps(tiny_spec().model_dump(mode="json", exclude_unset=True)))
    new = ["tune", str(space), "--data", data, "--teacher", teacher, "--out", str(out)]
    command = new if verb == "new" else ["resume", str(out), "--trials", "2"]
    code = f"import sys; from agesearch.cli.main import run; sys.argv[1:] = {command!r}; run()"
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert second.returncode == 2
    assert f"in use by process {holder.pid}" in second.stderr
    if verb == "resume":  # the lock of a killed driver holds nobody
        assert len(resume_study(str(out), trials=2, functions=functions()).records) == 2


def test_every_fault_is_told_truly_and_ends_no_other_trial(tmp_path: Path) -> None:
    data, teacher = write_sources(tmp_path)
    events: list[StudyEvent] = []
    spec = tiny_spec(trials=len(FAULTS), startup_trials=len(FAULTS), rungs=None)
    result = run_study(
        spec,
        data,
        teacher,
        str(tmp_path / "study"),
        limits=RunLimits(stall_minutes=0.1, dashboard=False),
        on_event=events.append,
        functions=functions(faulty_trainers.faulty),
    )
    assert result.outcome is Outcome.COMPLETE
    for record in result.records:
        fault, state, reason = FAULTS[record.number]
        assert (fault, record.state.value) == (fault, state)
        assert record.reason.startswith(reason), fault
        assert bool(record.reason) == bool(reason)
    retried = sorted(event.record.number for event in events if isinstance(event, TrialRetried))
    assert retried == [8, 9, 10]  # once each
    assert open_study(tmp_path / "study").trials() == result.records
    assert {record.number for record in result.front} <= {0, 7, 11}
