"""Each of several workers trains on its own share of the faces, all of them together on every one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from held_faces import faces, held_split
from torch import distributed as dist

from agesearch.data.reading.loading import SplitFaces, known_ages
from agesearch.errors import AgeSearchError
from agesearch.specs import CropSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training import ddp, run, teach
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.loop import Place, Trainer

SPEC = TrainSpec.model_validate(
    {"model": {"arch": "lcnet_035", "input_size": 32}, "optim": {"batch_size": 8, "epochs": 1}}
)
BLOCKS = [faces(0, 20), faces(20, 20)]
TRAIN, VAL = held_split(BLOCKS), held_split([faces(40, 4)])


def trainer(out: Path, place: Place, train: SplitFaces = TRAIN) -> Trainer:
    return run.make_trainer(SPEC, train, VAL, Location.of(out), place=place)


def shown(source: Any) -> set[str]:
    return {name for batch in source.epoch(0) for name in batch.sample_id}


@pytest.mark.parametrize("decoded", [True, False], ids=["in memory", "streamed"])
def test_two_workers_share_the_faces(tmp_path: Path, decoded: bool) -> None:
    train = held_split(BLOCKS, decoded=decoded)
    first, second = (shown(trainer(tmp_path, Place(rank, 2), train).source) for rank in range(2))
    assert (len(first), len(second)) == (20, 20)
    assert not first & second


def test_the_ages_of_held_and_of_stored_faces_are_the_same() -> None:
    for decoded in (True, False):
        assert known_ages(held_split(BLOCKS, decoded=decoded)).tolist() == list(range(40))


class _AskedError(Exception):
    """Ends a worker once it has said what place it trains in."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    places: list[Place] = []

    def remember(*_: object, place: Place, **__: object) -> None:
        places.append(place)
        raise _AskedError

    for module in (run, teach):
        monkeypatch.setattr(module, "make_trainer", remember)
    return places


def _teaching(tmp_path: Path, place: Place) -> None:
    training = teach.Teaching(SPEC, TRAIN, VAL, Location.of(tmp_path), CropSpec(size=32), {}, 1, 0.0)
    teach.train_worker(training, place)


def _student(tmp_path: Path, place: Place) -> None:
    run.train_student(SPEC, TRAIN, VAL, Location.of(tmp_path), CropSpec(size=32), place=place)


@pytest.mark.parametrize("work", [_teaching, _student])
def test_a_worker_trains_in_its_own_place(
    work: Callable[[Path, Place], None], asked: list[Place], tmp_path: Path
) -> None:
    with pytest.raises(_AskedError):
        work(tmp_path, Place(1, 2))
    assert asked == [Place(1, 2)]


def test_a_worker_is_placed_by_its_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.train
    import ray.train.torch

    class Context:
        def get_world_size(self) -> int:
            return 4

        def get_world_rank(self) -> int:
            return 3

    monkeypatch.setattr(ray.train, "get_context", Context)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    assert ddp.worker_place() == Place(3, 4, torch.device("cpu"))


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_another_workers_share_is_refused(tmp_path: Path, process_group: None) -> None:
    """Where a rank is lost on its way, every worker would train on the same faces, and none would say so."""
    assert trainer(tmp_path, Place(0, 1)).source.world == 1
    with pytest.raises(AgeSearchError, match="Worker 0 of 1 was given the faces of worker 1 of 2"):
        trainer(tmp_path, Place(1, 2))


def test_the_mean_over_workers_is_the_mean_over_the_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine faces, five of one worker and four of the other: DDP averages the gradients of the two."""
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: None)
    spec = SPEC.with_values({"optim.batch_size": 16})
    blocks = [faces(0, 9)]

    def gradient(rank: int, world: int) -> torch.Tensor:
        train = held_split(blocks)
        one = run.make_trainer(spec, train, VAL, Location.of(tmp_path), place=Place(rank, world))
        one.net.eval()  # else each would normalise its own faces
        monkeypatch.setattr(one.optimiser, "step", lambda: None)
        (batch,) = one.source.epoch(0)
        assert len(batch.sample_id) == (9 if world == 1 else 5 - rank)
        one._step(batch)
        return torch.cat([p.grad.flatten() for p in one.net.parameters() if p.grad is not None])

    alone = gradient(0, 1)
    assert float(alone.abs().max()) > 1e-3
    torch.testing.assert_close((gradient(0, 2) + gradient(1, 2)) / 2, alone, rtol=1e-3, atol=1e-5)


def test_all_workers_together_have_every_face() -> None:
    pool = FacePool(BLOCKS, 32)
    shares = [shown(PoolSource(pool, SPEC, rank=rank, world=4)) for rank in range(4)]
    assert sum(map(len, shares)) == len(set().union(*shares)) == 40
