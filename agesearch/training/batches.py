"""Training batches: shuffled, resized, augmented and labelled, all by seed. Needs neither Ray nor torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agesearch.ages import BINS, FloatArray, gaussian_pmf, group_pmf
from agesearch.data.images.augment import Augmenter, augmenter_of
from agesearch.errors import InputError
from agesearch.models.prepare import Images, resized
from agesearch.specs import AugmentSpec, TrainSpec

#: Faces resized once, or their fixed views, are kept up to this many bytes; beyond, they are made anew.
KEPT_BYTES = 512 * 1024**2

#: Draws the faces that ``share_of_faces`` leaves apart from the epochs, whose numbers are smaller.
SHARE_DRAW = 2**32 - 1

#: Columns that may be as heavy as the pixels: taken from where they lie, row by row. They have a teacher's
#: answers for every view of a face ``[n, V, ...]``, or one answer ``[n, ...]``.
_ANSWERS = ("teacher_pmf", "teacher_features")

Columns = Mapping[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Batch:
    """B faces: ``images`` uint8 [B, S, S, 3] RGB; ``age`` [B] in years (NaN: no exact age); PMFs [B, 101].

    Rows of ``label_pmf`` are zero where a face has no label; ``teacher_pmf`` is None without a teacher,
    ``teacher_features`` [B, F] without an order teacher; ``weight`` [B] is 1 but in a mixture.
    """

    sample_id: Sequence[str]
    images: Images
    age: FloatArray
    label_pmf: FloatArray
    weight: FloatArray
    teacher_pmf: FloatArray | None
    teacher_features: FloatArray | None = None


class BatchSource(Protocol):
    """Where a worker's batches come from: ``faces`` of its own in ``steps`` batches an epoch.

    All ``world`` workers have equally many batches, or the one that has more would wait for the others for
    ever.
    """

    faces: int
    steps: int
    rank: int
    world: int

    def epoch(self, index: int) -> Iterator[Batch]:
        """The batches of epoch ``index`` (from 0), the same ones every time it is asked."""
        ...


class FacePool:
    """Faces in memory, as blocks of columns (``image`` uint8 [n, S, S, 3], ``sample_id``, ages, PMFs).

    The blocks' pixels are used where they lie; only their resized form is made, once.
    """

    def __init__(self, blocks: Sequence[Columns], input_size: int) -> None:
        if not blocks:
            raise InputError("There are no faces to train or validate on.")
        self._blocks = blocks
        self._size = input_size
        self._starts = np.cumsum([0, *(len(block["sample_id"]) for block in blocks)])
        names = [name for name in blocks[0] if name not in ("image", *_ANSWERS)]
        self.columns = {name: np.concatenate([block[name] for block in blocks]) for name in names}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def age(self) -> FloatArray:
        """Years [N], NaN where no exact age is known."""
        return self.columns["age"].astype(np.float32)

    @property
    def views(self) -> int:
        """For how many views of each face a teacher's answers are here; 0 without a teacher."""
        shapes = [self._blocks[0][name].shape for name in _ANSWERS if name in self._blocks[0]]
        return max((shape[1] if len(shape) == 3 else 1 for shape in shapes), default=0)

    @cached_property
    def _kept(self) -> Images | None:
        """All faces resized, where there is room for them."""
        if len(self) * self._size**2 * 3 > KEPT_BYTES:
            return None
        return np.concatenate([resized(block["image"], self._size) for block in self._blocks])

    def images(self, rows: Rows) -> Images:
        """Resized faces ``uint8 [B, S, S, 3]`` of these rows."""
        return resized(self.crops(rows), self._size) if self._kept is None else self._kept[rows]

    def crops(self, rows: Rows) -> list[Images]:
        """The stored crops of these rows, of the size they have."""
        return [self._blocks[block]["image"][row] for block, row in self._places(rows)]

    def picked(self, rows: Rows, epoch: int) -> dict[str, npt.NDArray[Any]]:
        """All columns of these rows but the pixels ``[B, ...]``, a teacher's answers for an epoch's view."""
        own = {name: column[rows] for name, column in self.columns.items()}
        return own | self.answers(rows, epoch)

    def answers(self, rows: Rows, epoch: int) -> dict[str, npt.NDArray[Any]]:
        """A teacher's answers for the view of an epoch: columns ``[B, ...]``, none without a teacher."""
        places = self._places(rows)
        return {
            name: np.stack([_of_view(self._blocks[block][name][row], epoch, 1) for block, row in places])
            for name in _ANSWERS
            if name in self._blocks[0]
        }

    def _places(self, rows: Rows) -> list[tuple[int, int]]:
        """The block of each row, and its place in it."""
        blocks = np.searchsorted(self._starts, rows, side="right") - 1
        return list(zip(blocks.tolist(), (rows - self._starts[blocks]).tolist(), strict=True))


class PoolSource:
    """Epochs over a ``FacePool``: a new permutation of all faces each, cut into batches of equal size.

    Of ``world`` workers, worker ``rank`` gets every ``world``-th face of the permutation, all equally many,
    in as many batches as one worker alone would make of all: ``batch_size`` counts a step's faces of all
    workers.
    Drawing 2,048 faces so takes 2 ms an epoch; Ray Data's shuffled iteration of the same takes 100 ms.
    """

    def __init__(self, pool: FacePool, spec: TrainSpec, *, rank: int = 0, world: int = 1) -> None:
        self._rows = kept_rows(len(pool), spec)
        self.faces, self.steps = shares(len(self._rows), spec, world)
        self._pool = pool
        self._spec = spec
        self.rank, self.world = rank, world
        if pool.views:
            refuse_other_views(spec.augment, pool.views)
        self._augment = augmenter_of(spec.augment, spec.seed)
        self._views = _KeptViews(pool, spec, self._augment)

    def epoch(self, index: int) -> Iterator[Batch]:
        """The batches of epoch ``index``."""
        order = np.random.default_rng([self._spec.seed, index]).permutation(self._rows)
        mine = order[self.rank :: self.world][: self.faces]
        for rows in np.array_split(mine, self.steps):
            yield make_batch(self._images(rows, index), self._pool.picked(rows, index), self._spec, index)

    def labels(self) -> Columns:
        """The label columns of all faces that are trained on, by whichever worker."""
        return {name: column[self._rows] for name, column in self._pool.columns.items()}

    def _images(self, rows: Rows, epoch: int) -> Images:
        if self._spec.augment.fixed_views:
            return self._views.images(rows, epoch)
        ids = self._pool.columns["sample_id"][rows]
        return changed(self._pool.images(rows), ids, self._spec, self._augment, epoch)


def shares(faces: int, spec: TrainSpec, world: int) -> tuple[int, int]:
    """How many of ``faces`` each of ``world`` workers has in an epoch, and in how many batches.

    Fewer than 2 faces a worker are an ``InputError``: batch normalisation cannot learn from one face, so no
    batch may be that small.
    """
    each = faces // world
    if each < 2:
        raise InputError(f"Training needs at least 2 faces a worker, but {faces} faces have {world}.")
    return each, max(1, min(-(-faces // spec.optim.batch_size), each // 2))


class _KeptViews:
    """The fixed views of a pool's faces, resized; each is drawn once where there is room for all of them."""

    def __init__(self, pool: FacePool, spec: TrainSpec, augment: Augmenter) -> None:
        self._pool, self._spec, self._augment = pool, spec, augment
        self._shape = (len(pool), spec.model.input_size, spec.model.input_size, 3)
        self._fits = spec.augment.fixed_views * math.prod(self._shape) <= KEPT_BYTES
        self._kept: dict[int, tuple[Images, npt.NDArray[np.bool_]]] = {}

    def images(self, rows: Rows, epoch: int) -> Images:
        """The faces of these rows in the view of an epoch."""
        if not self._fits:
            return self._drawn(rows, epoch)
        view = epoch % self._spec.augment.fixed_views
        if view not in self._kept:
            self._kept[view] = np.empty(self._shape, np.uint8), np.zeros(len(self._pool), dtype=bool)
        images, known = self._kept[view]
        missing = rows[~known[rows]]
        if len(missing):
            images[missing] = self._drawn(missing, epoch)
            known[missing] = True
        return images[rows]

    def _drawn(self, rows: Rows, epoch: int) -> Images:
        ids = self._pool.columns["sample_id"][rows]
        return changed(self._pool.crops(rows), ids, self._spec, self._augment, epoch)


def kept_count(faces: int, spec: TrainSpec) -> int:
    """How many faces ``share_of_faces`` leaves to train on: two at least."""
    return min(faces, max(2, round(faces * spec.share_of_faces)))


def kept_rows(faces: int, spec: TrainSpec) -> Rows:
    """The rows that ``share_of_faces`` leaves to train on: the same ones for a seed."""
    count = kept_count(faces, spec)
    if count == faces:
        return np.arange(faces)
    return np.sort(np.random.default_rng([spec.seed, SHARE_DRAW]).permutation(faces)[:count])


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


def make_batch(images: Images, columns: Columns, spec: TrainSpec, epoch: int) -> Batch:
    """One batch of faces as the network takes them, with label PMFs of ``spec.distill.label_sigma`` years and
    a teacher's answers for the epoch's view.
    """
    ids = [str(sample_id) for sample_id in columns["sample_id"]]
    answers = {name: columns[name] for name in _ANSWERS if name in columns}
    for values in answers.values():
        if values.ndim == 3:
            refuse_other_views(spec.augment, values.shape[1])
    teacher, features = (_of_view(answers[n], epoch, 2) if n in answers else None for n in _ANSWERS)
    return Batch(
        sample_id=ids,
        images=images,
        age=columns["age"].astype(np.float32),
        label_pmf=label_pmf(columns, spec.distill.label_sigma),
        weight=_weights(columns, len(ids)),
        teacher_pmf=None if teacher is None else _normalised(teacher),
        teacher_features=None if features is None else features.astype(np.float32),
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


def label_prior(columns: Columns, sigma: float) -> FloatArray | None:
    """The mean label distribution [101] of all labelled faces; None where no face has a label."""
    labels = label_pmf(columns, sigma)
    total = float(labels.sum())
    return labels.sum(axis=0) / total if total > 0 else None


def _weights(columns: Columns, faces: int) -> FloatArray:
    if "weight" not in columns:
        return np.ones(faces, dtype=np.float32)
    return np.nan_to_num(columns["weight"].astype(np.float32), nan=1.0)


def _of_view(values: npt.NDArray[Any], epoch: int, single: int) -> npt.NDArray[Any]:
    """The answers for an epoch's view; ``single`` is the number of axes where there is one view only."""
    if values.ndim == single:
        return values
    answers: npt.NDArray[Any] = values[..., epoch % values.shape[-2], :]
    return answers


def _normalised(pmf: npt.NDArray[Any]) -> FloatArray:
    wide = pmf.astype(np.float32)  # stored as float16: its sum is one to 1e-3 only
    normalised: FloatArray = wide / wide.sum(axis=-1, keepdims=True)
    return normalised
