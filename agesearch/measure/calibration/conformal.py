"""Split-conformal intervals from a model's own (Romano 2019), in cells of predicted age and group (Mondrian).

Notation: the model's own central interval of a face is [l, h], its true age y. The scores l - y and y - h
say by how much either end falls short. Of n calibration faces the k-th smallest score, with
k = ceil((n + 1)(1 - a/2)), is what that end is moved by: on exchangeable faces each end is then missed with a
probability of at most a/2. Both ends are calibrated apart: where a model answers too old, only the lower end
must move.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from agesearch.ages import MAX_AGE, FloatArray, expected_age
from agesearch.errors import InputError
from agesearch.measure.intervals import Values
from agesearch.models.calibration.record import GroupBy, Groups, IntervalCell, Intervals, own_interval

#: Cells are whole decades of predicted age, joined until they have so many faces (and as many as a level
#: needs): with 50, the coverage of a cell is within 6 points of its level two times in three.
CELL_FACES = 50
_DECADE = 10
#: Above every predicted age: the last cell has no end.
_BEYOND = float(MAX_AGE + 1)


def rank(faces: int, miss: float) -> int:
    """The k of the k-th smallest of n scores that is exceeded with a probability of at most ``miss``."""
    return math.ceil((faces + 1) * (1.0 - miss) - 1e-9)


def least_faces(level: float) -> int:
    """The fewest faces that have an interval of a level: with fewer, the rank lies beyond the last one."""
    return math.ceil(2.0 / (1.0 - level) - 1e-9) - 1


def conformal_offset(scores: npt.ArrayLike, miss: float) -> float:
    """The k-th smallest of ``scores`` ``[N]``; too few for ``miss`` are an ``InputError``."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    k = rank(len(ordered), miss)
    if k > len(ordered):
        raise InputError(
            f"{len(ordered)} faces are too few for an end that is missed {miss:.1%} of the time: it needs "
            f"{math.ceil(1.0 / miss - 1e-9) - 1}."
        )
    return float(ordered[k - 1])


def fit_intervals(
    pmf: FloatArray, age: Values, level: float, by: GroupBy | None = None, groups: Groups | None = None
) -> Intervals:
    """Intervals of a level from the PMFs ``[N, 101]`` and true ages ``[N]`` of calibration faces.

    ``groups`` ``[N]`` name the faces' groups of the kind ``by`` (None: unknown); a group without faces enough
    has no cells of its own. Fewer than ``least_faces`` are an ``InputError``.
    """
    if len(age) < least_faces(level):
        raise InputError(
            f"An interval of {level:.0%} needs {least_faces(level)} calibration faces, but there are "
            f"{len(age)}."
        )
    low, high = own_interval(pmf, level)
    scores = np.stack([low - age, age - high])
    estimate = expected_age(pmf).astype(np.float64)
    cells = list(_cells(estimate, scores, level, None))
    if by is not None and groups is not None:
        for name in sorted({group for group in groups if group is not None}):
            inside = groups == name
            if inside.sum() >= _enough(level):
                cells += _cells(estimate[inside], scores[:, inside], level, str(name))
    return Intervals(level=level, by=by, cells=tuple(cells))


def _enough(level: float) -> int:
    return max(CELL_FACES, least_faces(level))


def _cells(estimate: Values, scores: Values, level: float, group: str | None) -> Iterator[IntervalCell]:
    """Decades of predicted age, from the young on joined until each has faces enough; the last ones left join
    the cell before.
    """
    miss = (1.0 - level) / 2.0
    edges = _edges(estimate, _enough(level))
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        inside = (estimate >= first) & (estimate < last)
        below, above = (conformal_offset(side[inside], miss) for side in scores)
        yield IntervalCell(
            first=first, last=last, below=below, above=above, faces=int(inside.sum()), group=group
        )


def _edges(estimate: Values, enough: int) -> list[float]:
    edges = [0.0]
    for end in (*range(_DECADE, MAX_AGE, _DECADE), _BEYOND):
        if ((estimate >= edges[-1]) & (estimate < end)).sum() >= enough:
            edges.append(float(end))
    if len(edges) == 1:
        return [0.0, _BEYOND]
    return [*edges[:-1], _BEYOND]
