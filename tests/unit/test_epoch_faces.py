"""Searching on large sets: epochs of a set number of faces, rungs in faces, validation on a subset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agesearch.errors import InputError
from agesearch.measure.intervals import Persons
from agesearch.search.space.scaling import scaled_study
from agesearch.search.space.space import check_space, load_space
from agesearch.search.stopping.rungs import rung_epochs
from agesearch.specs import ModelSpec, RungSpec, StudySpec, TrainSpec, parse_spec
from agesearch.training.faces.batches import Batch
from agesearch.training.faces.passes import FaceEpochs
from agesearch.training.validation import interval, limited, validation_target


class Passes:
    """Ten batches a pass; remembers where it was asked to begin."""

    faces, steps, rank, world = 100, 10, 0, 1

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        self.asked.append((index, start))
        for step in range(start, self.steps):
            yield SimpleNamespace(name=(index, step))  # type: ignore[misc]


def names(batches: Iterator[Any]) -> list[tuple[int, int]]:
    return [batch.name for batch in batches]


@pytest.mark.parametrize(("faces", "steps"), [(30, 3), (34, 3), (1, 1), (100, 10), (250, 25)])
def test_epochs_of_faces_go_through_the_passes_one_after_the_other(faces: int, steps: int) -> None:
    source = Passes()
    epochs = FaceEpochs(source, faces)
    assert (epochs.steps, epochs.faces) == (steps, 10 * steps)
    shown = [name for index in range(8) for name in names(epochs.epoch(index))]
    assert shown == [divmod(step, 10) for step in range(8 * steps)]
    # what the source has read ahead is not thrown away where an epoch ends within a pass
    assert source.asked == [(index, 0) for index in range(-(-8 * steps // 10))]


@pytest.mark.parametrize(("epoch", "start"), [(0, 2), (3, 1), (3, 0), (2, 3)])
def test_a_resumed_epoch_of_faces_begins_in_the_middle_of_a_pass(epoch: int, start: int) -> None:
    epochs = FaceEpochs(Passes(), 30)
    whole = names(epochs.epoch(epoch))
    assert names(FaceEpochs(Passes(), 30).epoch(epoch, start)) == whole[start:]
    assert names(epochs.epoch(epoch)) == whole  # the same ones every time


def test_rungs_in_faces_are_at_the_end_of_the_epoch_that_reaches_them() -> None:
    rungs = RungSpec(unit="faces", first_faces=250_000, eta=2)
    assert rung_epochs(12, rungs, 100_000) == [3, 5, 10]
    assert rung_epochs(12, rungs, 1_000_000) == [1, 2, 4, 8]
    assert rung_epochs(12, rungs) == []
    assert rung_epochs(16, RungSpec(first_epoch=2)) == [2, 4, 8]


SPACE = """
student:
  model: {{arch: lcnet_035, input_size: 32}}
  optim: {{{optim}}}
  {more}
rungs: {{{rungs}}}
space:
  {space}
"""


def written(folder: Path, **parts: str) -> StudySpec:
    values = {"optim": "epochs: 8", "more": "seed: 0", "rungs": "eta: 2", "space": "seed: {choices: [0]}"}
    file = folder / "space.yaml"
    file.write_text(SPACE.format(**values | parts))
    return load_space(str(file))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rungs": "unit: faces"}, "first_faces must say after how many"),
        ({"rungs": "unit: steps"}, "unit"),
        ({"rungs": "first_faces: 10"}, "counts with unit: faces only"),
        (
            {"rungs": "unit: faces, first_faces: 100"},
            "line 6: rungs count faces, but no epoch has a set number of them: give student.optim.epoch",
        ),
        ({"optim": "epochs: 8, epoch_faces: 1"}, "epoch_faces"),
        ({"optim": "epochs: 8, epoch_faces: many"}, "epoch_faces"),
        ({"more": "val_faces: 0"}, "val_faces"),
        ({"space": "optim.epoch_faces: {low: 0, high: 10, integer: true}"}, "epoch_faces"),
        ({"space": "optim.epoch_faces: {low: 10, high: 20}"}, "takes whole numbers"),
        ({"more": "compute: {checkpoint_minutes: 0}"}, "checkpoint_minutes"),
    ],
)
def test_wrong_values_are_told_in_one_line_at_theirs(
    tmp_path: Path, parts: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as found:
        written(tmp_path, **parts)
    assert "\n" not in str(found.value)
    assert "line " in str(found.value)


def test_a_space_searches_and_scales_epochs_of_faces(tmp_path: Path) -> None:
    study = written(
        tmp_path,
        optim="epochs: 8, epoch_faces: 100000",
        rungs="unit: faces, first_faces: 200000",
        space="optim.epoch_faces: {low: 50000, high: 200000, integer: true}",
    )
    half = scaled_study(study, 0.5)
    assert (half.student.optim.epochs, half.student.optim.epoch_faces) == (4, 100_000)
    assert half.rungs is not None
    assert half.rungs.first_faces == 100_000
    little = scaled_study(study, 1 / 16)
    assert (little.student.optim.epochs, little.student.optim.epoch_faces) == (1, 50_000)
    assert little.student.share_of_faces == 1.0
    assert little.space["optim.epoch_faces"].high == 100_000  # type: ignore[union-attr]
    check_space(little)


def test_at_their_defaults_the_new_fields_leave_no_trace() -> None:
    """Digests of specs that were made before: studies, checkpoints and records stay theirs."""
    spec = TrainSpec(model=ModelSpec(arch="lcnet_035"))
    assert not {"val_faces"} & spec.model_dump().keys()
    assert not {"epoch_faces"} & spec.optim.model_dump().keys()
    assert spec.compute.model_dump() == {"precision": "auto", "compile": False}
    assert RungSpec().model_dump().keys() == {"eta", "first_epoch", "margin", "evidence", "pause_margin"}
    assert "faces" not in repr(spec.optim)
    study = {"student": spec.model_dump(), "rungs": {}, "space": {"seed": {"choices": [0]}}}
    assert spec.digest() == "1549da8aa9214c01"
    assert parse_spec(StudySpec, study, "study").digest() == "3209803b6b13ef68"
    assert spec.with_values({"optim.epoch_faces": 1000}).digest() != spec.digest()
    assert spec.with_values({"val_faces": 1000}).digest() != spec.digest()
    assert spec.with_values({"compute.checkpoint_minutes": 1.0}).digest() == spec.digest()


def columns(count: int) -> dict[str, Any]:
    ages = np.arange(count, dtype=np.float32) % 90
    nan = np.full(count, np.nan, dtype=np.float32)
    ids = np.array([f"face-{index}" for index in range(count)])
    return {"sample_id": ids, "age": ages, "age_low": nan, "age_high": nan}


def test_the_validation_subset_is_the_same_in_every_training_and_order() -> None:
    model, faces = ModelSpec(arch="lcnet_035"), columns(500)
    chosen = limited(validation_target(faces, model), faces["sample_id"], 50)
    assert len(chosen.rows) == 50
    assert (chosen.true == faces["age"][chosen.rows]).all()
    turned = {name: column[::-1].copy() for name, column in faces.items()}
    again = limited(validation_target(turned, model), turned["sample_id"], 50)
    assert set(turned["sample_id"][again.rows]) == set(faces["sample_id"][chosen.rows])
    more = limited(validation_target(faces, model), faces["sample_id"], 100)
    assert set(chosen.rows) < set(more.rows)
    assert len(limited(validation_target(faces, model), faces["sample_id"], 5000).rows) == 500


def test_the_interval_of_the_subset_is_over_persons() -> None:
    faces = columns(200)
    target = limited(validation_target(faces, ModelSpec(arch="lcnet_035")), faces["sample_id"], 100)
    answers = target.true + np.repeat([1.0, 9.0], 50).astype(np.float32)
    few = Persons.of(faces["sample_id"][target.rows], np.repeat(["a", "b", "c", "d"], 25).astype(object))
    each = Persons.each(100)
    ends = [interval(target, answers, target.true, persons) for persons in (few, each)]
    assert [set(one) for one in ends] == [{"val_mae_years_low", "val_mae_years_high"}] * 2
    widths = [one["val_mae_years_high"] - one["val_mae_years_low"] for one in ends]
    assert widths[0] > 2 * widths[1] > 0
