"""The rules by which an estimate becomes a decision at a challenge age T.

Two answers: a face passes if and only if its estimate is at least T. Three answers, with an interval
[low, high]: *pass* where low >= T, *refuse* where high < T, else *unsure*, which means another way of proving
one's age. Ages are compared as they are told, to a hundredth of a year, so that anybody can decide again from
an answer; a true age of exactly the legal age L is an adult's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from agesearch.ages import MAX_AGE
from agesearch.errors import InputError

Decision = Literal["pass", "refuse", "unsure"]

#: The age of majority nearly everywhere: only those below it are called minors.
_MAJORITY = 18

#: To so many digits ages are told and compared.
DIGITS = 2

Ages = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Sides(NamedTuple):
    """What people below an age limit are called, and those who have reached it."""

    below: str
    reached: str


def require_ages(legal_age: float, challenge_age: float | None) -> None:
    """Refuse ages that are none, and a challenge age below the legal age, with an ``InputError``."""
    for name, age in (("--legal-age", legal_age), ("--challenge", challenge_age)):
        if age is not None and not 0.0 < age <= MAX_AGE:
            raise InputError(f"{name} is {age:g}, but must be an age above 0 and at most {MAX_AGE} years.")
    if challenge_age is not None and challenge_age < legal_age:
        raise InputError(
            f"--challenge is {challenge_age:g}, below --legal-age {legal_age:g}: people who look too young "
            f"would pass. Give {legal_age:g} or more."
        )


def sides(legal_age: float) -> Sides:
    """In a sentence: ``minors`` and ``adults`` where the limit is the age of majority, else ``people under
    40`` and ``people of 40 or more``.
    """
    if legal_age == _MAJORITY:
        return Sides("minors", "adults")
    return Sides(f"people under {legal_age:g}", f"people of {legal_age:g} or more")


def short_sides(legal_age: float) -> Sides:
    """The same where there is little room: ``minors``, ``under 40``."""
    if legal_age == _MAJORITY:
        return sides(legal_age)
    return Sides(f"under {legal_age:g}", f"{legal_age:g} or older")


def told(ages: npt.ArrayLike) -> Ages:
    """Ages in years as answers tell them."""
    return np.asarray(np.round(np.asarray(ages, dtype=np.float64), DIGITS), dtype=np.float64)


def passes(estimate: npt.ArrayLike, challenge_age: float) -> Mask:
    """Whether each estimate ``[...]`` passes, where there are two answers."""
    return np.asarray(told(estimate) >= challenge_age)


def decide(low: float, high: float, challenge_age: float) -> Decision:
    """The answer for a face with the interval ``low..high`` in years."""
    if told(low) >= challenge_age:
        return "pass"
    return "refuse" if told(high) < challenge_age else "unsure"


def decisions(low: npt.ArrayLike, high: npt.ArrayLike, challenge_age: float) -> dict[Decision, Mask]:
    """Which of N faces get which answer: three masks ``[N]``, one of which holds for each face."""
    passing, refused = told(low) >= challenge_age, told(high) < challenge_age
    return {"pass": passing, "refuse": refused & ~passing, "unsure": ~(passing | refused)}
