"""The buffer that a target rate costs: T*(a), the smallest challenge age whose worst cell lets at most a
share a of its minors pass.

Cells are all minors, each year and decade of age, each sex and group, and all of these together: of those
with faces enough. Ages are told in hundredths, so T* is exact: a hundredth lower, and some cell lets more
pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from agesearch.ages import MAX_AGE
from agesearch.measure.decisions.faces import DecisionFaces
from agesearch.measure.decisions.rates import Counting, Named, Rate, named_cells
from agesearch.measure.decisions.rules import passes
from agesearch.measure.intervals import Estimate, Values, rate_estimate
from agesearch.specs import Spec

#: Target rates that are told beside the one asked for.
TARGETS = (0.2, 0.1, 0.05, 0.02, 0.01)
_HUNDREDTH = 0.01


class Buffer(Spec):
    """What a target rate costs. ``challenge_age`` is T* in years (None: no age reaches it), with the ends of
    its 95 % interval: the ages at which the worst cell's own interval begins and ends to hold the rate (None:
    none does; too few faces show so small a rate). ``years`` is T* less the legal age, ``adults_refused`` FNR
    at T*, ``minors_passing`` FPR of all minors there.
    """

    max_fpr: float
    challenge_age: float | None
    low: float | None
    high: float | None
    worst_cell: str
    worst_faces: int
    years: float | None
    adults_refused: Rate
    minors_passing: Rate


def buffers(
    faces: DecisionFaces, legal_age: float, targets: Sequence[float], counting: Counting
) -> list[Buffer]:
    """The buffer of each target rate, the mildest first; none where minors are too few."""
    minors = faces.age < legal_age
    found = [
        cell
        for cell in named_cells(faces.take(minors), legal_age)
        if cell.faces.sum() >= max(counting.least, 1)
    ]
    if not found:
        return []
    young = faces.take(minors)
    return [
        _buffer(faces, young, found, legal_age, target, counting)
        for target in sorted(set(targets), reverse=True)
    ]


def challenge_age_of(estimates: Values, max_fpr: float) -> float | None:
    """The smallest T, in hundredths of a year, at which at most a share of ``estimates`` ``[N]`` pass; None
    where that is above 100.
    """
    ordered = np.sort(estimates)[::-1]
    may_pass = math.floor(max_fpr * len(ordered) + 1e-9)
    if may_pass >= len(ordered):
        return 0.0
    needed = round(float(ordered[may_pass]) + _HUNDREDTH, 2)
    return needed if needed <= MAX_AGE else None


def _buffer(
    faces: DecisionFaces,
    young: DecisionFaces,
    found: Sequence[Named],
    legal_age: float,
    target: float,
    counting: Counting,
) -> Buffer:
    reach = [challenge_age_of(young.predicted[cell.faces], target) for cell in found]
    at = int(np.argmax([math.inf if age is None else age for age in reach]))
    age, worst = reach[at], found[at]
    ends = _ends(young.take(worst.faces), target)
    passing = passes(faces.predicted, math.inf if age is None else age)
    minors = faces.age < legal_age
    return Buffer(
        max_fpr=target,
        challenge_age=age,
        low=None if age is None or ends[0] is None else min(ends[0], age),
        high=None if age is None or ends[1] is None else max(ends[1], age),
        worst_cell=worst.name if worst.by == "all" else f"{worst.by}: {worst.name}",
        worst_faces=int(worst.faces.sum()),
        years=None if age is None else round(age - legal_age, 2),
        adults_refused=counting.share(~passing, ~minors, faces.persons),
        minors_passing=counting.share(passing, minors, faces.persons),
    )


def _ends(cell: DecisionFaces, target: float) -> tuple[float | None, float | None]:
    """The smallest ages from which on the cell's rate, at the lower and the upper end of its interval, is at
    most the target.
    """

    def rate(age: float) -> Estimate:
        return rate_estimate(passes(cell.predicted, age).astype(np.float64), cell.persons)

    steps = np.unique(np.round(np.append(cell.predicted, 0.0) + _HUNDREDTH, 2))
    low = _first(steps, lambda age: rate(age).low <= target)
    return low, _first(steps, lambda age: rate(age).high <= target)


def _first(steps: Values, holds: Callable[[float], bool]) -> float | None:
    """The first of rising ``steps`` from which on something holds, by halving; None where it never does."""
    if not holds(float(steps[-1])):
        return None
    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(float(steps[middle])) else (middle + 1, high)
    return float(steps[low])
