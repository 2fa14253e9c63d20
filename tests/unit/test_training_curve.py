"""The learning curve on disk, and following it."""

import time
from pathlib import Path

from agesearch.progress import Progress
from agesearch.storage import Location
from agesearch.training.curve import CURVE, EpochProgress, append_row, followed, keep_epochs, read_curve


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
        tell = EpochProgress(folder, every_s=0.0)
        for faces in (64, 128):
            tell(1, faces, 1000)
        deadline = time.monotonic() + 10
        while "epoch 2" not in seen[-1].note and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "val MAE 9.00 years, best 9.00, epoch 2: 128 of 1,000 faces, " in seen[-2].note
    assert seen[-2].note.endswith("faces/s, 4 s left")
    assert [path.name for path in tmp_path.iterdir()] == [CURVE]  # what stands for the moment goes


def test_an_epoch_is_written_down_now_and_then_only(tmp_path: Path) -> None:
    tell = EpochProgress(Location.of(tmp_path), every_s=3600.0)
    for faces in range(1, 100):
        tell(0, faces, 100)
    assert len(list(tmp_path.iterdir())) == 1
    assert '"faces": 2' in next(tmp_path.iterdir()).read_text()
