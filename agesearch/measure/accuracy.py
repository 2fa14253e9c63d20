"""How far predicted ages are from true ones: MAE, cumulative score, bias, and how sure those figures are.

Every function takes ages in years, one value a face, and leaves out faces without a true age (NaN). Intervals
are percentile bootstrap intervals over faces (Efron 1979), drawn from a generator with a fixed seed, so the
same predictions always give the same interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agesearch.errors import InputError

Values = npt.NDArray[np.float64]

#: Bootstrap draws are made in blocks of about this many numbers, so that memory does not grow with the faces.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A mean over ``faces`` faces with the ends of its interval."""

    value: float
    low: float
    high: float
    faces: int


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


def bootstrap_interval(
    values: npt.ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    persons: npt.NDArray[np.int64] | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``values`` ``[n]``; of one value, the value itself.

    For a paired comparison of two models pass the differences of their absolute errors. ``persons`` ``[n]``
    numbers who each face shows: persons are drawn then, each with all their faces, since the errors on one
    person's faces are alike and faces alone would promise too much (cluster bootstrap, Davison & Hinkley
    1997).
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"The interval level is {level:g}, but must lie between 0 and 1.")
    means = bootstrap_means(values, resamples=resamples, seed=seed, persons=persons)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def bootstrap_means(
    values: npt.ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
    persons: npt.NDArray[np.int64] | None = None,
) -> Values:
    """Means ``[resamples]`` of ``values`` ``[n]`` over faces (or ``persons``) drawn with replacement.

    The draws depend on the seed and on the faces alone, so that two lists of values of the same faces are
    resampled alike.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise InputError(f"A bootstrap needs a list of at least one value, but got shape {sample.shape}.")
    generator = np.random.default_rng(seed)
    if persons is None:
        blocks = _resampled_means(sample, resamples, generator)
    else:
        _, codes = np.unique(persons, return_inverse=True)
        sums: Values = np.bincount(codes, sample).astype(np.float64)
        counts: Values = np.bincount(codes).astype(np.float64)
        blocks = _resampled_ratios(sums, counts, resamples, generator)
    return np.concatenate(list(blocks))


def _resampled_means(sample: Values, resamples: int, generator: np.random.Generator) -> Iterator[Values]:
    rows = max(1, _BLOCK // sample.size)
    for start in range(0, resamples, rows):
        draws = generator.integers(0, sample.size, size=(min(rows, resamples - start), sample.size))
        yield sample[draws].mean(axis=1)


def _resampled_ratios(
    sums: Values, counts: Values, resamples: int, generator: np.random.Generator
) -> Iterator[Values]:
    rows = max(1, _BLOCK // sums.size)
    for start in range(0, resamples, rows):
        draws = generator.integers(0, sums.size, size=(min(rows, resamples - start), sums.size))
        yield sums[draws].sum(axis=1) / counts[draws].sum(axis=1)


def mae_estimate(predicted: npt.ArrayLike, true: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """MAE in years with its bootstrap interval."""
    return estimate(np.abs(errors(predicted, true)), level)


def paired_difference(
    predicted: npt.ArrayLike, reference: npt.ArrayLike, true: npt.ArrayLike, *, level: float = 0.95
) -> Estimate:
    """MAE of ``predicted`` minus MAE of ``reference`` on the same faces, with a paired bootstrap interval.

    Below zero: ``predicted`` is better. An interval that holds zero is a tie.
    """
    return estimate(np.abs(errors(predicted, true)) - np.abs(errors(reference, true)), level)


def accuracy_by_decade(
    predicted: npt.ArrayLike, true: npt.ArrayLike, *, width: int = 10, level: float = 0.95
) -> list[AgeBin]:
    """Accuracy by true age in bins of ``width`` years from 0 on; bins without a face are left out."""
    signed = errors(predicted, true)
    truth = np.asarray(true, dtype=np.float64)
    bins = (truth[~np.isnan(truth)] // width).astype(np.int64)
    rows = []
    for index in np.unique(bins):
        inside = signed[bins == index]
        first = int(index) * width
        rows.append(AgeBin(first, first + width - 1, estimate(np.abs(inside), level), float(inside.mean())))
    return rows


def estimate(values: Values, level: float = 0.95, persons: npt.NDArray[np.int64] | None = None) -> Estimate:
    """The mean of one value a face, with its bootstrap interval over faces or over ``persons`` ``[n]``."""
    low, high = bootstrap_interval(values, level=level, persons=persons)
    return Estimate(float(values.mean()), low, high, int(values.size))
