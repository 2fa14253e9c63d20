"""Faces that do not fit in memory: the very batches that they would have in memory."""

from __future__ import annotations

import numpy as np
import pytest
from held_faces import HeldBlocks, faces

from agesearch.specs import AugmentSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.training.faces import plan as planning
from agesearch.training.faces.batches import label_prior
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.faces.stream import StreamSource

BLOCKS = [*(faces(first, 12) for first in range(0, 240, 12)), faces(240, 1), faces(241, 30)]
SIZES = [len(block["age"]) for block in BLOCKS]


def spec(share: float, views: int) -> TrainSpec:
    return TrainSpec(
        model=ModelSpec(arch="lcnet_035", input_size=32),
        optim=OptimSpec(batch_size=8),
        augment=AugmentSpec(strength=0.5, policy="greco", views=views),
        share_of_faces=share,
    )


@pytest.mark.parametrize(("share", "views"), [(1.0, 0), (0.4, 0), (1.0, 2)])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("start", [0, 5])
def test_a_stream_has_the_batches_of_faces_in_memory(
    share: float, views: int, world: int, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "WINDOW_FACES", 60)
    wanted, pool = spec(share, views), FacePool(BLOCKS, 32)
    for rank in range(world):
        stream = StreamSource(HeldBlocks(BLOCKS), wanted, rank=rank, world=world)
        held = PoolSource(pool, wanted, sizes=SIZES, rank=rank, world=world)
        assert (stream.faces, stream.steps) == (held.faces, held.steps)
        pairs = list(zip(stream.epoch(1, start), held.epoch(1, start), strict=True))
        assert len(pairs) == stream.steps - start
        for one, other in pairs:
            assert (one.sample_id, one.of_faces) == (other.sample_id, other.of_faces)
            np.testing.assert_array_equal(one.images, other.images)
            np.testing.assert_array_equal(one.label_pmf, other.label_pmf)
        first, second = (label_prior(source.labels(), 2.0) for source in (stream, held))
        np.testing.assert_array_equal(first, second)
