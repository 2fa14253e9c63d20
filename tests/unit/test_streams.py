"""Faces that do not fit in memory: the very batches that they would have in memory, and no more read than
they need.
"""

from __future__ import annotations

import threading
from itertools import islice

import numpy as np
import pytest
from held_faces import HeldShards, faces

from agesearch.errors import InputError
from agesearch.specs import AugmentSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.training.faces import plan as planning
from agesearch.training.faces.batches import label_prior
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.faces.shards import ShardPool
from agesearch.training.faces.stream import StreamSource

BLOCKS = [*(faces(first, 12, size=40) for first in range(0, 120, 12)), faces(120, 1, size=40)]
SIZES = [len(block["age"]) for block in BLOCKS]
for _block in BLOCKS:
    own = np.arange(2)[:, None] + _block["age"][:, None, None] + np.ones(101)
    _block["teacher_pmf"] = (own / own.sum(axis=-1, keepdims=True)).astype(np.float16)


def spec(share: float = 1.0, views: int = 0, batch_size: int = 8) -> TrainSpec:
    return TrainSpec(
        model=ModelSpec(arch="lcnet_035", input_size=32),
        optim=OptimSpec(batch_size=batch_size),
        augment=AugmentSpec(strength=0.5, policy="greco", views=views),
        share_of_faces=share,
    )


def blocks(views: int) -> list[dict[str, np.ndarray]]:
    """The faces, with a teacher's answers where they are for as many views."""
    return BLOCKS if views else [{k: v for k, v in block.items() if k != "teacher_pmf"} for block in BLOCKS]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WINDOW_FACES", 30)
    monkeypatch.setattr(planning, "LEAST_SHARDS", 2)


@pytest.mark.parametrize(("share", "views"), [(1.0, 0), (0.4, 0), (1.0, 2)])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("start", [0, 5])
def test_a_stream_has_the_batches_of_faces_in_memory(
    share: float, views: int, world: int, start: int
) -> None:
    wanted, held = spec(share, views), blocks(views)
    pool = FacePool(held, 32)
    for rank in range(world):
        stream = StreamSource(HeldShards(held), wanted, rank=rank, world=world, threads=rank)
        memory = PoolSource(pool, wanted, sizes=SIZES, rank=rank, world=world)
        assert (stream.faces, stream.steps) == (memory.faces, memory.steps)
        pairs = list(zip(stream.epoch(1, start), memory.epoch(1, start), strict=True))
        assert len(pairs) == stream.steps - start
        for one, other in pairs:
            assert (one.sample_id, one.of_faces) == (other.sample_id, other.of_faces)
            for name in ("images", "age", "label_pmf", "weight", "teacher_pmf"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert (one.teacher_pmf is None) == (views == 0)
        first, second = (label_prior(source.labels(), 2.0) for source in (stream, memory))
        np.testing.assert_array_equal(first, second)


def test_a_share_and_a_late_start_read_only_the_shards_they_need() -> None:
    shards = HeldShards(blocks(0))
    source = StreamSource(shards, spec(0.25))
    assert len(list(source.epoch(0))) == source.steps
    kept = [shard for shard, reads in enumerate(shards.reads) if reads]
    assert len(kept) <= 4
    list(source.epoch(1))
    list(source.labels())
    assert [shard for shard, reads in enumerate(shards.reads) if reads] == kept
    late = HeldShards(blocks(0))
    source = StreamSource(late, spec())
    assert len(list(source.epoch(0, source.steps - 2))) == 2
    assert sum(late.reads) <= 4


def test_no_more_than_two_windows_are_read_before_they_are_needed() -> None:
    shards = HeldShards(blocks(0))
    epoch = StreamSource(shards, spec(batch_size=2)).epoch(0)
    list(islice(epoch, 2))
    epoch.close()
    assert 2 <= sum(shards.reads) <= 6


def test_a_left_epoch_ends_its_threads_and_an_error_reaches_the_training() -> None:
    broken = HeldShards(blocks(0))
    broken.size = 41
    with pytest.raises(InputError, match="has 40 px, but the dataset says 41"):
        list(StreamSource(broken, spec()).epoch(0))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("agesearch")]


def test_answers_for_other_views_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 view\(s\) .* asks for 3"):
        StreamSource(HeldShards(BLOCKS), spec(views=3))


def test_validation_faces_of_shards_are_those_in_memory() -> None:
    stored, held = ShardPool(HeldShards(BLOCKS), 32), FacePool(BLOCKS, 32)
    rows = np.array([0, 5, 11, 12, 60, 120])
    assert len(stored) == len(held) == 121
    np.testing.assert_array_equal(stored.images(rows), held.images(rows))
    for name in ("age", "age_low"):
        np.testing.assert_array_equal(stored.columns[name], held.columns[name])
