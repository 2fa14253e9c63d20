"""What a network says of faces before its last layer: features of several views of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from agesearch.ages import AGES, FloatArray
from agesearch.data.dataset.records import Part
from agesearch.machine import cores
from agesearch.measure.intervals import Codes, Values
from agesearch.measure.predictions import Indices, Labels, crop_batches
from agesearch.measure.robustness.corruptions import corrupt
from agesearch.models.prepare import prepare
from agesearch.models.zoo import AgeNet
from agesearch.storage import Location
from agesearch.training.refit.ridge import Sums

Crops = Sequence[npt.NDArray[np.uint8]]

_AT_ONCE = 32


class View(NamedTuple):
    """A view of a face: how much of the face's weight it has, and what is done to the stored crop."""

    weight: float
    shown: Callable[[npt.NDArray[np.uint8], str], npt.NDArray[np.uint8]]


def _corrupted(name: str, severity: int) -> Callable[[npt.NDArray[np.uint8], str], npt.NDArray[np.uint8]]:
    return lambda crop, sample_id: corrupt(crop, name, severity, f"probe {sample_id}")


#: The face, its mirror image, and little of noise and blur: without them noise costs twice as much, and with
#: thrice as much of them a clean face costs more (reports/champion).
VIEWS = (
    View(12 / 27, lambda crop, _: crop),
    View(12 / 27, lambda crop, _: np.ascontiguousarray(crop[:, ::-1])),
    View(1 / 27, _corrupted("gaussian_noise", 1)),
    View(1 / 27, _corrupted("gaussian_noise", 2)),
    View(1 / 27, _corrupted("defocus_blur", 2)),
)


@dataclass(frozen=True)
class SeenFaces:
    """N faces as a network sees them in each of P poolings: features of the faces as they are ``[N, P, F]``,
    and for each pooling the sums over all views of each fold, with their age.
    """

    features: FloatArray
    sums: tuple[tuple[Sums, ...], ...]


def see(
    net: AgeNet,
    dataset: Location,
    part: Part,
    labels: Labels,
    folds: Codes,
    on_batch: Callable[[int], None] = lambda _: None,
) -> SeenFaces:
    """Show a network all views of the faces of ``labels``, whose ``folds`` ``[N]`` are numbered from 0.

    Crops are read batch by batch; features of the first view alone are kept for each face.
    """
    kept: FloatArray | None = None
    sums: dict[tuple[int, int], Sums] = {}
    done = 0
    for at, crops in few_at_once(dataset, part, labels):
        age = labels.age[at].astype(np.float64)
        for number, view in enumerate(VIEWS):
            shown = [
                view.shown(crop, str(labels.sample_id[int(row)])) for row, crop in zip(at, crops, strict=True)
            ]
            found = features_of(net, shown)
            if number == 0:
                if kept is None:
                    kept = np.empty((len(labels), *found.shape[1:]), dtype=np.float32)
                kept[at] = found
            for pooling in range(found.shape[1]):
                rows = np.column_stack([found[:, pooling].astype(np.float64), age])
                for fold in np.unique(folds[at]).tolist():
                    own, key = Sums.of(rows[folds[at] == fold], view.weight), (pooling, fold)
                    sums[key] = sums[key] + own if key in sums else own
        done += len(at)
        on_batch(done)
    assert kept is not None
    of_poolings = [
        tuple(sums[key] for key in sorted(sums) if key[0] == pooling) for pooling in range(kept.shape[1])
    ]
    return SeenFaces(kept, tuple(of_poolings))


def few_at_once(dataset: Location, part: Part, labels: Labels) -> Iterator[tuple[Indices, Crops]]:
    """The crops of the faces, and their indices, few enough that progress is told often."""
    for at, crops in crop_batches(dataset, labels, part=part, threads=cores()):
        for start in range(0, len(at), _AT_ONCE):
            yield at[start : start + _AT_ONCE], crops[start : start + _AT_ONCE]


def features_of(net: AgeNet, crops: Crops) -> FloatArray:
    """RGB crops of any size -> features ``float32 [N, P, F]`` by each of P poolings."""
    with torch.inference_mode():
        found: FloatArray = net.poolings(torch.from_numpy(prepare(crops, net.input_size))).float().numpy()
    return found


def old_answers(net: AgeNet, features: FloatArray) -> tuple[Values, Values]:
    """What a network's own head says of features ``[N, F]``: ages ``[N]``, and how these move with the
    features ``[F]``, the mean gradient over the faces. Of a head that is a line, that is its weight.
    """
    given = torch.from_numpy(features).requires_grad_(True)
    ages = torch.softmax(net.head.logits(net.head(given)), dim=-1) @ torch.from_numpy(AGES)
    ages.sum().backward()  # type: ignore[no-untyped-call]
    assert given.grad is not None
    return ages.detach().double().numpy(), given.grad.double().mean(0).numpy()
