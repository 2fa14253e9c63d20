"""Errors as evaluators of age assurance ask for them: balanced, in the tails, by person, by size of the face,
and of those that a model is surest of (NIST FATE AEV; see ``agesearch.measure.accuracy`` for plain MAE).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agesearch.measure.decisions.faces import UNKNOWN, DecisionFaces
from agesearch.measure.decisions.rates import Counting, Rate
from agesearch.measure.decisions.rules import Mask, passes
from agesearch.measure.intervals import Estimate, Persons, Values, estimate
from agesearch.specs import Spec

#: The ages of NIST's balanced MAE, both included: with two sexes 26 cells.
NIST_AGES = (18, 30)
TAILS_YEARS = (10.0, 15.0)
_EYES = (0, 20, 40, 60, 90, 120)
_KEPT = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


class Balanced(Spec):
    """The mean of the MAEs of ``cells`` of sex and whole year of age, each counted once, in years."""

    cells: int
    faces: int
    estimate: Estimate | None


class EyesRow(Spec):
    """Faces with ``first <= pixels < last`` between their eyes in the photograph (``last`` None: or more)."""

    first: int
    last: int | None
    mae_years: Rate


class KeptRow(Spec):
    """The share of faces with the narrowest intervals: how wide these are at most, their MAE, and FPR and FNR
    of them alone.
    """

    kept: float
    width_years: float
    mae_years: Rate
    fpr: Rate
    fnr: Rate


class Accuracy(Spec):
    """Errors in years. ``balanced`` is over all ages, ``balanced_18_30`` NIST's; ``within_person_sd`` the
    mean over persons with several photographs of the SD of their errors; ``off_by_more`` the shares of faces
    off by more than so many years.
    """

    mae_years: Rate
    bias_years: Rate
    balanced: Balanced
    balanced_18_30: Balanced
    within_person_sd: Rate
    persons_seen_often: int
    off_by_more: dict[str, Rate]
    eyes: tuple[EyesRow, ...]
    abstention: tuple[KeptRow, ...]


def accuracy_of(faces: DecisionFaces, legal_age: float, challenge_age: float, counting: Counting) -> Accuracy:
    """All of these errors; the rates of the abstention curve are at a challenge age."""
    error = faces.predicted - faces.age
    everyone = np.ones(len(faces), dtype=bool)
    sd, seen = _within_person(error, faces.persons, counting)
    first, last = NIST_AGES
    young = (faces.age >= first) & (faces.age < last + 1)
    return Accuracy(
        mae_years=counting.mean(np.abs(error), everyone, faces.persons),
        bias_years=counting.mean(error, everyone, faces.persons),
        balanced=_balanced(faces, everyone, counting),
        balanced_18_30=_balanced(faces, young, counting),
        within_person_sd=sd,
        persons_seen_often=seen,
        off_by_more={
            f"{years:g}": counting.share(np.abs(error) > years, everyone, faces.persons)
            for years in TAILS_YEARS
        },
        eyes=tuple(_eyes(faces, np.abs(error), counting)),
        abstention=tuple(_abstention(faces, legal_age, challenge_age, counting)),
    )


def _balanced(faces: DecisionFaces, inside: Mask, counting: Counting) -> Balanced:
    """The MAE over cells of known sex and year. Its interval resamples persons on the linearised values
    (each error's part in its cell's mean), so that chance in the sizes of cells adds no spread.
    """
    inside = inside & (faces.sex != UNKNOWN)
    count = int(inside.sum())
    if count < max(counting.least, 1):
        return Balanced(cells=0, faces=count, estimate=None)
    year = np.floor(faces.age[inside]).astype(np.int64)
    _, cell = np.unique(year * 1000 + faces.sex.numbers[inside], return_inverse=True)
    error = np.abs(faces.predicted - faces.age)[inside]
    sizes = np.bincount(cell).astype(np.float64)
    means = np.bincount(cell, error) / sizes
    parts = means.mean() + count / (len(sizes) * sizes[cell]) * (error - means[cell])
    return Balanced(cells=len(sizes), faces=count, estimate=estimate(parts, faces.persons.take(inside)))


def _within_person(error: Values, persons: Persons, counting: Counting) -> tuple[Rate, int]:
    """The SD of errors, not of answers: whoever was photographed at several ages has grown older."""
    _, place = np.unique(persons.codes, return_inverse=True)
    faces = np.bincount(place)
    often = faces > 1
    sums, squares = np.bincount(place, error), np.bincount(place, error**2)
    variance = (squares[often] - sums[often] ** 2 / faces[often]) / (faces[often] - 1)
    seen = int(often.sum())
    if seen < 2:
        return Rate(faces=int(faces[often].sum())), seen
    found = estimate(np.sqrt(np.maximum(variance, 0.0)), Persons.each(seen))
    whole = int(faces[often].sum())
    return Rate(faces=whole, estimate=Estimate(found.value, found.low, found.high, whole, seen)), seen


def _eyes(faces: DecisionFaces, wrong: Values, counting: Counting) -> Iterator[EyesRow]:
    for first, last in zip(_EYES, (*_EYES[1:], None), strict=True):
        inside = np.asarray(faces.eyes >= first) & (last is None or faces.eyes < last)
        if inside.any():
            yield EyesRow(first=first, last=last, mae_years=counting.mean(wrong, inside, faces.persons))


def _abstention(
    faces: DecisionFaces, legal_age: float, challenge_age: float, counting: Counting
) -> Iterator[KeptRow]:
    width = faces.high - faces.low
    order = np.argsort(width, kind="stable")
    minors, passing = faces.age < legal_age, passes(faces.predicted, challenge_age)
    wrong = np.abs(faces.predicted - faces.age)
    for share in _KEPT:
        kept = np.zeros(len(faces), dtype=bool)
        kept[order[: max(1, round(share * len(faces)))]] = True
        yield KeptRow(
            kept=share,
            width_years=float(width[kept].max()),
            mae_years=counting.mean(wrong, kept, faces.persons),
            fpr=counting.share(passing, kept & minors, faces.persons),
            fnr=counting.share(~passing, kept & ~minors, faces.persons),
        )
