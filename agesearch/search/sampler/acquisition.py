"""How much a trial is worth before it is run, where its latency is known and only its error is not.

A trial at latency ``l`` with error ``e`` adds to the front's hypervolume the area between ``e`` and the front
over the latencies from ``l`` to the reference. The front is a staircase there, so the area is a sum over
its steps of ``width * max(0, level - e)``. With the error log-normal, each term's expectation has a closed
form, that of Black & Scholes (1973) for a put, and the expected hypervolume improvement (Emmerich 2006) is
exact: no sampling, and linear in the front's length.
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
