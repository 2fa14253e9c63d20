"""A table recorded without a study: shared by processes, gone on with after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from replay_rows import study

from agesearch.bench import record as recording
from agesearch.bench.record import record_curves
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.errors import InputError
from agesearch.search.replay.curve_table import as_table, read_record
from agesearch.storage import Location, exclusive
from agesearch.training import run as training
from agesearch.training.loop import TrainingDiverged

SPEC = study(epochs=3).model_copy(update={"trials": 6})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Trainings that only report; every third diverges. What was trained."""
    specs: list[Any] = []

    def train(
        spec: Any, train: Any, val: Any, out: Any, crop: Any, *, report: Callable[..., None], **_: Any
    ) -> None:
        specs.append(spec)
        if len(specs) % 3 == 0:
            raise TrainingDiverged("the loss is no number")
        for epoch in range(spec.optim.epochs):
            report({"epoch": epoch + 1.0, "val_mae_years": 9.0 - epoch})

    monkeypatch.setattr(training, "train_student", train)
    monkeypatch.setattr(recording, "read_model_manifest", lambda folder: SimpleNamespace(parameters=1000))
    monkeypatch.setattr(recording, "_latency", lambda network: network.input_size / 64)
    return specs


def test_configurations_are_trained_once_whoever_trains_them(tmp_path: Path, trained: list[Any]) -> None:
    work = Location.of(tmp_path / "work")
    with exclusive(work / "0001", "another process"):
        found = record_curves(SPEC, demo_pack(), None, work)
    assert (len(found.rows), found.left_out) == (4, 1)  # number 1 is that other process's
    again = record_curves(SPEC, demo_pack(), None, work)
    assert len(trained) == SPEC.trials
    assert (len(again.rows), again.left_out) == (4, 2)
    first = again.rows[0]
    assert first.errors == (9.0, 8.0, 7.0)
    assert first.latency_ms == first.params["model.input_size"] / 64
    assert again.has_seconds
    assert max(first.seconds) < 1  # of this processor, not of the wall
    assert not [child for child in work.children() if child.is_dir()]  # no training is left
    Location.of(tmp_path / "table.parquet").write_table(as_table(again))
    assert read_record(str(tmp_path / "table.parquet")).left_out == 2


def test_more_configurations_go_on_from_those_that_are_there(tmp_path: Path, trained: list[Any]) -> None:
    work = Location.of(tmp_path)
    few = record_curves(SPEC.model_copy(update={"trials": 2}), demo_pack(), None, work)
    more = record_curves(SPEC, demo_pack(), None, work)
    assert more.rows[: len(few.rows)] == few.rows
    assert len(trained) == SPEC.trials


def test_another_space_is_refused_in_the_same_folder(tmp_path: Path, trained: list[Any]) -> None:
    work = Location.of(tmp_path)
    record_curves(SPEC.model_copy(update={"trials": 1}), demo_pack(), None, work)
    with pytest.raises(InputError, match="holds configurations of another space"):
        record_curves(SPEC.model_copy(update={"seed": 1}), demo_pack(), None, work)
