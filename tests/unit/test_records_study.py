"""A study's records come back as they were written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agesearch.errors import InputError
from agesearch.search.store.records import (
    State,
    StudyFolder,
    StudyHeader,
    StudyInput,
    TrialRecord,
    front_of,
    knee_of,
    open_study,
    title_of,
)
from agesearch.specs import Choices, CropSpec, ModelSpec, Range, StudySpec, TrainSpec
from agesearch.storage import Location

numbers = st.one_of(st.none(), st.floats(0.01, 100))
records = st.builds(
    TrialRecord,
    number=st.integers(0, 9999),
    state=st.sampled_from(State),
    name=st.just("0001-mobilenetv2_100-96px"),
    params=st.dictionaries(st.text(max_size=5), st.one_of(st.text(), st.integers(0, 9), st.floats(0, 1))),
    reason=st.text(max_size=20),
    val_mae_years=numbers,
    latency_ms_p50=numbers,
    epochs=st.integers(0, 100),
    seconds=st.integers(0, 1000).map(lambda value: value / 8),
)


def done(number: int, mae: float, latency: float, state: State = State.COMPLETE) -> TrialRecord:
    name = f"{number:04d}-mobilenetv2_100-96px"
    return TrialRecord(number, state, name, val_mae_years=mae, latency_ms_p50=latency)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records, max_size=5, unique_by=lambda record: record.number))
def test_trials_come_back_in_order(tmp_path: Path, written: list[TrialRecord]) -> None:
    folder = StudyFolder(Location.of(tmp_path))
    folder.write_trials(written)
    assert folder.trials() == sorted(written, key=lambda record: record.number)


def test_the_header_comes_back_from_yaml(tmp_path: Path) -> None:
    space = {"model.arch": Choices(choices=("resnet18",)), "seed": Range(low=0, high=3, integer=True)}
    spec = StudySpec(student=TrainSpec(model=ModelSpec(arch="resnet18")), space=space)
    header = StudyHeader(
        spec=spec,
        dataset=StudyInput(path="/ds", content_digest="1" * 16),
        teacher=StudyInput(path="/t", content_digest="2" * 16),
        crop=CropSpec(),
        spec_digest=spec.digest(),
        created="2026-01-01T00:00:00+00:00",
    )
    folder = StudyFolder(Location.of(tmp_path))
    assert not folder.exists()
    folder.write_header(header)
    assert open_study(tmp_path).header() == header
    assert header.spec.digest() == header.spec_digest


def test_only_complete_trials_are_on_the_front() -> None:
    trials = [done(0, 6.0, 1.0), done(1, 5.0, 2.0), done(2, 7.0, 1.5), done(3, 1.0, 0.1, State.PRUNED)]
    assert [record.number for record in front_of(trials)] == [0, 1]


def test_front_json_names_the_trials_and_the_knee(tmp_path: Path) -> None:
    folder = StudyFolder(Location.of(tmp_path))
    front = front_of([done(0, 9.0, 0.5), done(1, 6.0, 0.8), done(2, 5.9, 4.0)])
    folder.write_front(front)
    document = json.loads((tmp_path / "front.json").read_text(encoding="utf-8"))
    assert document["knee"] == knee_of(front).number == 1
    assert [trial["folder"] for trial in document["trials"]] == ["trials/0000", "trials/0001", "trials/0002"]


def test_names_give_architecture_and_size() -> None:
    record = done(12, 1.0, 1.0)
    assert (record.arch, record.input_size, record.folder) == ("mobilenetv2_100", 96, "trials/0012")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a study: it has no study.yaml"):
        open_study(tmp_path)
    folder = StudyFolder(Location.of(tmp_path))
    assert folder.trials() == []
    folder.write_trials([done(0, 1.0, 1.0), done(1, 1.0, 1.0)])
    assert folder.trial(1).number == 1
    with pytest.raises(InputError, match="has no trial 7; it has 0 to 1"):
        folder.trial(7)


def test_a_person_is_told_of_a_trial_in_one_way() -> None:
    record = TrialRecord(7, State.COMPLETE, "0007-mobilenetv3_small_050-96px")
    assert record.title == title_of(record.name) == "trial 7 mobilenetv3_small_050 at 96 px"
    assert record.title == f"trial {record.number} {record.network}"
    assert title_of("teacher") == "teacher"
