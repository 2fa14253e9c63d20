"""How far predicted ages are from true ones: MAE, cumulative score, bias, and how sure those figures are.

Every function takes ages in years, one value a face, and leaves out faces without a true age (NaN). Intervals
come from ``agesearch.measure.intervals``: over persons, so every one asks whom its faces show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agesearch.errors import InputError
from agesearch.measure.intervals import Estimate, Persons, Values, estimate


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


def accuracy_by_decade(
    predicted: npt.ArrayLike, true: npt.ArrayLike, persons: Persons, *, width: int = 10
) -> list[AgeBin]:
    """Accuracy by true age in bins of ``width`` years from 0 on; bins without a face are left out."""
    signed, shown = errors(predicted, true), _of_labelled(persons, true)
    truth = np.asarray(true, dtype=np.float64)
    bins = (truth[~np.isnan(truth)] // width).astype(np.int64)
    rows = []
    for index in np.unique(bins):
        inside = bins == index
        error = estimate(np.abs(signed[inside]), shown.take(inside))
        first = int(index) * width
        rows.append(AgeBin(first, first + width - 1, error, float(signed[inside].mean())))
    return rows


def _of_labelled(persons: Persons, true: npt.ArrayLike) -> Persons:
    """The persons of the faces that have a true age."""
    return persons.take(~np.isnan(np.asarray(true, dtype=np.float64)))
