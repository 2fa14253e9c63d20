"""Faces that do not fit in memory: mixed whatever their order, each worker's share its own, equal steps."""

from __future__ import annotations

import numpy as np
import pytest
from held_faces import HeldBlocks, faces

from agesearch.errors import InputError
from agesearch.specs import AugmentSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.training import streams
from agesearch.training.batches import FacePool, PoolSource
from agesearch.training.streams import StreamSource, mixed_windows

BLOCKS = [faces(first, 12) for first in range(0, 240, 12)]
#: Five stretches of four blocks.
STRETCHES = [0, 48, 96, 144, 192, 240]
BYTES = sum(block["image"].nbytes for block in BLOCKS)


def spec(share: float = 1.0, seed: int = 0, batch_size: int = 8) -> TrainSpec:
    return TrainSpec(
        model=ModelSpec(arch="lcnet_035", input_size=32),
        optim=OptimSpec(batch_size=batch_size),
        augment=AugmentSpec(strength=0.0),
        share_of_faces=share,
        seed=seed,
    )


def ages(source: StreamSource | PoolSource, epoch: int) -> list[list[float]]:
    return [batch.age.tolist() for batch in source.epoch(epoch)]


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of five of the twenty blocks."""
    monkeypatch.setattr(streams, "WINDOW_BYTES", BYTES // 4)
    monkeypatch.setattr(streams, "LEAST_BLOCKS", 1)


def test_an_epoch_shows_every_face_once_with_its_own_pixels(small_windows: None) -> None:
    batches = list(StreamSource(HeldBlocks(BLOCKS), spec()).epoch(0))
    seen = np.concatenate([batch.age for batch in batches])
    assert sorted(seen.tolist()) == list(range(240))
    for batch in batches:
        np.testing.assert_array_equal(batch.images[:, 3, 5, 1], batch.age)


def test_the_batches_of_a_sorted_source_are_of_all_ages(small_windows: None) -> None:
    """Twenty blocks sorted by age, four windows: batches in the order of the source would span 8 years."""
    batches = ages(StreamSource(HeldBlocks(BLOCKS), spec(batch_size=60)), 0)
    assert len(batches) == 4
    for batch in batches:
        assert np.histogram(batch, bins=STRETCHES)[0].tolist() == [12] * 5
    spans = [max(batch) - min(batch) for batch in ages(StreamSource(HeldBlocks(BLOCKS), spec()), 0)]
    assert min(spans) > 60


def test_the_order_is_another_one_each_epoch_and_seed_and_the_same_again(small_windows: None) -> None:
    orders = [
        ages(StreamSource(HeldBlocks(BLOCKS), spec(seed=seed)), epoch)
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]
    # the very windows differ, not only the order in them
    assert len({frozenset(age // 12 for batch in order[:7] for age in batch) for order in orders[1:]}) > 1


@pytest.mark.parametrize("share", [1.0, 0.9, 0.37, 0.05])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_workers_have_equal_steps_and_their_own_share_of_the_faces(
    small_windows: None, share: float, world: int
) -> None:
    """With uneven blocks, too: a worker with one batch more would wait for the others for ever."""
    blocks = HeldBlocks([*BLOCKS, faces(240, 1), faces(241, 30)])
    for epoch in (0, 1):
        sources = [StreamSource(blocks, spec(share), rank=rank, world=world) for rank in range(world)]
        shown = [ages(source, epoch) for source in sources]
        for source, mine in zip(sources, shown, strict=True):
            assert [len(batch) for batch in mine] == [len(batch) for batch in shown[0]]
            assert len(mine) == source.steps
            assert min(map(len, mine)) >= 2
        seen = [age for mine in shown for batch in mine for age in batch]
        kept = round(271 * share)
        assert len(seen) == len(set(seen)) == kept // world * world
        assert set(seen) <= set(StreamSource(blocks, spec(share)).labels()["age"].tolist())


def test_each_worker_of_a_sorted_source_sees_all_ages(small_windows: None) -> None:
    for rank in range(4):
        (mine,) = ages(StreamSource(HeldBlocks(BLOCKS), spec(batch_size=240), rank=rank, world=4), 0)
        assert np.histogram(mine, bins=STRETCHES)[0].tolist() == [12] * 5


def test_a_stream_has_the_shares_and_steps_of_a_pool() -> None:
    for share, world in ((1.0, 1), (0.3, 2), (0.7, 3)):
        stream = StreamSource(HeldBlocks(BLOCKS), spec(share), rank=world - 1, world=world)
        pool = PoolSource(FacePool(BLOCKS, 32), spec(share), rank=world - 1, world=world)
        assert (stream.faces, stream.steps) == (pool.faces, pool.steps)
        assert list(map(len, ages(stream, 0))) == list(map(len, ages(pool, 0)))
        assert len(stream.labels()["age"]) == len(pool.labels()["age"])


def test_the_faces_of_a_window_are_in_another_order_each_epoch() -> None:
    source = StreamSource(HeldBlocks([faces(0, 40)]), spec())
    assert ages(source, 0) == ages(source, 0) != ages(source, 1)
    assert ages(source, 0) != ages(StreamSource(HeldBlocks([faces(0, 40)]), spec(seed=1)), 0)


def test_what_does_not_divide_by_the_workers_is_left_out_by_turns() -> None:
    sources = [StreamSource(HeldBlocks([faces(0, 9)]), spec(), rank=rank, world=2) for rank in range(2)]
    left = set[float]()
    for epoch in range(8):
        left |= set(range(9)) - {age for one in sources for batch in ages(one, epoch) for age in batch}
    assert len(left) > 2


def test_a_window_has_blocks_of_many_places_however_large_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "WINDOW_BYTES", 1)
    batches = ages(StreamSource(HeldBlocks(BLOCKS), spec()), 0)
    assert min(max(batch) - min(batch) for batch in batches) > 100


def test_one_block_is_shared_by_all_workers() -> None:
    shown = [ages(StreamSource(HeldBlocks([faces(0, 40)]), spec(), rank=r, world=3), 0) for r in range(3)]
    seen = [age for mine in shown for batch in mine for age in batch]
    assert len(seen) == len(set(seen)) == 39
    with pytest.raises(InputError, match="at least 2 faces a worker, but 3 faces have 2"):
        StreamSource(HeldBlocks([faces(0, 3)]), spec(), world=2)


@pytest.mark.parametrize(("count", "fitting", "world"), [(20, 5, 1), (21, 5, 2), (7, 100, 4), (3, 1, 8)])
def test_each_window_has_a_block_of_every_stretch(count: int, fitting: int, world: int) -> None:
    windows = mixed_windows(count, fitting, world, np.random.default_rng(0))
    assert sorted(block for window in windows for block in window) == list(range(count))
    assert max(map(len, windows)) <= fitting
    assert len(windows) >= min(world, count)
    for window in windows:
        stretches = sorted(block // len(windows) for block in window)
        assert stretches in (list(range(len(stretches))), list(range(len(stretches) + 1))[:-1])
