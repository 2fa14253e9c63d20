"""How far predicted ages are from true ones: MAE, cumulative score, bias, and how sure those figures are.

Every function takes ages in years, one value a face, and leaves out faces without a true age (NaN). Intervals
come from ``agesearch.measure.intervals``: over persons, so every one asks whom its faces show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agesearch.ages import decade_end, decade_of
from agesearch.errors import InputError
from agesearch.measure.intervals import Estimate, Persons, Values, estimate

#: The faces that a decade needs for its MAE to be compared with others': its standard error is then about a
#: quarter of it (normal errors), and of fewer faces the largest of several MAEs is mostly chance.
DECADE_FACES = 10


@dataclass(frozen=True)
class AgeBin:
    """Accuracy on the faces whose true age lies in ``first..last`` years: MAE, and signed bias (positive: too
    old).
    """

    first: int
    last: int
    mae_years: Estimate
    bias_years: float


def errors(predicted: npt.ArrayLike, true: npt.ArrayLike) -> Values:
    """Signed errors in years (positive: predicted too old) of the faces that have a true age: ``[faces]``.

    Predictions that are not finite, shapes that differ, and a lack of any true age are an ``InputError``.
    """
    found = np.asarray(predicted, dtype=np.float64)
    truth = np.asarray(true, dtype=np.float64)
    if found.shape != truth.shape or found.ndim != 1:
        raise InputError(
            f"Predicted and true ages must be two lists of one length, but have shapes "
            f"{found.shape} and {truth.shape}."
        )
    labelled = ~np.isnan(truth)
    if not labelled.any():
        raise InputError("None of these faces has a true age, so there is nothing to measure accuracy on.")
    if not np.isfinite(found[labelled]).all():
        raise InputError("A predicted age is not a finite number.")
    difference: Values = found[labelled] - truth[labelled]
    return difference


def mae(predicted: npt.ArrayLike, true: npt.ArrayLike) -> float:
    """Mean absolute error in years."""
    return float(np.abs(errors(predicted, true)).mean())


def cs(predicted: npt.ArrayLike, true: npt.ArrayLike, k: float = 5.0) -> float:
    """Cumulative score CS@k: the share (0..1) of faces whose absolute error is at most ``k`` years."""
    return float(within(errors(predicted, true), k).mean())


def bias(predicted: npt.ArrayLike, true: npt.ArrayLike) -> float:
    """Mean signed error in years; positive: predicted too old."""
    return float(errors(predicted, true).mean())


def within(signed: Values, k: float = 5.0) -> Values:
    """1 for each error of at most ``k`` years, else 0: their mean is CS@k."""
    # Predictions are float32: an error of exactly k years may come out a rounding above it.
    return (np.abs(signed) <= k + 1e-4).astype(np.float64)


def eps_errors(predicted: npt.ArrayLike, mean: npt.ArrayLike, std: npt.ArrayLike) -> Values:
    """ChaLearn LAP's error of each face, 0..1: ``1 - exp(-(p - mean)^2 / (2 std^2))`` (Escalera 2015).

    ``mean`` and ``std`` are of the ages that people guessed, in years. Where all guessed the same age (std 0)
    the formula's limit is taken: 0 for that very age, else 1. A std that is negative or missing is an
    ``InputError``.
    """
    distance = np.asarray(predicted, dtype=np.float64) - np.asarray(mean, dtype=np.float64)
    width = np.asarray(std, dtype=np.float64)
    if not np.isfinite(distance).all() or not (width >= 0.0).all():
        raise InputError("The eps-error needs a predicted age, a mean and a std >= 0 for every face.")
    exponent = np.zeros_like(distance)
    certain = width < 1e-6  # its square would vanish
    np.divide(distance**2, 2.0 * width**2, out=exponent, where=~certain)
    exponent[certain & (distance != 0.0)] = np.inf
    found: Values = 1.0 - np.exp(-exponent)
    return found


def mae_estimate(predicted: npt.ArrayLike, true: npt.ArrayLike, persons: Persons) -> Estimate:
    """MAE in years with its 95 % interval; ``persons`` of all faces."""
    return estimate(np.abs(errors(predicted, true)), _of_labelled(persons, true))


def paired_difference(
    predicted: npt.ArrayLike, reference: npt.ArrayLike, true: npt.ArrayLike, persons: Persons
) -> Estimate:
    """MAE of ``predicted`` minus MAE of ``reference`` on the same faces, with a paired 95 % interval.

    Below zero: ``predicted`` is better. An interval that holds zero is a tie.
    """
    difference = np.abs(errors(predicted, true)) - np.abs(errors(reference, true))
    return estimate(difference, _of_labelled(persons, true))


def accuracy_by_decade(predicted: npt.ArrayLike, true: npt.ArrayLike, persons: Persons) -> list[AgeBin]:
    """Accuracy by decade of true age, youngest first; those without a face are left out."""
    signed, shown, bins = errors(predicted, true), _of_labelled(persons, true), _decades(true)
    rows = []
    for first in np.unique(bins):
        inside = bins == first
        error = estimate(np.abs(signed[inside]), shown.take(inside))
        rows.append(AgeBin(int(first), int(decade_end(first)), error, float(signed[inside].mean())))
    return rows


class WorstDecade(NamedTuple):
    """The decade of true age, by its ``first`` year, whose MAE in years is the largest."""

    first: int
    mae_years: float


def worst_decade(predicted: npt.ArrayLike, true: npt.ArrayLike) -> WorstDecade | None:
    """The worst of the decades of true age that have ``DECADE_FACES`` faces, the youngest of equals; None
    where no decade has so many.
    """
    off, bins = np.abs(errors(predicted, true)), _decades(true)
    found = [WorstDecade(int(first), float(off[bins == first].mean())) for first in judged_decades(true)]
    return max(found, key=lambda decade: decade.mae_years, default=None)


def judged_decades(true: npt.ArrayLike) -> list[int]:
    """The first years of the decades of true age that have ``DECADE_FACES`` faces."""
    firsts, faces = np.unique(_decades(true), return_counts=True)
    return [int(first) for first in firsts[faces >= DECADE_FACES]]


def _decades(true: npt.ArrayLike) -> Values:
    """The decade of each face that has a true age."""
    decades = decade_of(true)
    return decades[~np.isnan(decades)]


def _of_labelled(persons: Persons, true: npt.ArrayLike) -> Persons:
    """The persons of the faces that have a true age."""
    return persons.take(~np.isnan(np.asarray(true, dtype=np.float64)))
