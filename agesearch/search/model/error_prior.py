"""What earlier studies let expect of a student's error before any of its study is trained.

Errors of trainings that nobody has seen yet are no blank page: slower networks have smaller ones, networks
that start from trained weights much smaller ones, and the learning rate has a best value. A quadratic in

- ``r``: the logarithm of the learning rate over 0.003,
- ``a``: the strength of augmentation less 0.75,
- ``l``: the logarithm of the latency over the median of the study's networks,
- ``w``: 1 where the network starts from trained weights, else 0

was fitted by ridge regression to the logarithm of the best error of all configurations of the tables in
``reports/search``, within each table centred and scaled to deviation 1, each table of the same weight. What
it says stands as the mean of the Gaussian process of a study (a learnt prior, as in HyperBO, Wang 2021),
whose own trials say how far it holds: ``agesearch.search.model.gaussian_process``. ``reports/search`` has
what it is worth on tables that it was not learnt from, and ``agesearch replay --left-out`` shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: The fields of a student that it reads, and the value at which each counts as 0.
RATE, STRENGTH = "optim.learning_rate", "augment.strength"
_USUAL_RATE, _USUAL_STRENGTH = 0.003, 0.75

#: Values beyond those that were seen count as the nearest of these: a square does not hold far away.
_SEEN = {"r": (-2.5, 2.0), "a": (-0.75, 1.0), "l": (-2.0, 2.0)}

TERMS = ("r", "r^2", "a", "a^2", "r a", "l", "l^2", "w", "w r")

#: Of the ridge, where the loss is summed over configurations and each table counts as if all were as large.
_RIDGE = 10.0


@dataclass(frozen=True)
class ErrorPrior:
    """The weight of each of ``TERMS``."""

    weights: tuple[float, ...]

    def expected(self, terms: Array) -> Array:
        """``terms [n, t]`` -> the expected logarithm of the error ``[n]``, in deviations and but for its
        level.
        """
        found: Array = terms @ np.array(self.weights)
        return found

    @classmethod
    def learnt(cls, tables: Sequence[tuple[Array, Array]]) -> ErrorPrior:
        """From tables: terms ``[n, t]`` and logarithms of errors ``[n]`` of each."""
        rows, targets, shares = [], [], []
        for terms, errors in tables:
            rows.append(terms - terms.mean(axis=0))
            targets.append((errors - errors.mean()) / max(float(errors.std()), 1e-9))
            shares.append(np.full(len(errors), 1.0 / len(errors)))
        every, share = np.vstack(rows), np.concatenate(shares)
        share *= len(every) / len(tables)
        scale = np.maximum(every.std(axis=0), 1e-9)
        unit = every / scale
        products = (unit * share[:, None]).T @ unit + _RIDGE * np.eye(unit.shape[1])
        found = np.linalg.solve(products, unit.T @ (share * np.concatenate(targets))) / scale
        return cls(tuple(np.round(found, 3).tolist()))


#: Learnt from all tables of ``reports/search``, as ``reports/search/prior.py`` prints it.
TABLES = ErrorPrior((-0.305, 0.169, 0.545, 0.572, 0.26, -0.67, 0.21, -1.024, 0.787))


def terms_of(rate: Array, strength: Array, latency: Array, started: Array) -> Array:
    """``[n, t]``: learning rates, strengths, logarithms of latencies less their middle, and marks of trained
    weights, ``[n]`` each.
    """
    r = np.clip(np.log(rate / _USUAL_RATE), *_SEEN["r"])
    a = np.clip(strength - _USUAL_STRENGTH, *_SEEN["a"])
    away = np.clip(latency, *_SEEN["l"])
    return np.stack([r, r * r, a, a * a, r * a, away, away * away, started, started * r], axis=1)
