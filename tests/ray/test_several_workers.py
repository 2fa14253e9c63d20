"""Trials that several workers train together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from training_faces import SPEC, write_faces

from agesearch.bench.overhead import untrained_teacher
from agesearch.search.run.study import RunLimits, run_study
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import StudySpec
from agesearch.storage import Location
from agesearch.training.curve import read_curve

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("several") / "faces", 100)


def _study(faces: Path, teacher: Path, out: Path, workers: int) -> list[TrialRecord]:
    spec = StudySpec.model_validate(
        {"student": SPEC.model_dump(), "trials": 1, "rungs": None, "space": {"seed": {"choices": [0]}}}
    )
    limits = RunLimits(concurrency=1, workers_per_trial=workers, dashboard=False)
    return run_study(spec, str(faces), str(teacher), str(out), limits=limits).records


def test_two_workers_reach_what_one_reaches(faces: Path, tmp_path: Path) -> None:
    untrained_teacher(Location.of(tmp_path / "teacher"), Location.of(faces))
    (alone,) = _study(faces, tmp_path / "teacher", tmp_path / "one", 1)
    (shared,) = _study(faces, tmp_path / "teacher", tmp_path / "two", 2)
    assert (alone.state, shared.state) == (State.COMPLETE, State.COMPLETE)
    assert (shared.epochs, len(shared.curve)) == (SPEC.optim.epochs, SPEC.optim.epochs)
    curves = [
        read_curve(Location.of(tmp_path / out / record.folder))
        for out, record in (("one", alone), ("two", shared))
    ]
    losses = np.array([[row["train_loss"] for row in curve] for curve in curves])
    assert losses[1] == pytest.approx(losses[0], rel=0.25)
    assert shared.val_mae_years == pytest.approx(alone.val_mae_years, rel=0.25)
    assert shared.seconds > 0
    assert not (tmp_path / "two" / shared.folder / ".train").exists()
