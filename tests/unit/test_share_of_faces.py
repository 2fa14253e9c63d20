"""Training on a share of the faces: as many as said, the same ones every epoch, and chosen by seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from agesearch.data.dataset.arrays import NUMBERS
from agesearch.specs import AugmentSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.training.batches import Columns, FacePool, PoolSource, Source, StreamSource

FACES = 40


def block(first: int, count: int) -> dict[str, np.ndarray]:
    numbers = {name: np.full(count, 30.0) for name in NUMBERS}
    ids = np.array([f"face-{first + index:03d}" for index in range(count)])
    return {"sample_id": ids, "image": np.zeros((count, 32, 32, 3), np.uint8), **numbers}


def spec(share: float, seed: int = 0) -> TrainSpec:
    return TrainSpec(
        model=ModelSpec(arch="lcnet_035", input_size=32),
        optim=OptimSpec(batch_size=4),
        augment=AugmentSpec(strength=0.0),
        share_of_faces=share,
        seed=seed,
    )


def pooled(wanted: TrainSpec) -> Source:
    return PoolSource(FacePool([block(0, FACES)], 32), wanted)


def streamed(wanted: TrainSpec) -> Source:
    def read(_: int) -> Iterator[Columns]:
        return (block(first, 4) for first in range(0, FACES, 4))

    return StreamSource(read, FACES, 4, wanted)


def names(source: Source, epoch: int) -> list[str]:
    return [name for batch in source.epoch(epoch) for name in batch.sample_id]


def test_a_pool_trains_on_so_many_faces_and_always_the_same() -> None:
    source = pooled(spec(0.25))
    first, second = names(source, 0), names(source, 1)
    assert len(first) == source.faces == 10
    assert set(first) == set(second)
    assert first != second
    assert set(names(pooled(spec(0.25, seed=1)), 0)) != set(first)


def test_a_stream_trains_on_about_so_many_faces_in_whole_batches() -> None:
    source = streamed(spec(0.5))
    batches = [len(batch.sample_id) for batch in source.epoch(0)]
    assert 12 <= sum(batches) <= 28
    assert set(batches[:-1]) == {4}
    assert set(names(source, 0)) == set(names(source, 1))
    assert set(names(streamed(spec(0.5, seed=1)), 0)) != set(names(source, 0))


@pytest.mark.parametrize("make", [pooled, streamed])
def test_a_whole_share_is_every_face(make: object) -> None:
    assert callable(make)
    assert len(names(make(spec(1.0)), 0)) == FACES


def test_the_smallest_share_is_two_faces() -> None:
    assert pooled(spec(1e-6)).faces == 2
