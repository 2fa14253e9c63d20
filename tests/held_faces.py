"""Faces held in memory in place of a dataset's shards and of Ray's object store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ray.data.extensions import ArrowTensorArray

from agesearch.data.dataset.arrays import NUMBERS
from agesearch.data.reading.loading import SplitFaces
from agesearch.data.reading.stored_faces import LABELS, EncodedFaces

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


def encoded(image: npt.NDArray[Any]) -> bytes:
    """As PNG, which gives the same pixels back."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


class HeldShards:
    """Blocks of decoded faces as the shards that a ``StreamSource`` reads; ``reads`` counts them."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self.size = blocks[0]["image"].shape[1]
        self.sizes = [len(block["sample_id"]) for block in blocks]
        self.reads = [0] * len(blocks)

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def widths(self) -> Mapping[str, tuple[int, int]]:
        shapes = {
            name: self._blocks[0][name].shape for name in self._blocks[0] if name.startswith("teacher_")
        }
        return {name: (shape[1] if len(shape) == 3 else 1, shape[-1]) for name, shape in shapes.items()}

    def read(self, shard: int, rows: npt.NDArray[np.intp], view: int | None = None) -> EncodedFaces:
        self.reads[shard] += 1
        block = {name: column[rows] for name, column in self._blocks[shard].items()}
        images = pa.array([encoded(image) for image in block.pop("image")], pa.binary())
        return EncodedFaces(
            images, {name: column[:, view] if column.ndim == 3 else column for name, column in block.items()}
        )

    def numbers(self, shard: int) -> Block:
        return {name: self._blocks[shard][name] for name in LABELS}

    def ids(self, shard: int) -> npt.NDArray[Any]:
        return self._blocks[shard]["sample_id"]

    def ages(self) -> npt.NDArray[np.float32]:
        ages: npt.NDArray[np.float32] = np.concatenate([block["age"] for block in self._blocks])
        return ages[np.isfinite(ages)]


@dataclass
class _HeldDataset:
    """As much of a materialised Ray Dataset as a training asks for."""

    blocks: Sequence[Block]

    def iter_batches(self, **_: object) -> Iterator[pa.Table]:
        for block in self.blocks:
            yield pa.table(
                {k: ArrowTensorArray.from_numpy(v) if v.ndim > 1 else pa.array(v) for k, v in block.items()}
            )


def held_split(blocks: Sequence[Block], *, decoded: bool = True) -> SplitFaces:
    """What ``load_split`` gives for these faces, in memory or to be streamed."""
    shards: Any = HeldShards(blocks)
    return SplitFaces(shards, _HeldDataset(blocks) if decoded else None)
