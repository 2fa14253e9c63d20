"""Hints: named stages, a projection that belongs to the task, and resuming with it to the same end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agesearch.ages import gaussian_pmf
from agesearch.distill.hints import Hint, known_stages
from agesearch.distill.losses import Targets
from agesearch.distill.task import DistillTask
from agesearch.errors import InputError
from agesearch.models.zoo import AgeNet, build
from agesearch.specs import AugmentSpec, DistillSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.loop import Trainer

SMALL = ModelSpec(arch="lcnet_035", input_size=32)
WIDTH = 6
HINTED = DistillSpec(hint_weight=1.0, hint_stage="blocks.3", kd_weight=0.0)


def _targets(faces: int = 4) -> Targets:
    ages = np.linspace(10, 80, faces, dtype=np.float32)
    features = torch.randn(faces, WIDTH, generator=torch.Generator().manual_seed(1))
    return Targets(
        torch.from_numpy(ages), torch.from_numpy(gaussian_pmf(ages, 2.0)), teacher_features=features
    )


def _images(faces: int = 4) -> torch.Tensor:
    return torch.rand(faces, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.parametrize("stage", ["pooled", "blocks.3", "stride16"])
def test_a_hint_sees_the_stage_it_names_and_leaves_no_trace(stage: str) -> None:
    net = build(SMALL).eval()
    hint = Hint(net, stage, WIDTH)
    assert not net.training
    modules = {"blocks.3": "blocks.3", "stride16": "blocks.4"}
    caught: list[torch.Tensor] = []
    if stage in modules:
        net.backbone.get_submodule(modules[stage]).register_forward_hook(
            lambda _m, _i, out: caught.append(out)
        )
    features, seen = hint.see(net, _images())
    expected = caught[0].mean(dim=(2, 3)) if caught else features
    torch.testing.assert_close(seen, expected)
    torch.testing.assert_close(features, net.features(_images()))
    assert hint(seen).shape == (4, WIDTH)
    # pooling and a 1x1 convolution commute
    if caught:
        weight = hint.projection.weight[:, :, None, None]
        convolved = torch.nn.functional.conv2d(caught[0], weight, hint.projection.bias).mean(dim=(2, 3))
        torch.testing.assert_close(hint(seen), convolved, atol=1e-5, rtol=1e-4)
    left = sum(len(module._forward_hooks) for module in net.modules())
    assert left == (stage in modules)  # the one of this test


def test_an_unknown_stage_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"Unknown stage of .* 'block.3'; .*blocks.3.*pooled.*stride16.*mean"
    ):
        DistillTask(build(SMALL), DistillSpec(hint_weight=1.0, hint_stage="block.3"), feature_width=WIDTH)


@pytest.mark.parametrize(
    ("arch", "stage"),
    [("resnet18", "layer2"), ("densenet121", "features.denseblock2"), ("vgg16", "features.22")],
)
def test_the_stages_of_an_architecture_are_known_without_its_weights(arch: str, stage: str) -> None:
    assert {stage, "pooled", "stride8", "stride16"} <= set(known_stages(arch))


def test_the_projection_learns_with_the_student_and_is_not_part_of_it() -> None:
    net = build(SMALL)
    names = set(net.state_dict())
    task = DistillTask(net, HINTED, feature_width=WIDTH)
    terms = task(_images(), _targets())
    assert set(terms) == {"loss", "label", "mean", "hint"}
    terms["loss"].backward()
    assert task.hint is not None
    assert float(task.hint.projection.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]
    assert set(net.state_dict()) == names
    own = {id(parameter) for parameter in task.hint.parameters()}
    assert [id(p) in own for p in task.parameters()].index(True) == len(list(net.parameters()))


def test_faces_without_features_add_nothing_and_no_features_no_hint() -> None:
    task = DistillTask(build(SMALL).eval(), HINTED, feature_width=WIDTH)
    targets = _targets()
    assert targets.teacher_features is not None
    whole = task(_images(), targets)["hint"]
    targets.teacher_features[:2] = float("nan")
    half = task(_images(), targets)["hint"]
    assert 0 < half < whole
    assert "hint" not in DistillTask(build(SMALL), HINTED).losses


def _pool(faces: int, seed: int) -> FacePool:
    rng = np.random.default_rng(seed)
    ages = rng.uniform(5, 90, faces).astype(np.float32)
    nan = np.full(faces, np.nan, dtype=np.float32)
    block: dict[str, Any] = {
        "sample_id": np.array([f"{seed}-{index}" for index in range(faces)], dtype=object),
        "image": (ages[:, None, None, None] * 2.5 + rng.normal(0, 4, (faces, 32, 32, 3)))
        .clip(0, 255)
        .astype(np.uint8),
        "age": ages,
        "teacher_features": rng.normal(size=(faces, WIDTH)).astype(np.float16),
    }
    return FacePool([block | {name: nan for name in ("age_std", "age_low", "age_high")}], 32)


TRAIN, VAL = _pool(16, 0), _pool(6, 1)
SPEC = TrainSpec(
    model=SMALL,
    optim=OptimSpec(epochs=3, batch_size=8),
    augment=AugmentSpec(strength=0.0),
    distill=HINTED,
)


def _trainer(out: Path) -> Trainer:
    torch.manual_seed(SPEC.seed)
    net: AgeNet = build(SPEC.model)
    task = DistillTask(net, SPEC.distill, feature_width=WIDTH)
    return Trainer(net, task, PoolSource(TRAIN, SPEC), VAL, SPEC, Location.of(out))


def test_a_killed_run_with_a_hint_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    whole = _trainer(tmp_path / "whole")
    curve: list[dict[str, float]] = []
    fitted = whole.fit(curve.append)

    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _trainer(tmp_path / "killed").fit(kill)
    resumed = _trainer(tmp_path / "killed")
    rest: list[dict[str, float]] = []
    end = resumed.fit(rest.append)
    assert rest[0]["train_hint"] == curve[2]["train_hint"]
    for name, tensor in fitted.weights.items():
        assert torch.equal(end.weights[name], tensor), name
    pairs = [task.own_state() for task in (whole._own, resumed._own)]
    assert set(pairs[0]) == {"projection.weight", "projection.bias"}
    for name, tensor in pairs[0].items():
        assert torch.equal(pairs[1][name], tensor), name
