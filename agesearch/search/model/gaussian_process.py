"""What a search believes of trials that were not run: a Gaussian process in NumPy.

Notation:

- ``X [n, f]``: features of the trials that are known, ``x`` of one; column ``j`` belongs to group ``g(j)``;
- ``y [n]``: their targets (logarithms of errors), standardised inside to mean 0 and deviation 1;
- ``v [n]``: how uncertain each target is by itself, as a variance; that of a cut learning curve is large;
- ``l_g``: the length of group ``g``, over which the function changes; ``s``: the noise's share of variance;
- ``m [n]``: what is expected of each target beforehand, centred and of deviation 1 over the space, or 0;
- ``r^2(x, x') = sum_j ((x_j - x'_j) / l_g(j))^2``, and the kernel
  ``k(r) = (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)``: Matern 5/2 (Rasmussen & Williams 2006, eq. 4.17).

With ``K = k(X, X) + diag(s + v)``, a new ``x`` has the mean ``k(x, X) K^-1 y`` and the variance
``1 + s - k(x, X) K^-1 k(X, x)`` (eqs. 2.25, 2.26), the noise of one more training included, and without
``s`` that of its expectation.

Where something is expected, ``y = b m + f``: the slope ``b`` is normal about ``_SLOPE`` with the deviation
``_SLOPE_DEVIATION`` (a basis function with a vague prior, section 2.7), and ``f`` is as above but has only
``_REST`` of the variance. The deviation that targets are divided by is then drawn towards ``_DEVIATION``, as
if so many more targets had it: two or three tell little of it.

``l`` and ``s`` are those of largest posterior density, by log-normal priors
(``agesearch.search.model.length_priors``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.search.model.length_priors import LengthPriors

Array = npt.NDArray[np.float64]

#: What is known of a slope of what is expected; the variance that it leaves.
_SLOPE, _SLOPE_DEVIATION, _REST = 0.6, 0.3, 0.64

#: The deviation of logarithms of errors over a space (0.06 to 0.14 in the tables of ``reports/search``), and
#: how many targets that counts as.
_DEVIATION, _AS_MANY = 0.12, 4

#: Steps of the search for lengths and noise; more change proposals little.
_STEPS = 15

_JITTER = 1e-6

#: Targets without which lengths are the likeliest of the priors.
_LEAST = 3


@dataclass(frozen=True)
class Lengths:
    """Length of each group of columns, and the share of the variance that is noise."""

    lengths: tuple[float, ...]
    noise: float


class GaussianProcess:
    """Conditioned on ``features [n, f]``, ``targets [n]`` and their own ``variance [n]`` in squared units of
    the targets; ``groups`` are the columns that share a length, and a column behind them holds what is
    expected. ``lengths`` are fitted where they are not given, after the ``priors``: those of dimensions that
    nothing is known of where these are not given. Without targets it says what is expected.
    """

    def __init__(
        self,
        features: Array,
        targets: Array,
        variance: Array,
        groups: Sequence[slice],
        lengths: Lengths | None = None,
        priors: LengthPriors | None = None,
    ) -> None:
        self._features, self._groups = features, groups
        self._columns = groups[-1].stop
        expects = features.shape[1] > self._columns
        self._slope, self._slope_variance = (_SLOPE, _SLOPE_DEVIATION**2) if expects else (0.0, 0.0)
        self._rest = _REST if expects else 1.0
        self._scale = _deviation(targets, _AS_MANY if expects else 0)
        away = targets / self._scale - self._beforehand(features)
        self._mean = float(away.mean()) if len(away) else 0.0
        self._known = away - self._mean
        self._extra = variance / self._scale**2
        priors = priors or LengthPriors.of([""] * len(groups))
        self.lengths = lengths or _fitted(
            _distances(features, features, groups),
            self._known / math.sqrt(self._rest),
            self._extra / self._rest,
            priors,
        )
        self._condition()

    def believing(self, features: Array) -> GaussianProcess:
        """The same, were rows ``[m, f]`` known to turn out as expected: nothing is expected otherwise, but
        what is near them is surer (the Kriging believer of Ginsbourger 2010).
        """
        believed = copy(self)
        believed._known = np.append(self._known, self._kernel(features, self._features) @ self._weights)
        believed._extra = np.append(self._extra, np.zeros(len(features)))
        believed._features = np.vstack([self._features, features])
        believed._condition()
        return believed

    def predict(self, features: Array, *, noisy: bool = True) -> tuple[Array, Array]:
        """Mean and standard deviation ``[m]`` of the targets of new rows ``[m, f]``, their noise included
        where ``noisy``.
        """
        from scipy.linalg import solve_triangular

        kernel = self._kernel(features, self._features)
        mean = self._mean + self._beforehand(features) + kernel @ self._weights
        variance = np.full(len(features), self._rest)
        if self._slope_variance:
            variance += self._slope_variance * features[:, -1] ** 2
        if len(self._known):
            spread = solve_triangular(self._lower, kernel.T, lower=True, check_finite=False)
            variance -= (spread * spread).sum(axis=0)
        noise = self._rest * self.lengths.noise if noisy else 0.0
        deviation = np.sqrt(np.maximum(variance + noise, max(noise, _JITTER)))
        return self._scale * mean, self._scale * deviation

    def left_out(self) -> Array:
        """``[n]``: what the other targets let expect of each (Rasmussen & Williams 2006, eq. 5.12)."""
        if not len(self._known):
            return self._known
        inverse = _solved(self._lower, np.eye(len(self._known)))
        away = self._known - self._weights / np.diag(inverse)
        found: Array = self._scale * (self._mean + self._beforehand(self._features) + away)
        return found

    def _condition(self) -> None:
        if not len(self._known):
            self._weights = self._known
            return
        kernel = self._kernel(self._features, self._features)
        kernel[np.diag_indices_from(kernel)] += self._rest * self.lengths.noise + self._extra + _JITTER
        self._lower = _cholesky(kernel)
        self._weights = _solved(self._lower, self._known)

    def _kernel(self, rows: Array, columns: Array) -> Array:
        widths = np.zeros(rows.shape[1])
        for group, length in zip(self._groups, self.lengths.lengths, strict=True):
            widths[group] = 1.0 / length
        kernel = _matern(_squared(rows * widths, columns * widths))[0]
        if self._slope_variance:
            kernel *= self._rest
            kernel += (self._slope_variance * rows[:, -1:]) * columns[:, -1]
        return kernel

    def _beforehand(self, features: Array) -> Array:
        """What is expected before anything is known, in deviations and but for the level."""
        return self._slope * features[:, -1] if self._slope else np.zeros(len(features))


def _deviation(targets: Array, drawn: int) -> float:
    """The deviation of targets, drawn towards ``_DEVIATION`` as if ``drawn`` more had it."""
    squares = float(((targets - targets.mean()) ** 2).sum()) if len(targets) else 0.0
    return max(math.sqrt((squares + drawn * _DEVIATION**2) / max(len(targets) + drawn, 1)), 1e-6)


def single_threaded() -> AbstractContextManager[Any]:
    """One thread for NumPy's and SciPy's linear algebra: on a few hundred trials more of them only wait for
    each other, on a machine whose cores train students for 30 ms in place of 1.
    """
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limited


@cache
def _libraries() -> Any:
    import scipy.linalg  # noqa: F401 - so that its library is among those found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _fitted(distances: Array, targets: Array, variance: Array, priors: LengthPriors) -> Lengths:
    """Lengths and noise of largest posterior density, from the prior's mode by L-BFGS."""
    from scipy.optimize import minimize

    if len(targets) < _LEAST:
        middles = np.exp(priors.middles).tolist()
        return Lengths(tuple(middles[:-1]), middles[-1])
    groups = len(distances)
    flat = distances.reshape(groups, -1)
    found = minimize(
        lambda theta: _loss(theta, priors, flat, targets, variance),
        np.array(priors.middles),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-3.0, 4.0)] * groups + [(-9.0, 1.0)],
        options={"maxiter": _STEPS},
    )
    return Lengths(tuple(np.exp(found.x[:-1]).tolist()), float(np.exp(found.x[-1])))


def _loss(
    theta: Array, priors: LengthPriors, flat: Array, targets: Array, variance: Array
) -> tuple[float, Array]:
    """Minus the log posterior density of the logarithms of lengths and noise, and its gradient."""
    count = len(targets)
    inverse = np.exp(-2.0 * theta[:-1])
    kernel, slope = _matern((inverse @ flat).reshape(count, count))
    noise = math.exp(theta[-1])
    kernel[np.diag_indices_from(kernel)] += noise + variance + _JITTER
    lower = _cholesky(kernel)
    inverted = _solved(lower, np.eye(count))
    weights = inverted @ targets
    pull = np.outer(weights, weights) - inverted
    gradient = np.append(
        -0.5 * (flat @ (pull * slope).ravel()) * inverse, -0.5 * noise * float(np.trace(pull))
    )
    value = 0.5 * float(targets @ weights) + float(np.log(np.diag(lower)).sum())
    deviations = np.array(priors.deviations)
    away = (theta - np.array(priors.middles)) / deviations
    return value + 0.5 * float(away @ away), gradient + away / deviations


def _matern(squared: Array) -> tuple[Array, Array]:
    """The kernel of scaled squared distances, and minus twice its slope by them."""
    root = np.sqrt(5.0 * squared + 1e-18)
    decay = np.exp(-root)
    return (1.0 + root + root * root / 3.0) * decay, (5.0 / 3.0) * (1.0 + root) * decay


def _distances(rows: Array, columns: Array, groups: Sequence[slice]) -> Array:
    """``[groups, n, m]``: squared distance of each pair within each group."""
    return np.stack([_squared(rows[:, group], columns[:, group]) for group in groups])


def _squared(rows: Array, columns: Array) -> Array:
    lengths = (rows * rows).sum(axis=1)[:, None] + (columns * columns).sum(axis=1)[None, :]
    found: Array = np.maximum(lengths - 2.0 * rows @ columns.T, 0.0)
    return found


def _cholesky(kernel: Array) -> Array:
    return np.asarray(np.linalg.cholesky(kernel), dtype=np.float64)


def _solved(lower: Array, right: Array) -> Array:
    from scipy.linalg import cho_solve

    found: Array = cho_solve((lower, True), right, check_finite=False)
    return found
