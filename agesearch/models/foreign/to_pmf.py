"""From what a network says of an age (a number, probabilities of ages, of age groups) to a PMF over 0..100.

Each is an exact function with NumPy alone; see ``agesearch.ages`` for the axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agesearch.ages import AGES, BINS, MAX_AGE, FloatArray, group_pmf

_HALVINGS = 60
_YEARS = AGES.astype(np.float64)


def scalar_pmf(age: npt.ArrayLike, spread: float) -> FloatArray:
    """The discrete Gaussian of width ``spread`` whose expectation is ``age``: ``[N]`` years -> ``[N, 101]``.

    In the middle of the axis that is the plain Gaussian around the age. Near an end the cut axis would pull
    the expectation inwards, so the centre moves outwards until the expectation is the age again; ages outside
    0..100 count as the end.
    """
    wanted = np.clip(np.asarray(age, dtype=np.float64), 0.0, MAX_AGE)[:, None]
    # At the bracket's ends all but 1e-4 of the mass lies in one bin, so every age has its centre inside.
    reach = 10.0 * spread**2 + 10.0
    low, high = np.full_like(wanted, -reach), np.full_like(wanted, MAX_AGE + reach)
    centre = wanted.copy()
    for _ in range(_HALVINGS):
        pmf = _gaussian(centre, spread)
        mean = (pmf @ _YEARS)[:, None]
        if np.abs(mean - wanted).max(initial=0.0) < 1e-6:
            break
        low, high = np.where(mean < wanted, centre, low), np.where(mean < wanted, high, centre)
        centre = (low + high) / 2
    return _gaussian(centre, spread).astype(np.float32)


def ages_matrix(ages: Sequence[float]) -> FloatArray:
    """``[K, 101]``: the share of each given age's mass that each bin gets, so that means are kept.

    An age between two bins is split between them; one outside 0..100 counts as the end.
    """
    years = np.clip(np.asarray(ages, dtype=np.float64), 0.0, MAX_AGE)
    matrix: FloatArray = np.maximum(1.0 - np.abs(years[:, None] - _YEARS), 0.0).astype(np.float32)
    return matrix


def groups_matrix(groups: Sequence[tuple[int, int]]) -> FloatArray:
    """``[K, 101]``: each group's mass, even over its ages."""
    low, high = np.asarray(groups).T
    return group_pmf(low, high)


def softmax(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Softmax over the last axis: ``[..., K]`` -> float64 ``[..., K]``."""
    values = np.asarray(logits, dtype=np.float64)
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    mass: npt.NDArray[np.float64] = raised / raised.sum(axis=-1, keepdims=True)
    return mass


def mixture(pmfs: Sequence[FloatArray], shares: Sequence[float]) -> FloatArray:
    """The mixture of PMFs ``[N, 101]`` each, by shares that sum to one.

    Its mean is the mean of the means; its variance is the mean variance plus the variance of the means, so
    that teachers who disagree are unsure together.
    """
    total = np.zeros(pmfs[0].shape, dtype=np.float64)
    for pmf, share in zip(pmfs, shares, strict=True):
        total += share * pmf
    mixed: FloatArray = (total / total.sum(axis=-1, keepdims=True)).astype(np.float32)
    return mixed


def _gaussian(centre: npt.NDArray[np.float64], spread: float) -> npt.NDArray[np.float64]:
    """``[N, 1]`` -> ``[N, 101]``, with the axis' nearest bin as reference, so that nothing underflows."""
    exponent = -0.5 * ((_YEARS - centre) / spread) ** 2
    assert exponent.shape[-1] == BINS
    return softmax(exponent)
