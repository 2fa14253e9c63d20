"""How much a trial is worth before it is run, where its latency is known and only its error is not.

Notation:

- ``e``: the trial's error in years, log-normal: ``log e ~ N(m, s^2)``; ``l``: its latency in ms, known;
- the front is a staircase: from latency ``a_j`` to ``a_j+1`` the smallest error is ``h_j`` (``staircase``);
  ``h_0`` and the last ``a`` are those of the reference point, beyond which nothing counts;
- ``w_j = max(0, a_j+1 - max(a_j, l))``: how much of step ``j`` lies at latencies of at least ``l``.

The trial adds the area between ``e`` and the front from ``l`` on, in years x ms: ``sum_j w_j max(0, h_j -
e)``. The expectation of each term has a closed form, that of Black & Scholes (1973) for a put: with ``d =
(log h_j - m) / s`` it is ``h_j Phi(d) - exp(m + s^2 / 2) Phi(d - s)``. So the expected hypervolume
improvement (Emmerich 2006) is exact: no sampling, and linear in the front's length.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from agesearch.search.store.pareto import front

Array = npt.NDArray[np.float64]
Point = tuple[float, float]


def expected_improvement(
    log_mean: Array, log_deviation: Array, latencies: Array, points: Iterable[Point], reference: Point
) -> Array:
    """Expected gain in hypervolume (years x ms) of each trial ``[n]``.

    The logarithm of a trial's error is normal with ``log_mean`` and ``log_deviation``, its latency is known.
    ``points`` and ``reference`` are (error, latency); points beyond the reference do not count.
    """
    edges, levels = staircase(points, reference)
    widths = np.maximum(edges[None, 1:] - np.maximum(edges[None, :-1], latencies[:, None]), 0.0)
    mean, deviation = log_mean[:, None], np.maximum(log_deviation, 1e-12)[:, None]
    return (widths * _shortfall(levels[None, :], mean, deviation)).sum(axis=1)  # type: ignore[no-any-return]


def staircase(points: Iterable[Point], reference: Point) -> tuple[Array, Array]:
    """The smallest error so far, by latency: ``levels[j]`` from ``edges[j]`` to ``edges[j + 1]``.

    The first step, from latency 0, is the reference's error; the last edge is the reference's latency.
    """
    inside = [point for point in points if point[0] < reference[0] and point[1] < reference[1]]
    steps = sorted({inside[index] for index in front(inside)}, key=lambda point: point[1]) if inside else []
    edges = [0.0, *(latency for _, latency in steps), reference[1]]
    return np.array(edges), np.array([reference[0], *(error for error, _ in steps)])


def reference_beyond(points: npt.ArrayLike) -> Point:
    """(error, latency): a tenth of the front's extent beyond its nadir (Ishibuchi 2018)."""
    values = np.asarray(points, dtype=np.float64)
    ends = values[front(values)]
    low, high = ends.min(axis=0), ends.max(axis=0)
    beyond = high + 0.1 * np.where(high > low, high - low, high)
    return float(beyond[0]), float(beyond[1])


def _shortfall(level: Array, log_mean: Array, log_deviation: Array) -> Array:
    """E[max(0, level - e)] for log e normal."""
    from scipy.special import ndtr

    away = (np.log(level) - log_mean) / log_deviation
    partial = np.exp(log_mean + log_deviation**2 / 2) * ndtr(away - log_deviation)
    return np.maximum(level * ndtr(away) - partial, 0.0)  # type: ignore[no-any-return]
