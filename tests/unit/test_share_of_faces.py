"""Training on a share of the faces: as many as said, the same ones every epoch, and chosen by seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from held_faces import HeldBlocks

from agesearch.data.dataset.arrays import NUMBERS
from agesearch.specs import AugmentSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.training.faces.batches import BatchSource
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.faces.stream import StreamSource

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


def pooled(wanted: TrainSpec) -> BatchSource:
    return PoolSource(FacePool([block(0, FACES)], 32), wanted)


def streamed(wanted: TrainSpec) -> BatchSource:
    return StreamSource(HeldBlocks([block(first, 4) for first in range(0, FACES, 4)]), wanted)


def names(source: BatchSource, epoch: int) -> list[str]:
    return [name for batch in source.epoch(epoch) for name in batch.sample_id]


@pytest.mark.parametrize("make", [pooled, streamed])
def test_so_many_faces_are_trained_on_and_always_the_same(make: Callable[[TrainSpec], BatchSource]) -> None:
    source = make(spec(0.25))
    first, second = names(source, 0), names(source, 1)
    assert len(first) == source.faces == 10
    assert set(first) == set(second)
    assert first != second
    assert set(names(make(spec(0.25, seed=1)), 0)) != set(first)


@pytest.mark.parametrize("make", [pooled, streamed])
def test_a_whole_share_is_every_face(make: Callable[[TrainSpec], BatchSource]) -> None:
    assert len(names(make(spec(1.0)), 0)) == FACES


@pytest.mark.parametrize("make", [pooled, streamed])
def test_the_smallest_share_is_two_faces(make: Callable[[TrainSpec], BatchSource]) -> None:
    assert make(spec(1e-6)).faces == 2
