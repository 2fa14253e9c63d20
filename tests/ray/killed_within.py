"""A training as one worker of several has it, in a process of its own that can be killed within an epoch.

    python killed_within.py FOLDER RANK WORLD STEP

Trains in FOLDER/killed and kills itself before STEP of the second epoch. A STEP below 0 goes on with that,
and then trains in FOLDER/whole what is not disturbed.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import distributed as dist

from agesearch.distill.task import DistillTask
from agesearch.models.zoo import build
from agesearch.specs import TrainSpec
from agesearch.storage import Location
from agesearch.training.curve import read_curve
from agesearch.training.faces.batches import Batch
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.loop import Fitted, Trainer, use_threads

STEPS = 6
SPEC = TrainSpec.model_validate(
    {
        "model": {"arch": "lcnet_035", "input_size": 32, "dropout": 0.5},
        "optim": {"epochs": 3, "batch_size": 8},
        "compute": {"checkpoint_minutes": 1e-9},
    }
)


def faces(count: int, seed: int) -> FacePool:
    rng = np.random.default_rng(seed)
    nan = np.full(count, np.nan, dtype=np.float32)
    block = {
        "sample_id": np.array([f"{seed}-{index}" for index in range(count)], dtype=object),
        "image": rng.integers(0, 255, (count, 32, 32, 3)).astype(np.uint8),
        "age": rng.uniform(5, 90, count).astype(np.float32),
    }
    return FacePool([block | {name: nan for name in ("age_std", "age_low", "age_high")}], 32)


def trainer(out: Location, rank: int, world: int) -> Trainer:
    use_threads(1)
    torch.manual_seed(SPEC.seed)
    net = build(SPEC.model)
    task = DistillTask(net, SPEC.distill)
    torch.manual_seed(SPEC.seed + rank)  # each worker's own dropout
    source = PoolSource(faces(8 * STEPS - 3, 0), SPEC, rank=rank, world=world)
    return Trainer(net, task, source, faces(9, 1), SPEC, out)


def killed(whole: PoolSource, step: int) -> PoolSource:
    """The same batches, but the process dies before a step of the second epoch."""
    epoch = whole.epoch

    def cut(index: int, start: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(epoch(index, start), start=start):
            if (index, number) == (1, step):
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    whole.epoch = cut  # type: ignore[method-assign]
    return whole


def digest(fitted: Fitted) -> str:
    content = hashlib.sha256()
    for name, tensor in sorted(fitted.weights.items()):
        content.update(name.encode() + tensor.numpy().tobytes())
    return content.hexdigest()


def main(folder: str, rank: int, world: int, step: int) -> None:
    if world > 1:
        group = f"file://{folder}/group{step}"
        dist.init_process_group("gloo", init_method=group, rank=rank, world_size=world)
    for name in ("killed", "whole"):
        out = Location.of(folder) / name
        training = trainer(out, rank, world)
        print("from", training.state.epochs, training.state.step, flush=True)
        if step >= 0:
            killed(training.source, step)  # type: ignore[arg-type]
        fitted = training.fit(lambda _: None)
        losses = [(row["train_loss"], row["val_mae_years"]) for row in read_curve(out)]
        print(digest(fitted), losses, fitted.metrics, flush=True)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
