"""Learning an age correction from few labels, and whether it helps: cross-validated by person.

Two kinds: ``affine``, the line of least Huber loss (a few labels that are far off do not tilt it), and
``isotonic``, the rising curve of least squared error over whole years of predicted age. Each is judged by the
errors of persons that it has not seen, against leaving the ages as they are; one that does not help beyond
the noise of those persons is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from agesearch.ages import FloatArray, expected_age
from agesearch.errors import InputError
from agesearch.measure.intervals import Codes, Estimate, Persons, Values, estimate
from agesearch.models.calibration.correction import AgeCorrection, CorrectionKind, moved_to
from agesearch.specs import Spec

#: What may be asked for: ``auto`` tries all kinds, ``off`` none.
Wanted = Literal["auto", "off", "affine", "isotonic"]

#: Fewer faces are not asked for a correction.
LEAST_FACES = 30
#: Errors above this many years count by their size, not by its square.
_HUBER_YEARS = 3.0
_ROUNDS = 100


class CorrectionTrial(Spec):
    """What a kind of correction does for persons that it was not learnt from: MAE and bias in years before
    and after, and the paired difference of the errors (below zero: it helps).
    """

    kind: CorrectionKind
    before_mae_years: Estimate
    after_mae_years: Estimate
    difference_years: Estimate
    before_bias_years: float
    after_bias_years: float

    @property
    def helps(self) -> bool:
        """Whether it helps beyond noise."""
        return self.difference_years.high < 0.0


@dataclass(frozen=True)
class Chosen:
    """The correction learnt on all faces (None: none), what was tried, and ``held_out``: what the other folds
    teach each fold, whose ``folds`` are those of N faces.
    """

    correction: AgeCorrection | None
    tried: tuple[CorrectionTrial, ...]
    folds: Codes
    held_out: Mapping[int, AgeCorrection]

    def moved(self, pmf: FloatArray) -> FloatArray:
        """PMFs ``[N, 101]`` of the same faces, from any engine, each as corrected by what others taught."""
        return moved_to(pmf, _ages_by(self.held_out, self.folds, expected_age(pmf))) if self.held_out else pmf


def fit_affine(predicted: Values, age: Values) -> AgeCorrection:
    """The rising line through ``[N]`` predicted and true ages in years, by least Huber loss."""
    centre = float(predicted.mean())
    design = np.stack([predicted - centre, np.ones_like(predicted)], axis=1)
    weights = np.ones_like(predicted)
    line = np.array([1.0, 0.0])
    for _ in range(_ROUNDS):  # iteratively reweighted least squares
        root = np.sqrt(weights)[:, None]
        new = np.linalg.lstsq(design * root, age * root[:, 0], rcond=None)[0]
        done = np.abs(new - line).max() < 1e-9
        line = new
        if done:
            break
        weights = _HUBER_YEARS / np.maximum(np.abs(design @ line - age), _HUBER_YEARS)
    slope, level = max(float(line[0]), 0.0), float(line[1])
    if line[0] <= 0.0 or np.ptp(predicted) < 1e-6:  # answers that say nothing of the age: the level alone
        slope, level = 0.0, float(np.median(age))
    ends = tuple((x, level + slope * (x - centre)) for x in (0.0, 100.0))
    return AgeCorrection(kind="affine", points=ends)


def fit_isotonic(predicted: Values, age: Values) -> AgeCorrection:
    """The rising curve through ``[N]`` predicted and true ages: least squares over years of predicted age,
    straight between the middles of its steps.
    """
    from scipy.optimize import isotonic_regression

    _, year = np.unique(np.round(predicted).astype(np.int64), return_inverse=True)
    weights = np.bincount(year).astype(np.float64)
    x, y = np.bincount(year, predicted) / weights, np.bincount(year, age) / weights
    steps = isotonic_regression(y, weights=weights)
    points = []
    for first, last in zip(steps.blocks[:-1], steps.blocks[1:], strict=True):
        inside = slice(first, last)
        points.append((float(np.average(x[inside], weights=weights[inside])), float(steps.x[first])))
    return AgeCorrection(kind="isotonic", points=tuple(points))


_FITS: dict[CorrectionKind, Callable[[Values, Values], AgeCorrection]] = {
    "affine": fit_affine,
    "isotonic": fit_isotonic,
}


def choose_correction(
    predicted: Values, age: Values, persons: Persons, folds: Codes, wanted: Wanted = "auto"
) -> Chosen:
    """The correction of ``[N]`` predicted ages that helps other persons, if one does; ``folds`` by person.

    The simpler kind (``affine``) is taken unless the other is better beyond noise.
    """
    if wanted == "off":
        return Chosen(None, (), folds, {})
    if len(age) < LEAST_FACES or folds.max() == 0:
        raise InputError(
            f"An age correction needs {LEAST_FACES} faces of several persons, but there are {len(age)}: "
            "leave it out with --correct off."
        )
    kinds: Sequence[CorrectionKind] = ("affine", "isotonic") if wanted == "auto" else (wanted,)
    learnt = {kind: _held_out(kind, predicted, age, folds) for kind in kinds}
    found = {kind: _ages_by(learnt[kind], folds, predicted) for kind in kinds}
    tried = tuple(_trial(kind, predicted, found[kind], age, persons) for kind in kinds)
    helping = [trial.kind for trial in tried if trial.helps]
    if not helping:
        return Chosen(None, tried, folds, {})
    best = helping[0]
    for other in helping[1:]:
        gain = np.abs(found[other] - age) - np.abs(found[best] - age)
        if estimate(gain, persons).high < 0.0:
            best = other
    return Chosen(_FITS[best](predicted, age), tried, folds, learnt[best])


def _held_out(kind: CorrectionKind, predicted: Values, age: Values, folds: Codes) -> dict[int, AgeCorrection]:
    """What the other folds teach each."""
    return {
        fold: _FITS[kind](predicted[folds != fold], age[folds != fold]) for fold in map(int, np.unique(folds))
    }


def _ages_by(held_out: Mapping[int, AgeCorrection], folds: Codes, predicted: npt.ArrayLike) -> Values:
    """Predicted ages ``[N]``, each fold's corrected by its own correction."""
    found = np.array(predicted, dtype=np.float64)
    for fold, correction in held_out.items():
        found[folds == fold] = correction.ages(found[folds == fold])
    return found


def _trial(
    kind: CorrectionKind, predicted: Values, after: Values, age: Values, persons: Persons
) -> CorrectionTrial:
    old, new = predicted - age, after - age
    return CorrectionTrial(
        kind=kind,
        before_mae_years=estimate(np.abs(old), persons),
        after_mae_years=estimate(np.abs(new), persons),
        difference_years=estimate(np.abs(new) - np.abs(old), persons),
        before_bias_years=float(old.mean()),
        after_bias_years=float(new.mean()),
    )
