"""Targets computed by Ray's workers: what fails keeps what is done, and every kind of teacher travels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_faces import CROP, SPEC, write_faces

from agesearch.ages import BINS
from agesearch.data.dataset.arrays import read_arrays
from agesearch.data.dataset.records import Split
from agesearch.data.images.augment import augmenter_of
from agesearch.data.reading.loading import load_split, resident
from agesearch.data.reading.teacher_outputs import StoredAnswers
from agesearch.distill import targets as module
from agesearch.distill.sorting import answers
from agesearch.distill.stored_answers import age_teacher, order_teacher
from agesearch.distill.targets import compute, order_features
from agesearch.errors import InputError
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.order_net import OrderManifest, build_order, load_order, write_order
from agesearch.models.zoo import build
from agesearch.progress import Progress
from agesearch.specs import AugmentSpec, OrderTrainSpec
from agesearch.storage import Location
from agesearch.training.run import train_student

pytestmark = pytest.mark.usefixtures("ray_local")

VIEWS = AugmentSpec(policy="greco", views=2)


@pytest.fixture(autouse=True)
def _small_pieces_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FACES_SCORED_HERE", 0)
    monkeypatch.setattr(module, "PIECE_FACES", 10)


def _order_teacher(where: Path) -> str:
    torch.manual_seed(0)
    net = build_order(SPEC.model)
    manifest = OrderManifest(
        model=SPEC.model,
        crop=CROP,
        train=OrderTrainSpec(model=SPEC.model),
        metrics={},
        parameters=1,
        data_digest="",
        spec_digest="",
    )
    write_order(Location.of(where), net.state_dict(), manifest)
    return str(where)


def test_workers_store_the_features_of_every_view_and_students_learn_from_them(tmp_path: Path) -> None:
    faces, teacher = write_faces(tmp_path / "faces"), _order_teacher(tmp_path / "order")
    told: list[Progress] = []
    features = order_features(teacher, str(faces), VIEWS, told.append)
    assert (told[0].done, told[-1].done, told[-1].total) == (0, 120, 120)
    arrays = read_arrays(str(faces))
    augment = augmenter_of(VIEWS, 0)
    seen = augment.each(list(arrays.images), 1, [str(name) for name in arrays.sample_id])
    expected = answers(load_order(teacher), list(seen), SPEC.model.input_size)[1]
    ids = arrays.sample_id.astype(str)
    stored = StoredAnswers(features[1], "features")
    for shard in range(2):  # of training_faces: every second face
        found = stored.of(f"{shard}.parquet", ids[shard::2])
        np.testing.assert_allclose(found, expected[shard::2], rtol=2e-3, atol=2e-3)
    train, val = (load_split(str(faces), split, features=features) for split in (Split.TRAIN, Split.VAL))
    assert resident(train)[0]["teacher_features"].shape[1:] == (2, expected.shape[1])
    spec = SPEC.with_values({"augment": VIEWS.model_dump(), "optim.epochs": 1, "distill.hint_weight": 1.0})
    report: list[dict[str, float]] = []
    train_student(spec, train, val, Location.of(tmp_path / "student"), CROP, report=report.append)
    assert report[0]["train_hint"] > 0
    assert compute(order_teacher(teacher), str(faces), VIEWS).answers == 0


def test_a_face_that_stops_the_work_costs_only_its_own_piece(tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces")
    shard = Location.of(faces) / "shards" / "1.parquet"
    whole = shard.read_table()
    images = whole["image"].to_pylist()
    place = whole.schema.get_field_index("image")
    shard.write_table(whole.set_column(place, whole.schema.field(place), [[*images[:-1], b"no picture"]]))
    net = build(SPEC.model)
    manifest = ModelManifest(kind="teacher", model=SPEC.model, crop=CROP, parameters=1)
    write_model(Location.of(tmp_path / "teacher"), net.state_dict(), manifest)
    teacher = age_teacher(str(tmp_path / "teacher"), str(faces))
    with pytest.raises(InputError, match="cannot be decoded"):
        compute(teacher, str(faces), None)
    shard.write_table(whole)
    found = compute(teacher, str(faces), None)
    assert 10 <= found.answers < 60
    (table,) = (file.read_table() for file in found.files)
    assert sorted(table["sample_id"].to_pylist()) == [f"{number:04d}" for number in range(60)]
    assert table.schema.field("pmf").type.list_size == BINS
