"""Rates with intervals, and the cells of faces that they are told of: by year and decade of age, by sex, by
group, and by all of them.

Notation: L the legal age, T the challenge age, FPR_T the share of those below L that pass at T, FNR_T the
share of those of L or more that are refused at T. Ages count by their whole years.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from agesearch.data.dataset.texts import Texts
from agesearch.measure.decisions.faces import DecisionFaces
from agesearch.measure.decisions.rules import Mask, passes
from agesearch.measure.intervals import Estimate, Persons, Values, estimate, rate_estimate
from agesearch.specs import Spec

#: Years above the legal age that have a row of their own; older adults share one for each decade.
_ALONE_YEARS, _DECADE, _OLDEST = 12, 10, 120


class Rate(Spec):
    """A figure of so many ``faces``; ``estimate`` is None where they are too few to tell."""

    faces: int
    estimate: Estimate | None = None


class Cell(Spec):
    """The faces that share ``name`` (``by`` says what it is): FPR of its minors, FNR of its adults, and the
    mean signed error in years of all of them (positive: taken for older).
    """

    by: str
    name: str
    fpr: Rate
    fnr: Rate
    bias_years: Rate


@dataclass(frozen=True)
class Counting:
    """Makes rates; of fewer than ``least`` faces there is none."""

    least: int

    def share(self, hits: Mask, of: Mask, persons: Persons) -> Rate:
        """The share of hits ``[N]`` among the faces of a mask ``[N]``."""
        count = int(of.sum())
        if count < max(self.least, 1):
            return Rate(faces=count)
        return Rate(faces=count, estimate=rate_estimate(hits[of].astype(np.float64), persons.take(of)))

    def mean(self, values: Values, of: Mask, persons: Persons) -> Rate:
        """The mean of values ``[N]`` over the faces of a mask ``[N]``."""
        count = int(of.sum())
        if count < max(self.least, 1):
            return Rate(faces=count)
        return Rate(faces=count, estimate=estimate(values[of], persons.take(of)))


@dataclass(frozen=True)
class Named:
    """The faces of a cell ``[N]``, what they share, and how that is called."""

    by: str
    name: str
    faces: Mask


def cells(faces: DecisionFaces, legal_age: float, challenge_age: float, counting: Counting) -> list[Cell]:
    """FPR, FNR and bias at a challenge age: of all, by age, by sex, by group, by both, and by all of them."""
    minors = faces.age < legal_age
    passing = passes(faces.predicted, challenge_age)
    error = faces.predicted - faces.age
    return [
        Cell(
            by=cell.by,
            name=cell.name,
            fpr=counting.share(passing, cell.faces & minors, faces.persons),
            fnr=counting.share(~passing, cell.faces & ~minors, faces.persons),
            bias_years=counting.mean(error, cell.faces, faces.persons),
        )
        for cell in named_cells(faces, legal_age)
    ]


def named_cells(faces: DecisionFaces, legal_age: float) -> Iterator[Named]:
    """All cells that have a face, from the coarse to the fine."""
    yield Named("all", "all", np.ones(len(faces), dtype=bool))
    ages, groups = list(ages_of(faces.age, legal_age)), list(_groups(faces))
    yield from ages
    yield from decades_of(faces.age, legal_age)
    yield from groups
    finest = groups[-1].by if groups else ""
    for group in groups:
        for age in ages if group.by == finest else ():
            inside = group.faces & age.faces
            if inside.any():
                yield Named(f"{group.by} x age", f"{group.name}, {age.name}", inside)


def ages_of(age: Values, legal_age: float) -> Iterator[Named]:
    """Whole years near the legal age, decades beyond; no cell holds ages on both sides of it."""
    alone = math.ceil(legal_age) + _ALONE_YEARS
    decades = range(_DECADE * (alone // _DECADE + 1), _OLDEST + 1, _DECADE)
    yield from _between("age", age, {*map(float, range(alone + 1)), *map(float, decades), float(legal_age)})


def decades_of(age: Values, legal_age: float) -> Iterator[Named]:
    """Decades, the one of the legal age cut in two there: for sets with few faces of each year."""
    yield from _between("decade", age, {*map(float, range(0, _OLDEST + 1, _DECADE)), float(legal_age)})


def _between(by: str, age: Values, limits: set[float]) -> Iterator[Named]:
    edges = sorted(limits)
    for first, end in zip(edges[:-1], edges[1:], strict=True):
        inside = (age >= first) & (age < end)
        if inside.any():
            yield Named(by, _years(first, end), inside)


def _years(first: float, end: float) -> str:
    if not (first.is_integer() and end.is_integer()):
        return f"{first:g} to under {end:g}"
    return f"{first:g}" if end - first == 1 else f"{first:g}-{end - 1:g}"


def _groups(faces: DecisionFaces) -> Iterator[Named]:
    """By sex, by group, and by both, where there are several; faces of unknown ones are a cell, too."""
    sexes, groups = list(_by("sex", faces.sex)), list(_by("group", faces.group))
    yield from sexes if len(sexes) > 1 else ()
    yield from groups if len(groups) > 1 else ()
    if len(sexes) > 1 and len(groups) > 1:
        for sex in sexes:
            for group in groups:
                inside = sex.faces & group.faces
                if inside.any():
                    yield Named("sex x group", f"{sex.name}, {group.name}", inside)


def _by(by: str, names: Texts) -> Iterator[Named]:
    for name in sorted(str(name) for name in names.counts()):
        yield Named(by, name, names == name)
