"""Training batches: shuffled, resized, augmented and labelled, all by seed. Needs neither Ray nor torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_SHARE = 2**32 - 1

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


class Source(Protocol):
    """Where an epoch's batches come from."""

    faces: int
    steps: int

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
        self.faces = len(self._rows) // world
        if self.faces < 2:
            raise InputError(
                f"Training needs at least 2 faces a worker, but {len(self._rows)} faces have {world}."
            )
        self._pool = pool
        self._spec = spec
        self._rank, self._world = rank, world
        # batch normalisation cannot learn from one face: no batch may be that small
        self.steps = max(1, min(-(-len(self._rows) // spec.optim.batch_size), self.faces // 2))
        if pool.views:
            refuse_other_views(spec.augment, pool.views)
        self._augment = augmenter_of(spec.augment, spec.seed)
        self._views = _KeptViews(pool, spec, self._augment)

    def epoch(self, index: int) -> Iterator[Batch]:
        """The batches of epoch ``index``."""
        order = np.random.default_rng([self._spec.seed, index]).permutation(self._rows)
        mine = order[self._rank :: self._world][: self.faces]
        for rows in np.array_split(mine, self.steps):
            columns = {name: column[rows] for name, column in self._pool.columns.items()}
            columns |= self._pool.answers(rows, index)
            yield make_batch(self._images(rows, index), columns, self._spec, index)

    def _images(self, rows: Rows, epoch: int) -> Images:
        if self._spec.augment.fixed_views:
            return self._views.images(rows, epoch)
        ids = self._pool.columns["sample_id"][rows]
        return changed(self._pool.images(rows), ids, self._spec, self._augment, epoch)


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


class StreamSource:
    """Epochs over faces that do not fit in memory: ``read(epoch)`` yields columns, shuffled by its seed."""

    def __init__(
        self, read: Callable[[int], Iterator[Columns]], faces: int, batch_size: int, spec: TrainSpec
    ) -> None:
        self.faces = max(2, round(faces * spec.share_of_faces))
        self.steps = -(-self.faces // batch_size)
        self._batch_size = batch_size
        self._read = read
        self._spec = spec
        self._augment = augmenter_of(spec.augment, spec.seed)

    def epoch(self, index: int) -> Iterator[Batch]:
        """The batches of epoch ``index``; a last batch of one face is left out (see ``PoolSource``)."""
        for columns in self._thinned(self._read(index)):
            if len(columns["sample_id"]) > 1:
                images = columns["image"]
                if not self._spec.augment.fixed_views:
                    images = resized(images, self._spec.model.input_size)
                drawn = changed(images, columns["sample_id"], self._spec, self._augment, index)
                yield make_batch(drawn, columns, self._spec, index)

    def _thinned(self, batches: Iterator[Columns]) -> Iterator[Columns]:
        """Batches of the faces that are trained on, of the size that was asked for."""
        if self._spec.share_of_faces == 1.0:
            yield from batches
            return
        left: dict[str, npt.NDArray[Any]] = {}
        for columns in batches:
            kept = np.array([_drawn(str(name), self._spec) for name in columns["sample_id"]], dtype=bool)
            more = {name: column[kept] for name, column in columns.items()}
            left = {name: np.concatenate([left[name], more[name]]) for name in more} if left else more
            while len(left["sample_id"]) >= self._batch_size:
                yield {name: column[: self._batch_size] for name, column in left.items()}
                left = {name: column[self._batch_size :] for name, column in left.items()}
        if left:
            yield left


def kept_rows(faces: int, spec: TrainSpec) -> npt.NDArray[np.intp]:
    """The rows that ``share_of_faces`` leaves to train on, two at least: the same ones for a seed."""
    if spec.share_of_faces == 1.0:
        return np.arange(faces)
    count = min(faces, max(2, round(faces * spec.share_of_faces)))
    return np.sort(np.random.default_rng([spec.seed, _SHARE]).permutation(faces)[:count])


def _drawn(sample_id: str, spec: TrainSpec) -> bool:
    """Whether a face is among those trained on, where nobody sees all faces at once."""
    digest = hashlib.blake2b(f"{spec.seed}/{sample_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < spec.share_of_faces * 2**64


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
