"""A student that learns from an order teacher's features, from stored answers to a model folder."""

from pathlib import Path

import pytest
from training_faces import CROP, SPEC, write_faces

from agesearch.data.dataset.records import Split
from agesearch.data.reading.loading import load_split
from agesearch.distill.targets import order_features
from agesearch.models.folder import load_net
from agesearch.models.zoo import build
from agesearch.specs import OptimSpec, OrderSpec, OrderTrainSpec
from agesearch.storage import Location
from agesearch.training.curve import read_curve
from agesearch.training.run import train_student
from agesearch.training.teach_order import teach_order


@pytest.mark.usefixtures("ray_local")
def test_a_student_learns_from_hints_and_keeps_nothing_of_their_projection(tmp_path: Path) -> None:
    faces = str(write_faces(tmp_path / "faces"))
    optim = OptimSpec(epochs=1, batch_size=16)
    order = OrderTrainSpec(model=SPEC.model, optim=optim, order=OrderSpec(length=4, gap=2.0))
    teach_order(order, faces, tmp_path / "order")
    files = order_features(str(tmp_path / "order"), faces)
    train, val = load_split(faces, Split.TRAIN, features=files), load_split(faces, Split.VAL)
    spec = SPEC.with_values(
        {"distill.hint_weight": 1.0, "distill.hint_stage": "stride16", "distill.rkd_distance_weight": 1.0}
    )
    out = Location.of(tmp_path / "student")
    train_student(spec, train, val, out, CROP)
    curve = read_curve(out)
    assert curve[-1]["train_hint"] < curve[0]["train_hint"]
    assert {"train_label", "train_mean", "train_hint", "train_rkd_distance"} <= set(curve[0])
    assert "train_kd" not in curve[0]
    assert set(load_net(out).state_dict()) == set(build(SPEC.model).state_dict())
