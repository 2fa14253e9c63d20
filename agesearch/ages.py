"""The age axis: 101 bins of one year (0..100), and what agesearch does with probability masses over them.

Every head, teacher and label becomes one probability mass function (PMF) over these bins. Plain NumPy, so
that the service needs no training framework. Shapes: a PMF is ``[..., 101]``, an age ``[...]``, both in
years.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agesearch.errors import InputError

MAX_AGE = 100
BINS = MAX_AGE + 1
AGES: npt.NDArray[np.float32] = np.arange(BINS, dtype=np.float32)

FloatArray = npt.NDArray[np.float32]


def gaussian_pmf(age: npt.ArrayLike, sigma: npt.ArrayLike) -> FloatArray:
    """Discrete Gaussian label distribution of DLDL (Gao 2017): ``[...]`` years and sigmas -> ``[..., 101]``.

    The mass is cut to 0..100 and normalised there, so ages near an end keep a mass of one. A sigma below 0.05
    years would underflow to no mass at all, and is refused.
    """
    mean = np.asarray(age, dtype=np.float64)[..., None]
    width = np.asarray(sigma, dtype=np.float64)[..., None]
    if np.any(width < 0.05):
        raise InputError(f"The label sigma is {float(width.min()):g} years, but must be >= 0.05.")
    exponent = -0.5 * ((AGES - mean) / width) ** 2
    mass = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
    pmf: FloatArray = (mass / mass.sum(axis=-1, keepdims=True)).astype(np.float32)
    return pmf


def group_pmf(low: npt.ArrayLike, high: npt.ArrayLike) -> FloatArray:
    """Uniform mass over an age group, both ends included: ``[...]``, ``[...]`` -> ``[..., 101]``."""
    first = np.asarray(low, dtype=np.float64)[..., None]
    last = np.asarray(high, dtype=np.float64)[..., None]
    inside = ((np.round(first) <= AGES) & (np.round(last) >= AGES)).astype(np.float64)
    total = inside.sum(axis=-1, keepdims=True)
    if np.any(total == 0):
        raise InputError("An age group must hold at least one age in 0..100, with low <= high.")
    pmf: FloatArray = (inside / total).astype(np.float32)
    return pmf


def expected_age(pmf: npt.ArrayLike) -> FloatArray:
    """Expectation in years: ``[..., 101]`` -> ``[...]``. This is the predicted age everywhere."""
    return (np.asarray(pmf, dtype=np.float32) @ AGES).astype(np.float32)


def age_spread(pmf: npt.ArrayLike) -> FloatArray:
    """Standard deviation in years: ``[..., 101]`` -> ``[...]``."""
    mass = np.asarray(pmf, dtype=np.float64)
    mean = mass @ AGES.astype(np.float64)
    variance = mass @ (AGES.astype(np.float64) ** 2) - mean**2
    return np.sqrt(np.maximum(variance, 0.0)).astype(np.float32)


def age_quantile(pmf: npt.ArrayLike, level: float) -> FloatArray:
    """The age below which a share ``level`` in (0, 1) of the mass lies, interpolated inside the bin.

    Bin ``a`` spreads its mass evenly over ``[a - 0.5, a + 0.5]``; results are cut to 0..100.
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"The quantile level is {level:g}, but must lie between 0 and 1.")
    mass = np.asarray(pmf, dtype=np.float64)
    cumulative = np.cumsum(mass, axis=-1)
    index = np.minimum((cumulative < level - 1e-9).sum(axis=-1), MAX_AGE)
    upper = np.take_along_axis(cumulative, index[..., None], axis=-1)[..., 0]
    inside = np.take_along_axis(mass, index[..., None], axis=-1)[..., 0]
    share = 1.0 - (upper - level) / np.maximum(inside, 1e-12)
    age: FloatArray = np.clip(index - 0.5 + np.clip(share, 0.0, 1.0), 0.0, MAX_AGE).astype(np.float32)
    return age


#: The first years of the decades of age, 0-9, 10-19...; the last one, 90-100, takes 100 in.
DECADES = tuple(range(0, MAX_AGE, 10))


def decade_of(age: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The first year of the decade of each age in years: ``[...]`` -> ``[...]``, NaN where it is NaN."""
    years = np.asarray(age, dtype=np.float64)
    first: npt.NDArray[np.float64] = np.clip(np.floor(years / 10) * 10, 0, DECADES[-1])
    return first


def decade_end(first: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The last year of the decades that begin with ``first``: ``[...]`` -> ``[...]``."""
    start = np.asarray(first, dtype=np.float64)
    return np.where(start >= DECADES[-1], MAX_AGE, start + 9)


def decade_name(first: float) -> str:
    """``30-39`` for 30; ``90-100`` for 90."""
    return f"{first:g}-{MAX_AGE if first >= DECADES[-1] else first + 9:g}"


#: The eight age groups of Adience (Eidinger 2014); its labels (8, 12) and (8, 13) are one group.
ADIENCE_GROUPS = ((0, 2), (4, 6), (8, 13), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))


def group_cells(groups: Sequence[tuple[float, float]]) -> npt.NDArray[np.int64]:
    """The group nearest to each age 0..100: ``[101]`` indices into ``groups``, which ascend and share no age.

    Each gap between two groups is cut half way; an age exactly half way belongs to the older one.
    """
    return np.searchsorted(_limits(groups), AGES, side="right").astype(np.int64)


def adience_group(age: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The index of the Adience group nearest to each age in years: ``[...]`` -> ``[...]`` in 0..7.

    The groups leave gaps (3, 7, 14, 21..24, ...). Each gap is cut half way between its two groups (3, 7, 14,
    22.5, 35, 45.5, 56.5), and an age exactly half way belongs to the older one.
    """
    # Predictions are float32: one that is half way may come out a rounding below it.
    years = np.asarray(age, dtype=np.float64) + 1e-4
    return np.searchsorted(_limits(ADIENCE_GROUPS), years, side="right").astype(np.int64)


def _limits(groups: Sequence[tuple[float, float]]) -> npt.NDArray[np.float64]:
    return np.array([(younger[1] + older[0]) / 2 for younger, older in pairwise(groups)])


#: The cell of each age bin 0..100 in ``ADIENCE_GROUPS``: what an 8-way head classifies.
ADIENCE_CELLS: npt.NDArray[np.int64] = group_cells(ADIENCE_GROUPS)


def adience_mass(pmf: npt.ArrayLike) -> FloatArray:
    """The mass of a PMF in each Adience cell: ``[..., 101]`` -> ``[..., 8]``."""
    one_hot = ADIENCE_CELLS[:, None] == np.arange(len(ADIENCE_GROUPS))
    mass: FloatArray = np.asarray(pmf, dtype=np.float32) @ one_hot.astype(np.float32)
    return mass


def adience_label(low: npt.ArrayLike, high: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The group that the ends of a label name, ``[...]``, ``[...]`` -> ``[...]``; -1 for any other label.

    Only the owner's own labels count: a wider or narrower group may span two cells.
    """
    first, last = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    label = np.full(first.shape, -1, dtype=np.int64)
    for index, (start, end) in enumerate(ADIENCE_GROUPS):
        label[(first == start) & ((last == end) | ((start == 8) & (last == 12)))] = index
    return label
