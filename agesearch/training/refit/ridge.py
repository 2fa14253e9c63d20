"""Ridge regression from sums over rows, and the ridge that held-out persons choose.

Least squares needs of its rows no more than their products, so that a fold is left out by taking its sums
from those of all: cross-validation within cross-validation costs solutions, and no second look at the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

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


@dataclass(frozen=True)
class Chosen:
    """The layer of all rows and its ``ridge``, the root mean square error in years of each that was tried on
    held-out persons (``tried``), and what nested cross-validation says: ages ``[N]`` of faces whose persons
    neither taught the layer nor chose its ridge, and the ridge that each fold's others chose.
    """

    line: Line
    ridge: float
    tried: tuple[tuple[float, float], ...]
    held_out: Values
    of_folds: tuple[float, ...]


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
    features: npt.ArrayLike,
    age: Values,
    folds: Codes,
    sums: Sequence[Sums],
    old: Values | None = None,
    ridges: Sequence[float] = RIDGES,
) -> Chosen:
    """The line of all faces, its ridge chosen by folds of persons; ``sums`` has those of each fold's rows.

    ``features`` ``[N, F]`` and ``age`` ``[N]`` are of the faces as they are, one row each; the rows may be
    several views of each. In turn each fold is left out; of the rest, each fold judges the lines of the
    others, and the ridge of the least squared error answers for the fold left out.
    """
    seen = np.asarray(features)
    count, total = len(sums), sum(sums[1:], sums[0])
    error = np.zeros((count, count, len(ridges)))  # of fold b by lines that saw neither a nor b
    for a, b in combinations(range(count), 2):
        for at, line in enumerate(lines(total - sums[a] - sums[b], ridges, old)):
            for out, judge in ((a, b), (b, a)):
                own = folds == judge
                error[out, judge, at] = ((line.ages(seen[own]) - age[own]) ** 2).sum()
    held_out, outer, best = np.empty(len(age)), np.zeros(len(ridges)), []
    for fold in range(count):
        own, found = folds == fold, lines(total - sums[fold], ridges, old)
        said = np.stack([line.ages(seen[own]) for line in found])
        outer += ((said - age[own]) ** 2).sum(axis=1)
        best.append(int(error[fold].sum(axis=0).argmin()))
        held_out[own] = said[best[-1]]
    ridge = ridges[int(outer.argmin())]
    return Chosen(
        line=lines(total, [ridge], old)[0],
        ridge=ridge,
        tried=tuple(zip(ridges, np.sqrt(outer / len(age)).tolist(), strict=True)),
        held_out=held_out,
        of_folds=tuple(ridges[at] for at in best),
    )
