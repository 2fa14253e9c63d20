"""The learning curve on disk, and following it."""

import json
import time
from pathlib import Path

import pytest

from agesearch.progress import Progress
from agesearch.storage import Location
from agesearch.training.curve import (
    CURVE,
    append_row,
    epoch_errors,
    keep_epochs,
    read_curve,
    read_within,
    trained_seconds,
)
from agesearch.training.standing import EpochProgress, Standing, followed, standing


def _row(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "val_mae_years": 10.0 - epoch, "epoch_s": 2.0}


def test_a_torn_line_is_left_out_and_later_epochs_can_be_forgotten(tmp_path: Path) -> None:
    folder = Location.of(tmp_path)
    assert read_curve(folder) == []
    for epoch in (1, 2, 3):
        append_row(folder, _row(epoch))
    with open(tmp_path / CURVE, "a") as handle:
        handle.write('{"epoch": 4, "val_')
    assert [row["epoch"] for row in read_curve(folder)] == [1, 2, 3]
    keep_epochs(folder, 2)
    append_row(folder, _row(3))
    assert [row["epoch"] for row in read_curve(folder)] == [1, 2, 3]
    keep_epochs(folder, 0)
    assert read_curve(folder) == []


def test_a_listener_hears_of_epochs_with_the_best_and_the_time_left(tmp_path: Path) -> None:
    folder = Location.of(tmp_path)
    seen: list[Progress] = []
    with followed(folder, 3, seen.append):
        append_row(folder, _row(1))
        append_row(folder, {**_row(2), "val_mae_years": 9.5})
        deadline = time.monotonic() + 10
        while not seen[-1].done and time.monotonic() < deadline:
            time.sleep(0.02)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, 2, 3)
    assert seen[-1].note == "val MAE 9.50 years, best 9.00, 2 s left"


def test_a_listener_hears_where_an_epoch_stands(tmp_path: Path) -> None:
    """An epoch may take an hour: how many faces, how fast, and how long all epochs will take."""
    folder = Location.of(tmp_path)
    append_row(folder, _row(1))
    seen: list[Progress] = []
    with followed(folder, 3, seen.append):
        progress = EpochProgress(folder, every_s=0.0)
        progress.begin(1, 1000)
        for faces in (64, 128):
            progress.now(faces, 2.5)
        deadline = time.monotonic() + 10
        while "epoch 2" not in seen[-1].note and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "val MAE 9.00 years, best 9.00, epoch 2: 128 of 1,000 faces, " in seen[-2].note
    assert seen[-2].note.endswith("faces/s, loss 2.5, 4 s left")
    assert [path.name for path in tmp_path.iterdir()] == [CURVE]  # what stands for the moment goes


def test_an_epoch_is_written_down_now_and_then_only(tmp_path: Path) -> None:
    progress = EpochProgress(Location.of(tmp_path), every_s=3600.0)
    for faces in range(1, 100):
        progress.now(faces, 1.0)
    assert not progress.is_due
    assert list(tmp_path.iterdir()) == []


def _within(epoch: int, faces: int) -> dict[str, float]:
    return Standing(epoch, faces, 1000, 50.0, 3.0, seconds=faces / 50).row()


def test_rows_within_an_epoch_are_no_epochs(tmp_path: Path) -> None:
    """Whoever reads the curve by its reader sees whole epochs, as without them."""
    folder = Location.of(tmp_path)
    for row in (_within(1, 300), _row(1), _within(2, 300), _within(2, 600)):
        append_row(folder, row)
    assert read_curve(folder) == [_row(1)]
    assert epoch_errors(folder) == {1: 9.0}
    assert trained_seconds(folder) == 2.0 + 12.0
    assert standing(folder) == Standing.of(_within(2, 600))
    assert [row["faces_so_far"] for row in read_within(folder)] == [300, 300, 600]
    assert not {"epoch", "epoch_s", "train_loss"} & set(_within(2, 600))


def test_what_was_trained_behind_the_checkpoint_is_forgotten(tmp_path: Path) -> None:
    folder = Location.of(tmp_path)
    rows = [_within(1, 300), _row(1), _within(2, 300), _within(2, 600), _row(2), _within(3, 300)]
    for row in rows:
        append_row(folder, row)
    assert keep_epochs(folder, 1, [_row(1)], faces=300) == [_row(1)]
    assert [json.loads(line) for line in (tmp_path / CURVE).read_text().splitlines()] == rows[:3]
    keep_epochs(folder, 1)
    assert [json.loads(line) for line in (tmp_path / CURVE).read_text().splitlines()] == rows[:2]


def test_a_long_epoch_leaves_a_short_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten hours in steps of a second."""
    now = [0.0]
    monkeypatch.setattr("agesearch.training.standing.time.monotonic", lambda: now[0])
    folder = Location.of(tmp_path)
    progress = EpochProgress(folder, every_s=1e9)
    progress.begin(0, 36_000)
    for second in range(1, 36_001):
        now[0] = float(second)
        if progress.is_due:
            progress.now(second, 1.0)
    rows = read_within(folder)
    assert 200 < len(rows) < 400
    assert [row["so_far_s"] for row in rows[:3]] == [10, 20, 30]
    assert rows[-1]["faces_per_s"] == 1.0
    assert rows[-1]["so_far_s"] > 35_000
