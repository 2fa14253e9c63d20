"""What a kill or a disk leaves of a checkpoint: the epoch before, or a new start, never a crash."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
import torch

from agesearch.errors import StorageFullError
from agesearch.storage import Location
from agesearch.training.checkpoint import (
    BEFORE,
    FILE,
    RunningMeans,
    TrainState,
    epochs_saved,
    load_state,
    random_states,
    restore_random,
    save_state,
)
from agesearch.training.curve import CURVE, append_row, keep_epochs, read_curve

SPEC = "5" * 16


def state(epochs: int) -> TrainState:
    rows = [{"epoch": float(epoch), "val_mae_years": 9.0 - epoch} for epoch in range(1, epochs + 1)]
    return TrainState(SPEC, epochs, {"w": torch.full((64,), float(epochs))}, curve=rows)


def saved(folder: Path, *, epochs: int = 3) -> Location:
    place = Location.of(folder)
    for epoch in range(1, epochs + 1):
        save_state(place, state(epoch))
    return place


def tear(file: Path) -> None:
    """Leave the first half of a file, as a disk that lost power does."""
    os.truncate(file, file.stat().st_size // 2)


def test_a_damaged_checkpoint_costs_one_epoch_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = saved(tmp_path)
    whole = load_state(place, SPEC)
    assert whole is not None
    assert (whole.epochs, caplog.messages) == (3, [])
    tear(tmp_path / FILE)
    with caplog.at_level(logging.WARNING):
        found = load_state(place, SPEC)
    assert found is not None
    assert (found.epochs, found.student["w"][0]) == (2, 2.0)
    assert caplog.messages == ["its last checkpoint is damaged: going on after epoch 2"]


@pytest.mark.parametrize(
    "damage", [tear, lambda file: file.write_bytes(b""), lambda file: file.write_bytes(b"no")]
)
def test_with_both_damaged_a_training_starts_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    place = saved(tmp_path)
    for name in (FILE, BEFORE):
        damage(tmp_path / name)  # type: ignore[operator]
    assert load_state(place, SPEC) is None
    assert caplog.messages == ["its checkpoint is damaged: starting over"]


def test_a_kill_between_the_two_renames_leaves_the_epoch_before(tmp_path: Path) -> None:
    place = saved(tmp_path)
    (tmp_path / FILE).rename(tmp_path / BEFORE)
    found = load_state(place, SPEC)
    assert found is not None
    assert found.epochs == 3


def test_the_state_of_another_spec_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_state(saved(tmp_path), "6" * 16) is None
    assert caplog.messages == []


def test_a_full_disk_keeps_the_checkpoint_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = saved(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agesearch.training.checkpoint.os.replace", full)
    with pytest.raises(StorageFullError, match=r"state.pt' could not be written: No space left on device\.$"):
        save_state(place, state(4))
    found = load_state(place, SPEC)
    assert found is not None
    assert found.epochs == 3
    assert sorted(os.listdir(tmp_path / "checkpoint")) == ["before.pt", "state.pt"]


def test_the_generators_of_cpu_and_gpu_go_on_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = [torch.tensor([1, 2, 3], dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: gpu[-1])
    monkeypatch.setattr(torch.cuda, "set_rng_state", gpu.append)
    states = random_states()
    drawn = torch.rand(3)
    restore_random(states)
    assert torch.equal(torch.rand(3), drawn)
    assert len(gpu) == 2
    assert torch.equal(gpu[-1], gpu[0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    restore_random(states)  # on a machine without a GPU
    assert set(random_states()) == {"cpu"}


def test_the_generators_of_all_workers_are_kept_and_older_checkpoints_open(tmp_path: Path) -> None:
    place, states = Location.of(tmp_path), random_states()
    save_state(place, TrainState(SPEC, 2, random=[states, states]))
    found = load_state(place, SPEC)
    assert found is not None
    assert [set(worker) for worker in found.random] == [{"cpu"}] * 2
    for old, kept in ((states["cpu"], 1), (None, 0)):  # one tensor, before there were several
        torch.save({"spec_digest": SPEC, "epochs": 2, "random": old}, tmp_path / FILE)
        found = load_state(place, SPEC)
        assert found is not None
        assert len(found.random) == kept


def test_the_epochs_that_a_stopped_training_keeps_are_known(tmp_path: Path) -> None:
    assert epochs_saved(Location.of(tmp_path)) is None
    place = saved(tmp_path)
    assert epochs_saved(place) == 3
    tear(tmp_path / FILE)
    assert epochs_saved(place) == 2


def test_a_curve_is_made_whole_from_the_checkpoint(tmp_path: Path) -> None:
    place = saved(tmp_path)
    (tmp_path / CURVE).write_bytes(b'{"epoch": 1}\n\xff\xfe null\nnull\n7\n{"epoch": 4, "val_')
    assert read_curve(place) == [{"epoch": 1}]
    found = load_state(place, SPEC)
    assert found is not None
    keep_epochs(place, 2, found.curve)
    assert [row["epoch"] for row in read_curve(place)] == [1, 2]


def test_figures_that_are_no_numbers_are_null_in_the_curve(tmp_path: Path) -> None:
    append_row(Location.of(tmp_path), {"epoch": 1.0, "val_mae_years": float("nan"), "loss": float("inf")})
    assert json.loads((tmp_path / CURVE).read_text()) == {"epoch": 1.0, "loss": None, "val_mae_years": None}


def test_running_means_go_on_with_as_many_workers_or_with_others() -> None:
    kept = [vars(RunningMeans(4 + rank, 9, {"loss": torch.tensor(8.0 + rank)})) for rank in range(2)]
    assert RunningMeans.of([], 0, 1) is None
    assert RunningMeans.of(kept, 1, 2) == RunningMeans(5, 9, {"loss": torch.tensor(9.0)})
    alone = RunningMeans.of(kept, 0, 1)
    assert alone == RunningMeans(9, 9, {"loss": torch.tensor(17.0)})
    assert alone.loss == pytest.approx(17 / 9)
    third = RunningMeans.of(kept, 2, 3)
    assert third == RunningMeans(0, 9, {"loss": torch.tensor(0.0)})


def test_a_checkpoint_within_an_epoch_is_told_of_where_the_last_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = saved(tmp_path, epochs=1)
    within = state(1)
    within.within(1, 30, 120, 5.0)
    for _ in range(2):
        save_state(place, within)
    assert epochs_saved(place) == 1.25
    tear(tmp_path / FILE)
    found = load_state(place, SPEC)
    assert found is not None
    assert (found.epochs, found.step, found.seconds) == (1, 30, 5.0)
    assert caplog.messages == ["its last checkpoint is damaged: going on after epoch 1, step 30 of the next"]
