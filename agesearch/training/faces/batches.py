"""Batches of faces: resized, augmented and labelled, all by seed. Needs neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agesearch.ages import BINS, FloatArray, gaussian_pmf, group_pmf
from agesearch.data.images.augment import Augmenter
from agesearch.errors import InputError
from agesearch.models.prepare import Images, resized
from agesearch.specs import AugmentSpec, TrainSpec

#: Columns that may be as heavy as the pixels: taken from where they lie, row by row. They have a teacher's
#: answers for every view of a face ``[n, V, ...]``, or one answer ``[n, ...]``.
ANSWERS = ("teacher_pmf", "teacher_features")

Columns = Mapping[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Batch:
    """B faces: ``images`` uint8 [B, S, S, 3] RGB; ``age`` [B] in years (NaN: no exact age); PMFs [B, 101].

    Rows of ``label_pmf`` are zero where a face has no label; ``teacher_pmf`` is None without a teacher,
    ``teacher_features`` [B, F] without an order teacher; ``weight`` [B] is 1 but in a mixture. ``of_faces``
    is how many faces all workers together have in this step.
    """

    sample_id: Sequence[str]
    images: Images
    age: FloatArray
    label_pmf: FloatArray
    weight: FloatArray
    teacher_pmf: FloatArray | None
    teacher_features: FloatArray | None = None
    of_faces: int = 0


class Faces(Protocol):
    """Faces by their row: ``columns`` of labels ``[N]``, their ``ids``, and images of the network's size."""

    @property
    def columns(self) -> Columns: ...

    @property
    def ids(self) -> npt.NDArray[Any]: ...

    def __len__(self) -> int: ...

    def images(self, rows: Rows) -> Images:
        """``uint8 [B, S, S, 3]`` of these rows."""
        ...


class BatchSource(Protocol):
    """Where a worker's batches come from: an epoch has ``faces`` of all ``world`` workers in ``steps``
    batches, and the same ones as ``plan.EpochPlan`` has.
    """

    faces: int
    steps: int
    rank: int
    world: int

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``index`` (from 0) from step ``start`` on, the same ones every time.

        No face of a step before is decoded.
        """
        ...


def changed(
    images: Images | Sequence[Images],
    ids: Sequence[Any] | npt.NDArray[Any],
    spec: TrainSpec,
    augment: Augmenter,
    epoch: int,
) -> Images:
    """Augmented faces ``uint8 [B, S, S, 3]`` as the network takes them.

    ``images`` are resized faces; where the spec has fixed views, they are the stored crops, which are changed
    and then resized, exactly as they were for the teacher.
    """
    views = spec.augment.fixed_views
    drawn = augment.each(images, epoch % views if views else epoch, [str(sample_id) for sample_id in ids])
    return resized(drawn, spec.model.input_size) if views else np.asarray(drawn)


def make_batch(
    images: Images, columns: Columns, spec: TrainSpec, epoch: int, of_faces: int | None = None
) -> Batch:
    """One batch of faces as the network takes them, with label PMFs of ``spec.distill.label_sigma`` years and
    a teacher's answers for the epoch's view; ``of_faces`` of all workers (None: these are all).
    """
    ids = [str(sample_id) for sample_id in columns["sample_id"]]
    answers = {name: columns[name] for name in ANSWERS if name in columns}
    for values in answers.values():
        if values.ndim == 3:
            refuse_other_views(spec.augment, values.shape[1])
    teacher, features = (of_view(answers[n], epoch, 2) if n in answers else None for n in ANSWERS)
    return Batch(
        sample_id=ids,
        images=images,
        age=columns["age"].astype(np.float32),
        label_pmf=label_pmf(columns, spec.distill.label_sigma),
        weight=_weights(columns, len(ids)),
        teacher_pmf=None if teacher is None else _normalised(teacher),
        teacher_features=None if features is None else features.astype(np.float32),
        of_faces=len(ids) if of_faces is None else of_faces,
    )


def refuse_other_views(spec: AugmentSpec, views: int) -> None:
    """An ``InputError`` where a teacher answered for other views than a student is to be trained on."""
    wanted = max(1, spec.fixed_views)
    if views != wanted:
        raise InputError(
            f"The teacher's targets are for {views} view(s) of each face, but augment.views asks for "
            f"{wanted}: compute them for the same augmentation ('agesearch targets --views N')."
        )


def label_pmf(columns: Columns, sigma: float) -> FloatArray:
    """Label distributions [B, 101]: a Gaussian at the age, as wide as sigma and the label's own spread
    together; an even mass over an age group; zero where neither is known.
    """
    age, low, high = columns["age"], columns["age_low"], columns["age_high"]
    spread = np.nan_to_num(columns["age_std"].astype(np.float64))
    pmf = np.zeros((len(age), BINS), dtype=np.float32)
    exact = np.isfinite(age)
    pmf[exact] = gaussian_pmf(age[exact], np.sqrt(sigma**2 + spread[exact] ** 2)) if exact.any() else 0
    group = ~exact & np.isfinite(low) & np.isfinite(high)
    if group.any():
        pmf[group] = group_pmf(low[group], high[group])
    return pmf


def label_prior(labels: Iterable[Columns], sigma: float) -> FloatArray | None:
    """The mean label distribution [101] of all labelled faces, whose label columns come in parts; None where
    no face has a label.
    """
    masses = np.zeros(BINS)
    for columns in labels:
        masses += label_pmf(columns, sigma).sum(axis=0, dtype=np.float64)
    total = masses.sum()
    return (masses / total).astype(np.float32) if total > 0 else None


def _weights(columns: Columns, faces: int) -> FloatArray:
    if "weight" not in columns:
        return np.ones(faces, dtype=np.float32)
    return np.nan_to_num(columns["weight"].astype(np.float32), nan=1.0)


def of_view(values: npt.NDArray[Any], epoch: int, single: int) -> npt.NDArray[Any]:
    """The answers for an epoch's view; ``single`` is the number of axes where there is one view only."""
    if values.ndim == single:
        return values
    answers: npt.NDArray[Any] = values[..., epoch % values.shape[-2], :]
    return answers


def _normalised(pmf: npt.NDArray[Any]) -> FloatArray:
    wide = pmf.astype(np.float32)  # stored as float16: its sum is one to 1e-3 only
    normalised: FloatArray = wide / wide.sum(axis=-1, keepdims=True)
    return normalised
