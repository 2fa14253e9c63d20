"""How honest intervals are: the share of true ages that they hold, and their width, by decade of age."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agesearch.ages import decade_end, decade_of
from agesearch.measure.intervals import Estimate, Persons, Values, rate_estimate
from agesearch.specs import Spec


class CoverageRow(Spec):
    """Faces whose true age lies in ``first..last`` years: the share of them inside their interval, and the
    mean width of the intervals in years.
    """

    first: int
    last: int
    coverage: Estimate
    width_years: float


class Coverage(Spec):
    """The same of all faces, and by decade of true age."""

    coverage: Estimate
    width_years: float
    decades: tuple[CoverageRow, ...]


def coverage_of(low: Values, high: Values, age: Values, persons: Persons) -> Coverage:
    """From interval ends and true ages ``[N]`` in years; an age on an end is inside."""
    held = inside(low, high, age)
    width = high - low
    return Coverage(
        coverage=rate_estimate(held, persons),
        width_years=float(width.mean()),
        decades=tuple(_decades(held, width, age, persons)),
    )


def inside(low: Values, high: Values, age: Values) -> Values:
    """1 for each true age inside its interval, ends included, else 0."""
    return ((low <= age) & (age <= high)).astype(np.float64)


def _decades(held: Values, width: Values, age: Values, persons: Persons) -> Iterator[CoverageRow]:
    decade = decade_of(age)
    for first in np.unique(decade):
        own = decade == first
        yield CoverageRow(
            first=int(first),
            last=int(decade_end(first)),
            coverage=rate_estimate(held[own], persons.take(own)),
            width_years=float(width[own].mean()),
        )
