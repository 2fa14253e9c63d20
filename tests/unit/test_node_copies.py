"""Shards of an object store on a node: fetched once, whole, within limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agesearch.data.dataset.records import SHARDS
from agesearch.data.reading import node_copies
from agesearch.data.reading.node_copies import node_copy
from agesearch.errors import InputError
from agesearch.storage import Location


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """A folder that passes for an object store, and a node without copies."""
    dataset = Location.of(tmp_path / "store")
    for number in range(3):
        (dataset / SHARDS / f"{number}.parquet").write_bytes(bytes([number]) * 100)
    monkeypatch.setattr(Location, "is_local", property(lambda place: "store" not in place.path))
    monkeypatch.setattr(node_copies, "_root", lambda: tmp_path / "node")
    monkeypatch.setattr(node_copies, "FREE_BYTES", 0)
    return dataset


def _fetch(store: Location, number: int) -> Location:
    return node_copy(store, f"{number}.parquet", "key")


def test_a_shard_is_fetched_once(store: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    near = _fetch(store, 1)
    assert near.is_local
    assert (near / SHARDS / "1.parquet").read_bytes() == bytes([1]) * 100
    monkeypatch.setattr(node_copies.pafs, "copy_files", None)
    assert _fetch(store, 1) == near
    assert [child.name for child in (near / SHARDS).children()] == ["1.parquet"]
    assert node_copy(near, "1.parquet", "key") == near  # what is local is not copied


def test_copies_stay_within_their_limit_and_the_oldest_go(
    store: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_copies, "MOST_BYTES", 250)
    near = [_fetch(store, number) for number in range(2)][0]
    assert _fetch(store, 2) == store  # both copies may just be opened
    os.utime((near / SHARDS / "0.parquet").path, (1, 1))
    assert _fetch(store, 2) == near
    assert [child.name for child in (near / SHARDS).children()] == ["1.parquet", "2.parquet"]
    monkeypatch.setattr(node_copies, "MOST_BYTES", 99)
    assert node_copy(store, "0.parquet", "other") == store


def test_a_copy_that_is_not_whole_does_not_stay(store: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_: str, out: str, **__: object) -> None:
        Path(out).write_bytes(b"half")

    monkeypatch.setattr(node_copies.pafs, "copy_files", half)
    assert _fetch(store, 0) == store
    assert list(node_copies._root().rglob("*.parquet*")) == []
    with pytest.raises(InputError, match="its shard '9.parquet' is missing"):
        _fetch(store, 9)
