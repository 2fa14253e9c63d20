"""What a GPU changes: bfloat16, compiled backbones, shares of one GPU, a worker a GPU. Skipped without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_faces import CROP, SPEC, write_faces

from agesearch.data.dataset.records import Split
from agesearch.data.reading.loading import load_split
from agesearch.models.folder import load_net
from agesearch.models.identity import read_model_manifest
from agesearch.search.run.study import RunLimits, run_study
from agesearch.search.store.records import State
from agesearch.specs import StudySpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.run import train_student
from agesearch.training.teach import teach

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0

pytestmark = [
    pytest.mark.usefixtures("ray_local"),
    pytest.mark.skipif(GPUS == 0, reason="needs a GPU, and this machine has none"),
]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("gpu") / "faces", 200)


def _train(faces: Path, out: Path, spec: TrainSpec) -> dict[str, float]:
    train, val = (load_split(str(faces), split) for split in (Split.TRAIN, Split.VAL))
    return train_student(spec, train, val, Location.of(out), CROP)


def test_bfloat16_learns_as_float32_does_and_leaves_float32_weights(faces: Path, tmp_path: Path) -> None:
    found = {
        precision: _train(
            faces, tmp_path / precision, SPEC.with_values({"compute.precision": precision, "optim.epochs": 6})
        )["val_mae_years"]
        for precision in ("auto", "float32")
    }
    assert abs(found["auto"] - found["float32"]) < 0.25 * found["float32"]
    net = load_net(str(tmp_path / "auto"))
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert {parameter.device.type for parameter in net.parameters()} == {"cpu"}


def test_a_compiled_backbone_keeps_the_names_of_its_weights(faces: Path, tmp_path: Path) -> None:
    spec = SPEC.with_values({"compute.compile": True})
    _train(faces, tmp_path / "compiled", spec)
    assert np.isfinite(read_model_manifest(str(tmp_path / "compiled")).metrics["val_mae_years"])
    load_net(str(tmp_path / "compiled"))


def test_two_trials_share_one_gpu(faces: Path, tmp_path: Path) -> None:
    teach(SPEC, str(faces), str(tmp_path / "teacher"))
    spec = StudySpec(
        student=SPEC, trials=2, rungs=None, space={"optim.learning_rate": {"low": 1e-3, "high": 1e-2}}
    )
    limits = RunLimits(concurrency=2, gpus_per_trial=0.5, dashboard=False)
    result = run_study(spec, str(faces), str(tmp_path / "teacher"), str(tmp_path / "study"), limits=limits)
    assert [record.state for record in result.records] == [State.COMPLETE] * 2


@pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")
def test_two_workers_have_a_gpu_each(faces: Path, tmp_path: Path) -> None:
    manifest = teach(SPEC, str(faces), str(tmp_path / "teacher"), workers=2)
    assert manifest.metrics["val_mae_years"] < manifest.metrics["val_mae_median_years"]
