"""Intervals of a front's errors in the last table of ``tune``, and the median baseline's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_study import write_study
from published_sets import tiny_model, write_set

from agesearch.cli.study_run import _print_front
from agesearch.data.dataset.records import Split
from agesearch.measure.accuracy import mae
from agesearch.measure.evaluate import evaluate
from agesearch.measure.protocols import protocol_named
from agesearch.search.front import accuracy
from agesearch.search.front.accuracy import front_accuracy
from agesearch.search.front.latencies import study_latencies
from agesearch.search.front.measurements import MEDIAN
from agesearch.search.run.study import StudyResult
from agesearch.search.store.events import Outcome
from agesearch.search.store.records import StudyFolder
from agesearch.storage import Location


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """A study whose front has networks, on 24 validation faces of 6 persons."""
    rows = [
        {
            "age": 20.0 + index,
            "split": split,
            "subject_id": f"{split}{index % 6}",
            "sample_id": f"{split}{index}",
        }
        for split in ("train", "val")
        for index in range(24)
    ]
    data = write_set(tmp_path / "ds", rows, "real")
    made = write_study(Location.of(tmp_path / "study"))
    header = made.header().model_dump()
    header["dataset"] = {"path": str(tmp_path / "ds"), "content_digest": data.content_digest}
    made.write_header(type(made.header()).model_validate(header))
    for record in made.front():
        shutil.rmtree(made.trial_folder(record).path)
        tiny_model(Path(made.trial_folder(record).path), seed=record.number)
    return made


def test_the_fronts_errors_have_the_intervals_that_evaluate_gives(study: StudyFolder) -> None:
    front = study.front()
    found = front_accuracy(study, front)
    assert set(found) == {MEDIAN, *(record.name for record in front)}
    assert {(one.faces, one.persons) for one in found.values()} == {(24, 6)}
    models = {record.name: study.trial_folder(record) for record in front}
    protocol = protocol_named("standard", split=Split.VAL)
    for model in evaluate(models, study.header().dataset.path, protocol, runtime="torch").record.models:
        assert model.kinds[0].scores["mae_years"] == found[model.name]
    assert found[MEDIAN].value == pytest.approx(mae([31.5] * 24, [20.0 + index for index in range(24)]))


def test_the_table_ends_with_the_baseline(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    front = study.front()
    result = StudyResult(study, Outcome.COMPLETE, study.trials(), front, len(front))
    found = front_accuracy(study, front)
    latencies = study_latencies(study)
    _print_front(result, {"COMPLETE": 24}, found, latencies)
    shown = capsys.readouterr()
    median = found[MEDIAN]
    assert f"{median.low:.2f}–{median.high:.2f}" in shown.out
    assert "always the median age" in shown.out
    assert "24 faces of 6 persons" in shown.err
    _print_front(result, {"COMPLETE": 24}, {}, latencies)
    assert "always the median" not in capsys.readouterr().out


def test_what_cannot_be_measured_in_seconds_is_left_out(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "_MOST_S", 0.0)
    assert set(front_accuracy(study, study.front())) == {MEDIAN}
    header = study.header().model_dump()
    header["dataset"] = {"path": "/nowhere", "content_digest": "x"}
    study.write_header(type(study.header()).model_validate(header))
    assert front_accuracy(study, study.front()) == {}
