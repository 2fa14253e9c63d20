"""Where a row lies is a pure function of the set of faces: mixed, whatever order and parts they came in."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from agesearch.data.dataset import layout
from agesearch.data.dataset.layout import Partition, row_keys, shard_count, shard_numbers
from agesearch.errors import StorageFullError
from agesearch.storage import Location


def _faces(count: int) -> pa.Table:
    """Faces sorted by age and by person: 5 a person."""
    return pa.table(
        {
            "sample_id": [f"face{index:06d}" for index in range(count)],
            "age": np.arange(count) * 90 // max(1, count),
            "person": np.arange(count) // 5,
        }
    )


def _shards(parts: list[pa.Table], count: int, scratch: Path | None = None) -> dict[int, pa.Table]:
    rows = Partition(None if scratch is None else Location.of(scratch))
    for part in parts:
        rows.add(part)
    found = list(rows.shards(count))
    assert [number for number, _ in found] == sorted({number for number, _ in found})
    return dict(found)


@pytest.mark.parametrize(
    ("faces", "count"), [(0, 1), (1, 1), (2048, 1), (2049, 2), (4096, 2), (4097, 4), (3_300_000, 2048)]
)
def test_shards_are_a_power_of_two_of_at_most_2048_rows(faces: int, count: int) -> None:
    assert shard_count(faces) == count


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("faces", "count"), [(1, 1), (7, 4), (400, 1), (999, 16), (2000, 512)])
def test_any_order_in_any_portions_from_disk_or_memory_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faces: int, count: int, seed: int
) -> None:
    table = _faces(faces)
    wanted = _shards([table], count)
    assert sum(map(len, wanted.values())) == faces
    for number, rows in wanted.items():
        keys = row_keys(rows["sample_id"].to_pylist())
        assert (np.diff(keys.astype(float)) >= 0).all()
        assert set(shard_numbers(keys, count)) == {number}
    monkeypatch.setattr(layout, "_WAITING_BYTES", 2000)
    monkeypatch.setattr(layout, "_FILE_BITS", 2)
    draw = np.random.default_rng(seed)
    shuffled = table.take(draw.permutation(faces))
    cuts = np.sort(draw.integers(0, faces + 1, 5))
    parts = [shuffled.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, faces], strict=True)]
    assert _shards(parts, count, tmp_path) == wanted
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(layout._Spilled, "write", full)
    monkeypatch.setattr(layout, "_WAITING_BYTES", 10)
    with pytest.raises(StorageFullError, match="No space left"):
        Partition(Location.of(tmp_path)).add(_faces(3))


def test_equal_keys_are_told_apart_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "row_keys", lambda ids: np.zeros(len(ids), np.uint64))
    table = _faces(30)
    assert _shards([table.take(np.arange(29, -1, -1))], 4) == {0: table}


@pytest.mark.parametrize("column", ["age", "person"])
def test_a_run_of_rows_is_as_mixed_as_a_perfect_shuffle(column: str) -> None:
    faces, run = 40_960, 4096
    mixed = pa.concat_tables(_shards([_faces(faces)], 32).values())[column].to_numpy()
    shuffled = np.random.default_rng(0).permutation(_faces(faces)[column].to_numpy())
    for start in range(0, faces, run):
        found, fair = (len(np.unique(some[start : start + run])) for some in (mixed, shuffled))
        assert found == pytest.approx(fair, rel=0.05)
        assert mixed[start : start + run].mean() == pytest.approx(mixed.mean(), rel=0.05)
