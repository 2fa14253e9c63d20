"""Ridge regression from sums over rows; held-out persons choose the ridge, and the features.

Least squares needs of its rows no more than their products, so that a fold is left out by taking its sums
from those of all: cross-validation within cross-validation costs solutions, and no second look at the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from agesearch.measure.intervals import Codes, Values

#: What is tried: penalties of features of variance one in a loss summed over the faces.
RIDGES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
#: That of a column which is all but free: the answer of the layer before.
_FREE = 0.03
#: Added to each feature's deviation, as a share of the mean one: features that hardly vary tell nothing.
_LEAST_DEVIATION = 0.01


@dataclass(frozen=True)
class Sums:
    """Sums over weighted rows of C columns, the last of which is the age: of the weights, of the columns
    ``[C]`` and of their products ``[C, C]``.
    """

    weight: float
    columns: Values
    products: Values

    @classmethod
    def of(cls, rows: Values, weight: float = 1.0) -> Sums:
        """Of rows ``[N, C]`` that have one weight."""
        return cls(weight * len(rows), weight * rows.sum(0), weight * (rows.T @ rows))

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.weight + other.weight, self.columns + other.columns, self.products + other.products)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.weight - other.weight, self.columns - other.columns, self.products - other.products)


@dataclass(frozen=True)
class Line:
    """``age = weight . features + bias`` in years: ``weight`` ``[F]``."""

    weight: Values
    bias: float

    def ages(self, features: npt.ArrayLike) -> Values:
        """Features ``[N, F]`` -> ages ``[N]``, within 0..100."""
        found: Values = np.clip(np.asarray(features, dtype=np.float64) @ self.weight + self.bias, 0.0, 100.0)
        return found


class Candidate(NamedTuple):
    """Features that a line may be of: those of the faces as they are ``[N, F]``, one row each; for each fold
    the sums over its rows, which may be several views of each face; and the weights ``[F]`` of a layer that
    was there before (None: none).
    """

    features: npt.ArrayLike
    sums: Sequence[Sums]
    old: Values | None = None


@dataclass(frozen=True)
class Chosen:
    """The layer of all rows, the number of its ``candidate`` and its ``ridge``; the mean absolute error in
    years on held-out persons of each ridge with that candidate (``tried``), and of each candidate at its best
    ridge (``candidates``); and what nested cross-validation says: ages ``[N]`` of faces whose persons neither
    taught the layer nor chose anything of it, and what each fold's others chose (candidate, ridge).
    """

    line: Line
    candidate: int
    ridge: float
    tried: tuple[tuple[float, float], ...]
    candidates: tuple[float, ...]
    held_out: Values
    of_folds: tuple[tuple[int, float], ...]


def lines(sums: Sums, ridges: Sequence[float], old: Values | None = None) -> list[Line]:
    """The line of least squared error for each ridge; a penalty is of features of variance one.

    With ``old`` ``[F]``, the weights of a layer that gave ages before, the line is shrunk towards them: their
    slope and offset are free, so that a large ridge leaves the old layer with an affine correction.
    """
    mean = sums.columns / sums.weight
    spread = sums.products / sums.weight - np.outer(mean, mean)
    features, last = len(mean) - 1, spread[:-1, -1]
    spread = spread[:-1, :-1]
    if old is not None:  # one more column: what the old layer says, but for its offset
        along = spread @ old
        spread = np.block([[spread, along[:, None]], [along[None], np.array([[old @ along]])]])
        last = np.append(last, old @ last)
    scale = np.sqrt(np.maximum(spread.diagonal(), 0.0))
    scale = scale + _LEAST_DEVIATION * scale[:features].mean() + 1e-12
    own, wanted = spread / np.outer(scale, scale) * sums.weight, last / scale * sums.weight
    found = []
    for ridge in ridges:
        penalty = np.full(len(own), float(ridge))
        penalty[features:] = _FREE
        slopes = cho_solve(cho_factor(own + np.diag(penalty)), wanted) / scale
        weight = slopes if old is None else slopes[:-1] + slopes[-1] * old
        found.append(Line(weight, float(mean[-1] - mean[:-1] @ weight)))
    return found


def choose(
    candidates: Sequence[Candidate], age: Values, folds: Codes, ridges: Sequence[float] = RIDGES
) -> Chosen:
    """The line of all faces, its features and its ridge chosen by folds of persons; ages are ``[N]``.

    In turn each fold is left out; of the rest, each fold judges the lines of the others, and the candidate
    and ridge of the least absolute error answer for the fold left out. (By squares, few faces that are far
    off would choose.)
    """
    seen = [np.asarray(candidate.features) for candidate in candidates]
    count = len(candidates[0].sums)
    # by fold a, candidate and ridge: absolute error on each other fold by lines that saw neither it nor a
    inner = np.zeros((count, len(candidates), len(ridges)))
    said = np.empty((*inner[0].shape, len(age)))
    for at, (features, (_, sums, old)) in enumerate(zip(seen, candidates, strict=True)):
        total = sum(sums[1:], sums[0])
        for a, b in combinations(range(count), 2):
            for number, line in enumerate(lines(total - sums[a] - sums[b], ridges, old)):
                for out, judge in ((a, b), (b, a)):
                    own = folds == judge
                    inner[out, at, number] += np.abs(line.ages(features[own]) - age[own]).sum()
        for fold in range(count):
            own = folds == fold
            for number, line in enumerate(lines(total - sums[fold], ridges, old)):
                said[at, number, own] = line.ages(features[own])
    outer = np.abs(said - age).mean(axis=-1)
    best = [_least(error) for error in inner]
    held_out = np.empty(len(age))
    for fold, choice in enumerate(best):
        held_out[folds == fold] = said[choice][folds == fold]
    candidate, ridge = _least(outer)
    _, sums, old = candidates[candidate]
    return Chosen(
        line=lines(sum(sums[1:], sums[0]), [ridges[ridge]], old)[0],
        candidate=candidate,
        ridge=ridges[ridge],
        tried=tuple(zip(ridges, outer[candidate].tolist(), strict=True)),
        candidates=tuple(outer.min(axis=1).tolist()),
        held_out=held_out,
        of_folds=tuple((at, ridges[number]) for at, number in best),
    )


def _least(error: Values) -> tuple[int, int]:
    at, number = np.unravel_index(int(error.argmin()), error.shape)
    return int(at), int(number)
