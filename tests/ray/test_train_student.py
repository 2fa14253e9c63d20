"""Training a student in this process, and the teacher targets it learns from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_faces import CROP, SPEC, write_faces

from agesearch.ages import expected_age
from agesearch.data.dataset.arrays import read_arrays
from agesearch.data.dataset.records import Split
from agesearch.data.reading import loading
from agesearch.data.reading.loading import load_split
from agesearch.distill import targets as targets_module
from agesearch.distill.targets import teacher_targets
from agesearch.errors import InputError
from agesearch.metrics import EPOCH_SECONDS
from agesearch.models.folder import load_net
from agesearch.models.identity import read_model_manifest
from agesearch.models.predict import open_predictor
from agesearch.progress import Progress
from agesearch.storage import Location
from agesearch.training.faces import plan
from agesearch.training.run import train_student

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("student") / "faces")


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first model, which serves as the teacher."""
    out = tmp_path_factory.mktemp("trained") / "teacher"
    _train(faces, out)
    return out


def _train(faces: Path, out: Path, spec: Any = SPEC, targets: Location | None = None, **options: Any) -> Any:
    train, val = (load_split(str(faces), split, targets=targets) for split in (Split.TRAIN, Split.VAL))
    return train_student(spec, train, val, Location.of(out), CROP, **options)


def test_a_finished_run_is_a_model_folder_and_is_not_redone(faces: Path, trained: Path) -> None:
    manifest = read_model_manifest(str(trained))
    assert (manifest.kind, manifest.train, manifest.crop) == ("trial", SPEC, CROP)
    assert sorted(file.name for file in trained.iterdir()) == [
        "curve.jsonl",
        "manifest.json",
        "validation.parquet",
        "weights.safetensors",
    ]
    val = read_arrays(str(faces), Split.VAL)
    predicted = expected_age(open_predictor(str(trained)).pmf(val.images))
    assert np.abs(predicted - val.age).mean() == pytest.approx(manifest.metrics["val_mae_years"], abs=1e-3)
    kept = (Location.of(trained) / "validation.parquet").read_table().to_pydict()
    assert kept["sample_id"] == sorted(val.sample_id)
    said = dict(zip(kept["sample_id"], kept["predicted_age"], strict=True))
    assert [said[name] for name in val.sample_id] == pytest.approx(predicted.tolist(), abs=1e-2)
    reports: list[dict[str, float]] = []
    assert _train(faces, trained, report=reports.append) == manifest.metrics
    assert reports == []
    assert load_net(str(trained)).parameter_count == manifest.parameters


@pytest.mark.parametrize("here", [4096, 0], ids=["driver", "workers"])
def test_targets_are_computed_once_and_resumed(
    faces: Path, trained: Path, tmp_path: Path, here: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets_module, "FACES_SCORED_HERE", here)
    copy = write_faces(tmp_path / "faces")
    seen: list[Progress] = []
    (where,) = teacher_targets(str(trained), str(copy), on_progress=seen.append)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, 60, 60)
    table = where.read_table()
    pmf = np.array(table["pmf"].to_pylist(), dtype=np.float32)
    assert pmf.shape == (60, 101)
    arrays = read_arrays(str(copy))
    by_id = dict(zip(table["sample_id"].to_pylist(), pmf, strict=True))
    expected = open_predictor(str(trained)).pmf(arrays.images)
    np.testing.assert_allclose([by_id[name] for name in arrays.sample_id], expected, atol=1e-3)

    def refuse(*_: Any) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(targets_module, "answer_piece", refuse)
    assert teacher_targets(str(trained), str(copy)) == [where]
    write_faces(copy, 61)  # another dataset in the same place
    with pytest.raises(Exception, match="scored again"):
        teacher_targets(str(trained), str(copy))


def test_unlabelled_faces_are_learnt_from_the_teacher_alone(trained: Path, tmp_path: Path) -> None:
    blank = write_faces(tmp_path / "blank", name="blank", labelled=False)
    (where,) = teacher_targets(str(trained), str(blank))
    reports: list[dict[str, float]] = []
    final = _train(blank, tmp_path / "student", targets=where, report=reports.append)
    assert final["epoch"] >= 1
    assert {"train_kd"} == {name for name in reports[0] if name.startswith("train_") and name != "train_loss"}
    with pytest.raises(InputError, match="Nothing to train on"):
        _train(blank, tmp_path / "none")


def test_faces_that_are_streamed_are_learnt_from_like_faces_in_memory(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of its rows, an epoch of this set ends with the oldest, and forgets the others."""
    faces = write_faces(tmp_path / "sorted", 400, by_age=20)
    targets = teacher_targets(str(trained), str(faces))
    monkeypatch.setattr(plan, "WINDOW_FACES", 160)  # two windows, of half of the shards each
    curves: list[list[dict[str, float]]] = []
    for limit in (loading.RESIDENT_BYTES, 0):
        monkeypatch.setattr(loading, "RESIDENT_BYTES", limit)
        curves.append([])
        spec = SPEC.with_values({"optim.epochs": 6})
        _train(faces, tmp_path / str(limit), spec, targets=targets, report=curves[-1].append)
    for held, streamed in zip(*curves, strict=True):
        assert {**held, EPOCH_SECONDS: 0} == {**streamed, EPOCH_SECONDS: 0}
    assert min(row["val_mae_years"] for row in curves[0]) < 14  # always the median: 21


def test_bfloat16_computes_the_steps_and_leaves_float32_weights(faces: Path, tmp_path: Path) -> None:
    spec = SPEC.with_values({"compute.precision": "bfloat16"})
    metrics = _train(faces, tmp_path / "half", spec)
    plain = _train(faces, tmp_path / "plain", SPEC)
    assert metrics["val_mae_years"] == pytest.approx(plain["val_mae_years"], rel=0.2)
    assert metrics != plain
    kept = load_net(str(tmp_path / "half")).state_dict()
    assert {tensor.dtype for tensor in kept.values() if tensor.is_floating_point()} == {torch.float32}
