"""The epoch loop on a toy task: learning, the best epoch, resuming to the same end, divergence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from held_faces import HeldShards, faces

from agesearch.distill.task import DistillTask
from agesearch.errors import InputError
from agesearch.models.zoo import build
from agesearch.specs import AugmentSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.checkpoint import FILE, epochs_saved
from agesearch.training.curve import read_curve
from agesearch.training.faces.batches import Batch, Faces
from agesearch.training.faces.passes import FaceEpochs
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.faces.shards import ShardPool
from agesearch.training.loop import Fitted, Trainer, TrainingDiverged, use_threads
from agesearch.training.optim import MAX_GRADIENT_NORM
from agesearch.training.standing import standing
from agesearch.training.stopping import (
    TrainingStopped,
    request_stop,
    withdraw_stop,
)


def _faces(count: int, seed: int) -> FacePool:
    """Faces whose brightness is their age."""
    rng = np.random.default_rng(seed)
    ages = rng.uniform(5, 90, count).astype(np.float32)
    nan = np.full(count, np.nan, dtype=np.float32)
    images = (ages[:, None, None, None] * 2.5 + rng.normal(0, 4, (count, 32, 32, 3))).clip(0, 255)
    block: dict[str, Any] = {
        "sample_id": np.array([f"{seed}-{index}" for index in range(count)], dtype=object),
        "image": images.astype(np.uint8),
        "age": ages,
    }
    return FacePool([block | {name: nan for name in ("age_std", "age_low", "age_high")}], 32)


TRAIN, VAL = _faces(48, 0), _faces(16, 1)

#: Enough steps, and long enough ones, that the error falls with any seed.
LEARNS: dict[str, Any] = {"epochs": 6, "batch_size": 8, "learning_rate": 1e-2}


def _spec(dropout: float = 0.0, **optim: Any) -> TrainSpec:
    values = {"epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "warmup_epochs": 0.5, **optim}
    return TrainSpec(
        model=ModelSpec(arch="lcnet_035", input_size=32, dropout=dropout),
        optim=OptimSpec(**values),
        augment=AugmentSpec(strength=0.5),
    )


def _trainer(spec: TrainSpec, out: Path, val: Faces = VAL) -> Trainer:
    use_threads(1)
    torch.manual_seed(spec.seed)
    net = build(spec.model)
    task = DistillTask(net, spec.distill)
    whole, count = PoolSource(TRAIN, spec), spec.optim.epoch_faces
    source = whole if count is None else FaceEpochs(whole, count)
    return Trainer(net, task, source, val, spec, Location.of(out))


def test_it_learns_keeps_the_best_epoch_and_writes_the_curve(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    trainer = _trainer(_spec(**LEARNS), tmp_path)
    before = trainer.validate()["val_mae_years"]
    fitted = trainer.fit(rows.append)
    scores = [row["val_mae_years"] for row in rows]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert fitted.metrics["val_mae_years"] == min(scores) < before
    assert fitted.metrics["epoch"] == scores.index(min(scores)) + 1
    assert read_curve(Location.of(tmp_path)) == rows
    trainer.net.load_state_dict(fitted.weights)
    assert trainer.validate()["val_mae_years"] == pytest.approx(min(scores))


class _KilledError(Exception):
    pass


def _cut(trainer: Trainer, epoch: int, step: int) -> None:
    """Kill a training before a step of an epoch (both from 0)."""
    source, whole = trainer.source, trainer.source.epoch

    def cut(index: int, start: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(whole(index, start), start=start):
            if (index, number) == (epoch, step):
                raise _KilledError
            yield batch

    source.epoch = cut  # type: ignore[method-assign]
    with pytest.raises(_KilledError):
        trainer.fit(lambda _: None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fitted, list[dict[str, float]]]:
    """A whole run with dropout, and its curve."""
    out = tmp_path_factory.mktemp("whole")
    return _trainer(_spec(0.5, epochs=2), out).fit(lambda _: None), read_curve(Location.of(out))


@pytest.mark.parametrize(("step", "minutes", "kept"), [(2, 10.0, 1.0), (1, 1e-9, 1.33), (2, 1e-9, 1.66)])
def test_a_killed_run_ends_as_an_undisturbed_one(
    tmp_path: Path,
    undisturbed: tuple[Fitted, list[dict[str, float]]],
    step: int,
    minutes: float,
    kept: float,
) -> None:
    """Its dropout, too, goes on where it was and not where it began; what is lost are the steps since the
    last checkpoint, and the curve says so.
    """
    spec = _spec(0.5, epochs=2).with_values({"compute.checkpoint_minutes": minutes})
    _cut(_trainer(spec, tmp_path), 1, step)
    assert epochs_saved(Location.of(tmp_path)) == kept
    resumed = _trainer(spec, tmp_path)
    rest: list[dict[str, float]] = []
    fitted = resumed.fit(rest.append)
    assert [row["epoch"] for row in rest] == [2]
    whole, curve = undisturbed
    assert fitted.metrics == whole.metrics
    assert fitted.answers is not None
    assert np.array_equal(fitted.answers, whole.answers), "what the best epoch answered survives, too"
    for name, tensor in whole.weights.items():
        assert torch.equal(fitted.weights[name], tensor), name
    rows = read_curve(Location.of(tmp_path))
    assert [{**row, "epoch_s": 0} for row in rows] == [{**row, "epoch_s": 0} for row in curve]


def test_the_last_epoch_is_kept_where_the_spec_says_so(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    fitted = _trainer(_spec(**LEARNS, keep="last"), tmp_path).fit(rows.append)
    assert fitted.metrics["epoch"] == LEARNS["epochs"]
    assert fitted.metrics["val_mae_years"] == rows[-1]["val_mae_years"]


def test_averaged_weights_are_validated_and_kept_and_survive_a_kill(tmp_path: Path) -> None:
    spec = _spec(averaging=0.9)
    whole = _trainer(spec, tmp_path / "whole").fit(lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        _trainer(spec, tmp_path / "cut").fit(_interrupt_after(2))
    again = _trainer(spec, tmp_path / "cut").fit(lambda _: None)
    last = _trainer(_spec(), tmp_path / "last").fit(lambda _: None)
    torch.testing.assert_close(again.weights, whole.weights)
    assert again.metrics == whole.metrics != last.metrics


def _interrupt_after(epochs: int) -> Any:
    def report(row: dict[str, float]) -> None:
        if row["epoch"] == epochs:
            raise KeyboardInterrupt

    return report


def test_a_training_that_is_asked_to_stop_does_so_within_its_epoch(
    tmp_path: Path, undisturbed: tuple[Fitted, list[dict[str, float]]]
) -> None:
    out, spec = Location.of(tmp_path), _spec(0.5, epochs=2)
    first = _trainer(spec, tmp_path)
    request_stop(out)
    with pytest.raises(TrainingStopped, match="in epoch 1; its checkpoint is kept"):
        first.fit(lambda _: None)
    stood = standing(out)
    assert stood is not None
    assert (stood.epoch, stood.faces, stood.total) == (1, 16, 48)
    withdraw_stop(out)
    assert _trainer(spec, tmp_path).fit(lambda _: None).metrics == undisturbed[0].metrics


def test_a_kill_within_an_epoch_of_faces_changes_nothing(tmp_path: Path) -> None:
    """Two epochs of two batches: the second goes on where the first pass of three was left."""
    spec = _spec(epochs=2).with_values(
        {"optim.epoch_faces": 32, "val_faces": 8, "compute.checkpoint_minutes": 1e-9}
    )

    whole = _trainer(spec, tmp_path / "whole").fit(lambda _: None)
    _cut(_trainer(spec, tmp_path / "killed"), 1, 1)
    assert epochs_saved(Location.of(tmp_path / "killed")) == 1.5
    resumed = _trainer(spec, tmp_path / "killed").fit(lambda _: None)
    assert resumed.metrics == whole.metrics
    for name, tensor in whole.weights.items():
        assert torch.equal(resumed.weights[name], tensor), name
    assert {"val_mae_years_low", "val_mae_years_high"} < resumed.metrics.keys()


def test_another_spec_or_a_damaged_checkpoint_starts_anew(tmp_path: Path) -> None:
    _trainer(_spec(epochs=2), tmp_path).fit(lambda _: None)
    assert _trainer(_spec(epochs=2), tmp_path).state.epochs == 1
    assert _trainer(_spec(epochs=3), tmp_path).state.epochs == 0
    (tmp_path / FILE).write_bytes(b"torn")
    assert _trainer(_spec(epochs=2), tmp_path).state.epochs == 0


def test_a_loss_that_is_no_number_is_told_with_the_rate(tmp_path: Path) -> None:
    trainer = _trainer(_spec(learning_rate=10.0), tmp_path)
    with torch.no_grad():
        trainer.net.head.linear.bias.fill_(float("nan"))  # type: ignore[union-attr,operator]
    with pytest.raises(TrainingDiverged, match="not a number in epoch 1: lower the learning rate"):
        trainer.fit(lambda _: None)
    assert not (tmp_path / FILE).exists()


def test_a_step_is_no_longer_than_the_clipped_gradient(tmp_path: Path) -> None:
    """One step of plain SGD on a loss a million times too steep: as far as a gradient of the norm allowed."""
    spec = _spec(epochs=1, batch_size=48, optimiser="sgd", momentum=0.0, learning_rate=0.01, weight_decay=0.0)
    spec = spec.with_values({"optim.warmup_epochs": 0.0, "distill.label_weight": 1e6})
    trainer = _trainer(spec, tmp_path)
    before = [parameter.detach().clone() for parameter in trainer.net.parameters()]
    trainer.train_epoch(0)
    after = [parameter.detach() for parameter in trainer.net.parameters()]
    moved = torch.stack([torch.norm(new - old) for new, old in zip(after, before, strict=True)]).norm()
    assert float(moved) == pytest.approx(0.01 * MAX_GRADIENT_NORM, rel=1e-3)


def test_what_is_validated_is_what_the_first_worker_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker's batches leave other statistics in its normalisation: all are validated with one's."""
    group = f"file://{tmp_path}/group"
    torch.distributed.init_process_group("gloo", init_method=group, rank=0, world_size=1)
    try:
        trainer = _trainer(_spec(epochs=1), tmp_path / "out")
        shared: list[int] = []
        monkeypatch.setattr(
            torch.distributed, "broadcast", lambda tensor, src: shared.append(tensor.data_ptr())
        )
        validate = trainer.validate
        seen: list[list[int]] = []
        monkeypatch.setattr(trainer, "validate", lambda: (seen.append(shared.copy()), validate())[1])
        trainer.fit(lambda _: None)
    finally:
        torch.distributed.destroy_process_group()
    buffers = [buffer.data_ptr() for buffer in trainer.net.buffers()]
    assert seen[0][-len(buffers) :] == buffers  # before them, what workers agree on between steps


def test_how_far_the_answers_differ_is_that_of_the_best_epoch(tmp_path: Path) -> None:
    trainer = _trainer(_spec(**LEARNS), tmp_path)
    fitted = trainer.fit(lambda _: None)
    spread, most = trainer.variety(fitted)
    assert spread > 0
    assert most == pytest.approx(1 / 16)  # sixteen ages, all different
    constant = {name: torch.zeros_like(tensor) for name, tensor in fitted.weights.items()}
    assert trainer.variety(Fitted(constant, {}))[0] == pytest.approx(0.0, abs=1e-4)


def test_validation_needs_a_face_with_an_age(tmp_path: Path) -> None:
    blind = _faces(4, 2)
    blind.columns["age"] = np.full(4, np.nan, dtype=np.float32)
    with pytest.raises(InputError, match="No validation face has an age"):
        _trainer(_spec(), tmp_path, blind).validate()


@pytest.mark.parametrize("count", [None, 8])
def test_validation_faces_that_stay_in_their_shards_give_the_same_scores(
    tmp_path: Path, count: int | None
) -> None:
    blocks = [faces(10, 12), faces(40, 9)]
    spec = _spec().with_values({"val_faces": count})
    held = _trainer(spec, tmp_path / "held", FacePool(blocks, 32)).validate()
    stored = _trainer(spec, tmp_path / "stored", ShardPool(HeldShards(blocks), 32)).validate()
    assert stored == held
