"""Methods that were each trained several times, compared on the same faces: intervals and a test of luck.

A figure of a method varies with the persons that are tested and with the seed of its training. Persons and
trainings are crossed: every training is tested on every face. All functions take one value a training and
face, ``[trainings, faces]``, with whom the faces show, and are seeded: the same values always give the same
figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from agesearch.errors import InputError
from agesearch.measure.intervals import (
    MOST_PERSONS,
    Estimate,
    Persons,
    Values,
    bootstrap_means,
    estimate,
    subsampled,
)

Verdict = Literal["better", "worse", "tie"]

#: Below this p-value (after Holm) a difference counts.
ALPHA = 0.05

RESAMPLES = 2000
FLIPS = 20_000
#: Up to so many persons that differ, all sign flips are counted: 2^14 of them.
_EXACT = 14
#: Flips are made in blocks of about this many numbers.
_BLOCK = 4_000_000


def repeated_estimate(values: npt.ArrayLike, persons: Persons, *, level: float = 0.95) -> Estimate:
    """The mean of ``values`` ``[trainings, faces]`` with an interval that holds for other persons and seeds.

    Persons (each with all their faces) and trainings are resampled independently, as crossed samples ask for
    (pigeonhole bootstrap, Owen 2007; it errs on the wide side). Corrections make up for having few of either:
    ``k - 1`` of ``k`` trainings are drawn, so that their variance comes out right (Rao & Wu 1988), that of
    ``n`` persons is taken ``n / (n - 1)`` times, and the interval is stretched by Student's t over the normal
    quantile (Hesterberg 2015) at the degrees of freedom of Satterthwaite 1946. One training says nothing of
    others: its interval is that of ``intervals.estimate``, over persons alone.
    """
    runs = _checked(values)
    if len(runs) == 1:
        return estimate(runs[0], persons, level)
    centre = float(runs.mean())
    means = np.stack([bootstrap_means(run, persons, resamples=RESAMPLES) for run in runs])
    drawn = _resampled_trainings(len(runs))
    resampled = (drawn * means.T).sum(axis=1)
    low, high = np.quantile(resampled, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    wider = _stretch(runs, persons, level)
    return Estimate(
        centre,
        centre + wider * (float(low) - centre),
        centre + wider * (float(high) - centre),
        runs.shape[1],
        persons.count,
        subsampled(persons),
    )


def spread(figures: Sequence[float]) -> float:
    """Sample standard deviation over trainings; 0 for one."""
    return float(np.std(figures, ddof=1)) if len(figures) > 1 else 0.0


def sign_flip_p(values: npt.ArrayLike, persons: Persons) -> float:
    """Two-sided p-value of a paired permutation test: could the mean of ``values`` ``[n]`` be luck?

    ``values`` are differences between two methods, one a face (the mean over trainings). Were the methods
    alike, each sign could as well be the other (Fisher 1935); all faces of a person flip together. All flips
    are counted where few persons differ, else 20,000 random ones, with the observed one among them so that p
    is never 0 (Phipson & Smyth 2010); of more than 100,000 persons the flips' sum is as good as normal. It
    speaks of these trainings: of others, the interval does.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise InputError("A sign-flip test needs a list of finite differences.")
    sums = persons.sums(sample)
    sums = np.abs(sums[sums != 0.0])
    observed = abs(float(sample.sum())) * (1.0 - 1e-9)  # sums in another order differ by a rounding
    if sums.size <= _EXACT:
        codes = np.arange(2**sums.size)[:, None] >> np.arange(sums.size)
        return float((np.abs((1.0 - 2.0 * (codes & 1)) @ sums) >= observed).mean())
    if sums.size > MOST_PERSONS:
        from scipy.special import ndtr

        return float(2.0 * ndtr(-observed / np.sqrt((sums**2).sum())))
    generator = np.random.default_rng(0)
    rows = max(1, _BLOCK // sums.size)
    hits = 0
    for start in range(0, FLIPS, rows):
        signs = generator.integers(0, 2, size=(min(rows, FLIPS - start), sums.size), dtype=np.int8)
        hits += int((np.abs((1.0 - 2.0 * signs) @ sums) >= observed).sum())
    return (hits + 1) / (FLIPS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests made at once, raised so that the chance of any false finding stays at the
    level (Holm 1979).
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def verdict(difference: Estimate, p: float) -> Verdict:
    """What a difference in errors (less is better) amounts to: a ``tie`` unless the interval leaves out zero
    (other faces and seeds would agree) and ``p`` (after Holm) is below 0.05 (the search among methods is paid
    for).
    """
    if difference.low <= 0.0 <= difference.high or p >= ALPHA:
        return "tie"
    return "better" if difference.value < 0.0 else "worse"


def _checked(values: npt.ArrayLike) -> Values:
    runs = np.asarray(values, dtype=np.float64)
    if runs.ndim != 2 or 0 in runs.shape or not np.isfinite(runs).all():
        raise InputError(
            f"Repeated trainings need finite values [trainings, faces], but got shape {runs.shape}."
        )
    return runs


def _resampled_trainings(count: int) -> Values:
    """The share of each training in each resample, ``[resamples, count]``."""
    # Persons are drawn with seed 0: another one, or both draws would follow each other.
    draws = np.random.default_rng(1).integers(0, count, size=(RESAMPLES, count - 1))
    drawn: Values = (draws[:, :, None] == np.arange(count)).mean(axis=1)
    return drawn


def _stretch(runs: Values, persons: Persons, level: float) -> float:
    """By how much the resampled means must spread more: Student's t quantile over the normal one, at the
    degrees of freedom that persons and trainings leave, and the variance that few persons hide.
    """
    from scipy.special import ndtri, stdtrit

    of_persons, free = _variance_of_mean(runs.mean(axis=0), persons)
    of_trainings = float(runs.mean(axis=1).var(ddof=1)) / len(runs)
    total = of_persons + of_trainings
    if total <= 0.0:
        return 1.0
    parts = [(of_persons, free), (of_trainings, len(runs) - 1)]
    freedom = total**2 / sum(variance**2 / free for variance, free in parts if free)
    quantile = (1.0 + level) / 2.0
    seen = of_persons * free / (free + 1) + of_trainings  # the bootstrap's own variance
    return float(stdtrit(freedom, quantile) / ndtri(quantile)) * float(np.sqrt(total / seen))


def _variance_of_mean(values: Values, persons: Persons) -> tuple[float, int]:
    """The variance of a mean over persons with several faces each, and its degrees of freedom; none for a
    single one.
    """
    rest = persons.sums(values - values.mean())
    free = rest.size - 1
    if free == 0:
        return 0.0, 0
    return float((rest**2).sum() / values.size**2 * rest.size / free), free
