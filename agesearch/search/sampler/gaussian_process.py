"""What a search believes of trials that were not run: a Gaussian process in NumPy.

Notation:

- ``X [n, f]``: features of the trials that are known, ``x`` of one; column ``j`` belongs to group ``g(j)``;
- ``y [n]``: their targets (logarithms of errors), standardised inside to mean 0 and deviation 1;
- ``v [n]``: how uncertain each target is by itself, as a variance; that of a cut learning curve is large;
- ``l_g``: the length of group ``g``, over which the function changes; ``s``: the noise's share of variance;
- ``r^2(x, x') = sum_j ((x_j - x'_j) / l_g(j))^2``, and the kernel
  ``k(r) = (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)``: Matern 5/2 (Rasmussen & Williams 2006, eq. 4.17).

With ``K = k(X, X) + diag(s + v)``, a new ``x`` has the mean ``k(x, X) K^-1 y`` and the variance
``1 + s - k(x, X) K^-1 k(X, x)`` (eqs. 2.25, 2.26), the noise of one more training included.

``l`` and ``s`` are those of largest posterior density. Their priors are log-normal; that of the lengths
grows with the square root of their number, so that many dimensions do not drown the few that matter (Hvarfner
2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Steps of the search for lengths and noise; more change proposals little.
_STEPS = 15

#: Log-normal priors: the noise's share of the variance, and how far lengths and noise may stray.
_NOISE = math.log(0.05)
_JITTER = 1e-6


@dataclass(frozen=True)
class Lengths:
    """Length of each group of columns, and the share of the variance that is noise."""

    lengths: tuple[float, ...]
    noise: float


class GaussianProcess:
    """Conditioned on ``features [n, f]``, ``targets [n]`` and their own ``variance [n]`` in squared units of
    the targets; ``groups`` are the columns that share a length. ``lengths`` are fitted where they are not
    given.
    """

    def __init__(
        self,
        features: Array,
        targets: Array,
        variance: Array,
        groups: Sequence[slice],
        lengths: Lengths | None = None,
    ) -> None:
        self._features, self._groups = features, groups
        self._mean, self._scale = float(targets.mean()), max(float(targets.std()), 1e-6)
        known = (targets - self._mean) / self._scale
        extra = variance / self._scale**2
        self.lengths = lengths or _fitted(_distances(features, features, groups), known, extra)
        kernel = self._kernel(features, features)
        kernel[np.diag_indices_from(kernel)] += self.lengths.noise + extra + _JITTER
        self._lower, self._known = _cholesky(kernel), known
        self._weights = _solved(self._lower, known)

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation ``[m]`` of the targets of new rows ``[m, f]``, their noise included."""
        from scipy.linalg import solve_triangular

        kernel = self._kernel(features, self._features)
        mean = kernel @ self._weights
        spread = solve_triangular(self._lower, kernel.T, lower=True, check_finite=False)
        variance = 1.0 + self.lengths.noise - (spread * spread).sum(axis=0)
        deviation = np.sqrt(np.maximum(variance, self.lengths.noise))
        return self._mean + self._scale * mean, self._scale * deviation

    def left_out(self) -> Array:
        """``[n]``: what the other targets let expect of each (Rasmussen & Williams 2006, eq. 5.12)."""
        inverse = _solved(self._lower, np.eye(len(self._known)))
        return self._mean + self._scale * (self._known - self._weights / np.diag(inverse))

    def _kernel(self, rows: Array, columns: Array) -> Array:
        widths = np.empty(rows.shape[1])
        for group, length in zip(self._groups, self.lengths.lengths, strict=True):
            widths[group] = 1.0 / length
        return _matern(_squared(rows * widths, columns * widths))[0]


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


def _fitted(distances: Array, targets: Array, variance: Array) -> Lengths:
    """Lengths and noise of largest posterior density, from the prior's mode by L-BFGS."""
    from scipy.optimize import minimize

    groups = len(distances)
    centre = np.append(np.full(groups, math.log(0.6 * math.sqrt(groups))), _NOISE)
    flat = distances.reshape(groups, -1)
    found = minimize(
        lambda theta: _loss(theta, centre, flat, targets, variance),
        centre,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-3.0, 4.0)] * groups + [(-9.0, 1.0)],
        options={"maxiter": _STEPS},
    )
    return Lengths(tuple(np.exp(found.x[:-1]).tolist()), float(np.exp(found.x[-1])))


def _loss(theta: Array, centre: Array, flat: Array, targets: Array, variance: Array) -> tuple[float, Array]:
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
    away = theta - centre
    return value + 0.5 * float(away @ away), gradient + away


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
