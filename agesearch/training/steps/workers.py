"""What the workers of one training share through torch's process group; alone, a worker has it already."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch import distributed as dist

from agesearch.ages import FloatArray


def is_first_worker() -> bool:
    """Whether this process writes the files: the only one, or the first of several."""
    return rank() == 0


def rank() -> int:
    """The number of this worker, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many workers there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def summed(values: Tensor) -> Tensor:
    """The sum of what all workers have."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def gathered(values: FloatArray) -> FloatArray:
    """The values of all workers one after the other, by rank."""
    return np.concatenate(of_all_workers(values))


def of_all_workers(value: Any) -> list[Any]:
    """What each worker has, by rank."""
    if not dist.is_initialized():
        return [value]
    parts: list[Any] = [value] * world()
    dist.all_gather_object(parts, value)
    return parts


def share_buffers(net: nn.Module) -> None:
    """Give all workers the first one's buffers, which are those that are saved: each has normalised its own
    batches since DDP last did so, and would be validated with statistics that are in no file.
    """
    if dist.is_initialized():
        for buffer in net.buffers():
            dist.broadcast(buffer, src=0)
