"""An age correction: where a model's answers lie beside the truth on average, and the way back.

A correction is a map of the expected age, rising and with few parameters, learnt from labelled faces
(``agesearch.measure.calibration``). A PMF is corrected by moving it along the age axis, as it is, until its
mean is the corrected age: no mass is lost, its shape and width stay. What would leave 0..100 is heaped at the
end, and the move is lengthened until the mean is right all the same.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from agesearch.ages import AGES, BINS, MAX_AGE, FloatArray, expected_age
from agesearch.specs import Spec

_HALVINGS = 50
_YEARS = AGES.astype(np.float64)

CorrectionKind = Literal["affine", "isotonic"]


class AgeCorrection(Spec):
    """A rising map of ages through ``points`` (predicted, corrected) in years, straight between them.

    ``affine`` has two points and is straight beyond them, too; ``isotonic`` keeps the distance of its first
    and last point to the predicted age there. Corrected ages are cut to 0..100.
    """

    kind: CorrectionKind
    points: tuple[tuple[float, float], ...] = Field(min_length=1, max_length=BINS)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        table = np.asarray(self.points, dtype=np.float64)
        steps = np.diff(table, axis=0)
        if not np.isfinite(table).all() or (steps[:, 0] <= 0).any() or (steps[:, 1] < 0).any():
            raise ValueError("points must be finite, predicted ages rise, and corrected ones never fall")
        if self.kind == "affine" and len(table) != 2:
            raise ValueError("an affine correction has two points")
        return self

    def ages(self, predicted: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Predicted ages in years ``[...]`` -> corrected ones ``[...]``."""
        given = np.asarray(predicted, dtype=np.float64)
        x, y = np.asarray(self.points, dtype=np.float64).T
        if self.kind == "affine":
            found = y[0] + (given - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
        else:
            found = np.interp(given, x, y) + np.minimum(given - x[0], 0.0) + np.maximum(given - x[-1], 0.0)
        corrected: npt.NDArray[np.float64] = np.clip(found, 0.0, MAX_AGE)
        return corrected

    def pmf(self, pmf: FloatArray) -> FloatArray:
        """PMFs ``[N, 101]`` -> the same, moved until each mean is the corrected age."""
        return moved_to(pmf, self.ages(expected_age(pmf)))


def moved_to(pmf: FloatArray, means: npt.ArrayLike) -> FloatArray:
    """PMFs ``[N, 101]`` moved along the age axis until their expectations are ``means`` ``[N]`` in 0..100.

    Mass between two ages is split between them, so that means are kept; mass beyond an end stays there.
    """
    mass = np.asarray(pmf, dtype=np.float64)
    mass = mass / mass.sum(axis=-1, keepdims=True)
    wanted = np.clip(np.asarray(means, dtype=np.float64), 0.0, MAX_AGE)
    places = np.clip(_YEARS + _shifts(mass, wanted)[:, None], 0.0, MAX_AGE)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, MAX_AGE)
    share = places - below
    rows = np.arange(len(mass))[:, None] * BINS
    found = np.bincount((rows + below).ravel(), (mass * (1.0 - share)).ravel(), mass.size)
    found += np.bincount((rows + above).ravel(), (mass * share).ravel(), mass.size)
    return found.reshape(mass.shape).astype(np.float32)


def _shifts(mass: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """By how many years each PMF ``[N, 101]`` must move, so that the mean of the cut ages is the wanted
    one.
    """
    shift = wanted - mass @ _YEARS
    low, high = np.full_like(shift, -float(MAX_AGE)), np.full_like(shift, float(MAX_AGE))
    for _ in range(_HALVINGS):
        mean = (np.clip(_YEARS + shift[:, None], 0.0, MAX_AGE) * mass).sum(axis=1)
        if np.abs(mean - wanted).max(initial=0.0) < 1e-9:
            break
        low, high = np.where(mean < wanted, shift, low), np.where(mean < wanted, high, shift)
        shift = (low + high) / 2.0
    return shift
