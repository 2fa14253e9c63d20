"""Faces held in memory in place of Ray's object store: blocks for a stream, and a dataset for a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ray.data.extensions import ArrowTensorArray

from agesearch.data.dataset.arrays import NUMBERS

Block = dict[str, npt.NDArray[Any]]


def faces(first: int, count: int, *, size: int = 32) -> Block:
    """Faces ``first``, ``first + 1``...: each one's age in years is its number, and its brightness."""
    ages = np.arange(first, first + count, dtype=np.float32)
    unknown = np.full(count, np.nan, dtype=np.float32)
    return {
        "sample_id": np.array([f"face-{age:05.0f}" for age in ages]),
        "image": np.tile(ages.astype(np.uint8)[:, None, None, None], (1, size, size, 3)),
        **dict.fromkeys(NUMBERS, unknown),
        "age": ages,
    }


class HeldBlocks:
    """Blocks for a ``StreamSource``."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self.sizes = [len(block["sample_id"]) for block in blocks]
        self.bytes = sum(block["image"].nbytes for block in blocks)

    def read(self, index: int) -> list[Block]:
        return [self._blocks[index]]

    def ask(self, indices: Sequence[int]) -> None:
        pass


@dataclass
class HeldDataset:
    """As much of a materialised Ray Dataset as a training asks for."""

    blocks: Sequence[Block]

    def size_bytes(self) -> int:
        return sum(block["image"].nbytes for block in self.blocks)

    def schema(self) -> SimpleNamespace:
        return SimpleNamespace(names=list(self.blocks[0]), types=[None] * len(self.blocks[0]))

    def iter_batches(self, **_: object) -> Iterator[pa.Table]:
        for block in self.blocks:
            yield pa.table(
                {k: ArrowTensorArray.from_numpy(v) if v.ndim > 1 else pa.array(v) for k, v in block.items()}
            )
