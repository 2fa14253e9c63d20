"""A study that trains its own teachers, for real: one of ages, and one of order for hints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from search_helpers import fake_latency
from training_faces import SPEC, write_faces

from agesearch.errors import InputError
from agesearch.measure.speed.rows import SpeedRow
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.models.manifest import MANIFEST, WEIGHTS
from agesearch.models.order_net import order_digest
from agesearch.progress import Progress
from agesearch.search.run.setup import SetupFunctions, default_functions
from agesearch.search.run.study import RunLimits, resume_study, run_study
from agesearch.search.space.space import check_space
from agesearch.search.store.events import Outcome, StudyEvent
from agesearch.search.store.records import State, open_study
from agesearch.specs import (
    Choices,
    ModelSpec,
    OptimSpec,
    OrderSpec,
    OrderTrainSpec,
    StudySpec,
    TeachersSpec,
    Variants,
)
from agesearch.storage import Location

ONE_EPOCH = OptimSpec(epochs=1, batch_size=16, learning_rate=3e-3, warmup_epochs=0)


def study() -> StudySpec:
    student = SPEC.with_values({"optim.epochs": 1, "distill.hint_stage": "stride8"})
    return StudySpec(
        student=student,
        sampler="grid",
        trials=2,
        rungs=None,
        teachers=TeachersSpec(
            age=SPEC.model_copy(update={"optim": ONE_EPOCH}),
            order=OrderTrainSpec(
                model=SPEC.model, optim=ONE_EPOCH, augment=SPEC.augment, order=OrderSpec(length=4, gap=3.0)
            ),
        ),
        space={
            "method": Variants(
                variants={
                    "dark": {"distill.kd_weight": 1.0},
                    "hints": {"distill.kd_weight": 0.0, "distill.hint_weight": 1.0},
                }
            ),
            "model.inherit": Choices(choices=("best",), when={"method": ("hints",)}),
        },
    )


def timed(model: ModelSpec) -> SpeedRow:
    return fake_latency(model)


def test_a_study_trains_its_teachers_then_its_students_and_goes_on_where_it_was_moved(
    ray_local: None, tmp_path: Path
) -> None:
    data = write_faces(tmp_path / "faces")
    stages: list[str] = []

    def listen(event: StudyEvent) -> None:
        if isinstance(event, Progress):
            stages.append(event.stage)

    functions = SetupFunctions(timed, default_functions().inputs)
    alone = RunLimits(concurrency=1)
    root = tmp_path / "study"
    result = run_study(
        check_space(study()), str(data), None, str(root), limits=alone, on_event=listen, functions=functions
    )
    assert result.outcome is Outcome.COMPLETE
    assert [record.reason for record in result.records] == ["", ""]
    assert {"age teacher", "order teacher", "teacher targets", "order features"} <= set(stages)
    header = open_study(root).header()
    assert header.teacher.content_digest == model_digest(root / "teachers" / "age")
    assert header.order_teacher is not None
    assert header.order_teacher.content_digest == order_digest(root / "teachers" / "order")
    hints = result.records[1]
    assert (hints.params, hints.inherited) == ({"method": "hints", "model.inherit": "best"}, 0)
    assert read_model_manifest(root / hints.folder).model.weights == "0000"  # its name alone

    moved = shutil.move(root, tmp_path / "moved")
    shutil.copytree(moved / "teachers", tmp_path / "kept")
    again = resume_study(str(moved), limits=alone, functions=functions)
    assert [record.state for record in again.records] == [State.COMPLETE] * 2
    shutil.rmtree(moved / "teachers" / "age")
    with pytest.raises(InputError, match="teacher is no longer at .* --teacher"):
        resume_study(str(moved), limits=alone, functions=functions)
    kept = Location.of(tmp_path / "kept" / "age")
    other = read_model_manifest(kept).model_copy(update={"files": {WEIGHTS: "0" * 64}})
    (kept / MANIFEST).write_json(other.model_dump(mode="json"))
    with pytest.raises(InputError, match="not the one the study was started with"):
        resume_study(str(moved), teacher=str(kept), limits=alone, functions=functions)
