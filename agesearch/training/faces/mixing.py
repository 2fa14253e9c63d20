"""Faces mixed in pairs, pixels and targets alike (mixup, Zhang 2018). Needs neither Ray nor torch.

A few hundred faces have tens of thousands of pairs. What a face is mixed with, and how much of it, is a pure
function of (seed, worker, epoch, step).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from agesearch.ages import FloatArray
from agesearch.specs import TrainSpec
from agesearch.training.faces.batches import Batch, BatchSource

#: Draws the mixtures apart from the order of the faces, which has the same seed.
_MIXING_DRAW = 2**32 - 2


class MixedFaces:
    """The batches of ``source``, of which the share ``augment.mixup`` is mixed."""

    def __init__(self, source: BatchSource, spec: TrainSpec) -> None:
        self._source = source
        self._seed, self._augment = spec.seed, spec.augment
        self.faces, self.steps = source.faces, source.steps
        self.rank, self.world = source.rank, source.world

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``index`` from step ``start`` on."""
        for step, batch in enumerate(self._source.epoch(index, start), start=start):
            draw = np.random.default_rng([self._seed, _MIXING_DRAW, self.rank, index, step])
            yield self._mixed(batch, draw) if draw.random() < self._augment.mixup else batch

    def _mixed(self, batch: Batch, draw: np.random.Generator) -> Batch:
        faces, alpha = len(batch.sample_id), self._augment.mixup_alpha
        share = draw.beta(alpha, alpha, faces)
        return mixed(batch, draw.permutation(faces), np.maximum(share, 1.0 - share).astype(np.float32))


def mixed(batch: Batch, partner: npt.NDArray[np.intp], share: FloatArray) -> Batch:
    """Face i of a batch becomes ``share[i]`` of itself and the rest of face ``partner[i]``.

    Ages and distributions are mixed as the pixels are; where one of two faces has no age or no distribution,
    their mixture has none. Features of an order teacher are not linear in the pixels: a mixture has none
    (NaN), unless face and partner are one.
    """

    def between(values: FloatArray) -> FloatArray:
        own = share.reshape(-1, *[1] * (values.ndim - 1))
        together: FloatArray = own * values + (1.0 - own) * values[partner]
        return together

    labelled = batch.label_pmf.sum(axis=-1) > 0
    both = (labelled & labelled[partner]).astype(np.float32)
    features = batch.teacher_features
    if features is not None:
        alone = partner == np.arange(len(partner))
        features = np.where(alone[:, None], features, np.float32(np.nan))
    return replace(
        batch,
        images=np.rint(between(batch.images.astype(np.float32))).astype(np.uint8),
        age=between(batch.age),
        label_pmf=between(batch.label_pmf) * both[:, None],
        weight=between(batch.weight),
        teacher_pmf=None if batch.teacher_pmf is None else between(batch.teacher_pmf),
        teacher_features=features,
    )
