"""Every head and every loss is reached from YAML alone, and trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agesearch.ages import gaussian_pmf
from agesearch.distill.losses import LOSSES
from agesearch.distill.task import DistillTask
from agesearch.errors import InputError
from agesearch.models.heads.table import HEADS
from agesearch.models.zoo import build
from agesearch.specs import DistillSpec, TrainSpec, load_spec
from agesearch.storage import Location
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.loop import Trainer

WIDTH = 5
OFF = {f"{name}_weight": 0.0 for name in LOSSES}
TOWARDS = {
    "softmax": "kd",
    "groups": "cdf",
    "coral": "dkd",
    "corn": "dist",
    "gaussian": "hint",
    "clipped": "scalar",
}


def _pool() -> FacePool:
    rng = np.random.default_rng(0)
    ages = np.array([5, 12, 30, 45, 60, np.nan, 80, 90], dtype=np.float32)
    nan = np.full(8, np.nan, dtype=np.float32)
    low, high = nan.copy(), nan.copy()
    low[5], high[5] = 60, 70
    brightness = np.where(np.isnan(ages), 65, ages)
    block: dict[str, Any] = {
        "sample_id": np.array(list("abcdefgh"), dtype=object),
        "image": np.broadcast_to(brightness[:, None, None, None] * 2.5, (8, 32, 32, 3)).astype(np.uint8),
        "age": ages,
        "age_std": nan,
        "age_low": low,
        "age_high": high,
        "teacher_pmf": gaussian_pmf(brightness + 3, 4.0).astype(np.float16),
        "teacher_features": rng.normal(size=(8, WIDTH)).astype(np.float16),
    }
    return FacePool([block], 32)


POOL = _pool()


def _yaml(tmp_path: Path, head: str, precision: str, weights: dict[str, float], more: str = "") -> TrainSpec:
    lines = "".join(f"  {name}: {value}\n" for name, value in {**OFF, **weights}.items())
    file = tmp_path / "train.yaml"
    file.write_text(
        f"model: {{arch: lcnet_035, input_size: 32, head: {head}, pixels: vggface2}}\n"
        "optim: {epochs: 1, batch_size: 4}\naugment: {strength: 0.0}\n"
        f"compute: {{precision: {precision}}}\ndistill:\n{lines}{more}"
    )
    return load_spec(TrainSpec, str(file))


def _train(spec: TrainSpec, out: Path) -> dict[str, float]:
    torch.manual_seed(0)
    net = build(spec.model)
    task = DistillTask(net, spec.distill, has_teacher=True, feature_width=WIDTH)
    rows: list[dict[str, float]] = []
    Trainer(net, task, PoolSource(POOL, spec), POOL, spec, Location.of(out)).fit(rows.append)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in task.parameters())
    return rows[0]


@pytest.mark.parametrize(
    ("head", "precision"), [("softmax", "float32"), *((head, "bfloat16") for head in sorted(HEADS))]
)
def test_every_head_trains_from_yaml(head: str, precision: str, tmp_path: Path) -> None:
    loss = TOWARDS[head]
    row = _train(_yaml(tmp_path, head, precision, {"label_weight": 1.0, f"{loss}_weight": 0.5}), tmp_path)
    assert {"train_label", f"train_{loss}"} == {name for name in row if name.startswith("train_")} - {
        "train_loss"
    }
    assert row["train_loss"] == pytest.approx(row["train_label"] + 0.5 * row[f"train_{loss}"], rel=1e-4)


def test_every_loss_trains_from_yaml_and_has_its_own_term(tmp_path: Path) -> None:
    more = "  teacher_bound: off\n  standardise: true\n  hint_loss: cosine\n  hint_stage: stride8\n"
    row = _train(_yaml(tmp_path, "softmax", "float32", {name: 0.1 for name in OFF}, more), tmp_path)
    assert {f"train_{name}" for name in LOSSES} <= set(row)
    total = sum(0.1 * row[f"train_{name}"] for name in LOSSES)
    assert row["train_loss"] == pytest.approx(total, rel=1e-4)


def test_every_loss_has_a_weight_in_the_spec_and_no_weight_is_without_a_loss() -> None:
    weights = {name for name in DistillSpec.model_fields if name.endswith("_weight")}
    assert weights == set(OFF)
    for name, loss in LOSSES.items():
        assert loss.weight(DistillSpec(**OFF | {f"{name}_weight": 0.7})) == 0.7


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  hint_loss: l1\n", "'distill.hint_loss' must be 'mse' or 'cosine'"),
        ("  teacher_bound: some\n", "'distill.teacher_bound' must be 'off', 'drop' or 'weight'"),
        ("  dkd_windows: 3\n", "'distill.dkd_windows' is not a known field"),
    ],
)
def test_an_unknown_name_in_yaml_lists_the_known_ones(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        _yaml(tmp_path, "softmax", "float32", {}, line)
