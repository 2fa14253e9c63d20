"""Which trials nobody beats: the Pareto front, its knee, and the area it dominates.

Points are rows of objectives, all minimised. Points with a value that is not finite never count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agesearch.errors import InputError

Points = npt.ArrayLike


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether ``first`` is nowhere worse than ``second`` and somewhere better."""
    pairs = list(zip(first, second, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def front(points: Points) -> list[int]:
    """Indices of the points that no other point dominates, by rising first objective, then by index.

    ``[n, d]`` -> at most ``n`` indices. Equal points are all kept. O(n log n) for two objectives (a sweep
    over the points sorted by the first), O(n * front) beyond.
    """
    values = _as_points(points)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    order = finite[np.lexsort(values[finite].T[::-1])]
    if values.shape[1] == 2:
        return _sweep(values, order)
    kept: list[int] = []
    for index in order:  # lexicographic order: nothing that comes later dominates what came before
        earlier = values[kept]
        beaten = (earlier <= values[index]).all(axis=1) & (earlier < values[index]).any(axis=1)
        if not beaten.any():
            kept.append(int(index))
    return kept


def _sweep(values: npt.NDArray[np.float64], order: npt.NDArray[np.intp]) -> list[int]:
    """A point is kept where its second objective is below all before it; its equals, beside it, are too."""
    if not len(order):
        return []
    points = values[order]
    lowest = np.minimum.accumulate(points[:, 1])
    first = np.append(True, (points[1:] != points[:-1]).any(axis=1))
    below = np.append(True, points[1:, 1] < lowest[:-1])
    kept: list[int] = order[below[np.flatnonzero(first)][np.cumsum(first) - 1]].tolist()
    return kept


def knee(errors: Sequence[float], latencies: Sequence[float]) -> int:
    """Index of the front's knee: where one more millisecond stops paying.

    The usual definition (Das 1999): the point of the front that lies farthest below the chord between its two
    ends, with the error and the logarithm of the latency each scaled to 0..1 over the front. A front that
    bulges the other way, or has only two points, has no such point: then the end with the smaller error.
    """
    values = np.column_stack([np.asarray(errors, float), np.log(np.asarray(latencies, float))])
    kept = front(values)
    if not kept:
        raise InputError("A knee needs at least one trial with a finite error and a positive latency.")
    ends = values[kept]
    span = np.ptp(ends, axis=0)
    scaled = (ends - ends.min(axis=0)) / np.where(span > 0, span, 1.0)
    below = 1.0 - scaled.sum(axis=1)
    # The front rises in error: index 0 is its most accurate end, which keeps ties.
    return kept[int(np.argmax(np.where(below > 1e-9, below, 0.0)))]


def hypervolume(points: Points, reference: Sequence[float]) -> float:
    """Area between the front of ``[n, 2]`` points and the reference point (Zitzler 1999); 0 for no points.

    Points that are not below the reference in both objectives add nothing.
    """
    if len(reference) != 2:
        raise InputError(f"The reference point has {len(reference)} objectives, but must have 2.")
    values = _as_points(points, 2)
    inside = values[(values < np.asarray(reference, float)).all(axis=1)]
    area, ceiling = 0.0, float(reference[1])
    for index in front(inside):
        first, second = inside[index]
        area += (reference[0] - first) * (ceiling - second)
        ceiling = second
    return float(area)


def _as_points(points: Points, objectives: int | None = None) -> npt.NDArray[np.float64]:
    values = np.asarray(points, dtype=np.float64)
    if values.size == 0:
        return values.reshape(0, objectives or 2)
    if values.ndim != 2 or values.shape[1] < 2 or (objectives and values.shape[1] != objectives):
        raise InputError(
            f"Points must be rows of {objectives or 'two or more'} objectives, not {values.shape}."
        )
    return values
