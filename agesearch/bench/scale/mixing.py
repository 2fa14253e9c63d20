"""How well the faces of an epoch are mixed: persons within a few thousand faces, beside a perfect shuffle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agesearch.data.dataset.records import Split
from agesearch.data.dataset.shards import row_batches, shard_names
from agesearch.errors import InputError
from agesearch.specs import TrainSpec
from agesearch.storage import Location
from agesearch.training.faces.plan import EpochPlan

#: Faces within which persons are counted.
PIECE = 4096


@dataclass(frozen=True)
class Mixing:
    """Persons within a piece of ``faces`` faces of an epoch, on average and in the poorest piece; the average
    over pieces of a perfect ``shuffled`` order of all training faces; how far the average is of that; and
    which share of the faces has the place that it had in the epoch before (None: it is the first).
    """

    epoch: int
    faces: int
    persons: float
    poorest: int
    shuffled: float
    ratio: float
    same_place: float | None


def epoch_mixing(dataset: Location, spec: TrainSpec, epochs: int = 2, piece: int = PIECE) -> list[Mixing]:
    """How well the first ``epochs`` epochs of a training on a dataset are mixed.

    Reads who is shown, no pixels. A piece is at most as large as an epoch.
    """
    persons, sizes = _persons(dataset)
    plan = EpochPlan(sizes, spec)
    size = min(piece, plan.faces)
    draw = np.random.default_rng(spec.seed)
    shuffled = float(np.mean(_counts(persons[draw.permutation(len(persons))], size)))
    found = list[Mixing]()
    before: npt.NDArray[np.intp] | None = None
    for epoch in range(epochs):
        rows = np.concatenate([step.rows for step in plan.batches(epoch)])
        counts = _counts(persons[rows], size)
        mean = float(np.mean(counts))
        same = None if before is None else float(np.mean(rows == before))
        found.append(Mixing(epoch, size, mean, min(counts), shuffled, mean / shuffled, same))
        before = rows
    return found


def _counts(persons: npt.NDArray[np.intp], piece: int) -> list[int]:
    """Persons within each whole piece of an order."""
    starts = range(0, len(persons) - piece + 1, piece)
    return [len(np.unique(persons[start : start + piece])) for start in starts]


def _persons(dataset: Location) -> tuple[npt.NDArray[np.intp], list[int]]:
    """A number for who is on each training face, in the order of the shards, and the faces of each shard."""
    parts, sizes = list[pa.Array](), list[int]()
    for shard in shard_names(dataset):
        batches = list(row_batches(dataset, Split.TRAIN, ["subject_id"], shards=[shard]))
        parts += [batch.column(0) for batch in batches]
        sizes.append(sum(len(batch) for batch in batches))
    if not sum(sizes):
        raise InputError(f"'{dataset}' has no training faces.")
    numbers = pa.chunked_array(parts).dictionary_encode().combine_chunks().indices
    return np.asarray(numbers.to_numpy(zero_copy_only=False), np.intp), sizes
