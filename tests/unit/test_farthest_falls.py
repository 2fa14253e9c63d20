"""How far a curve may still fall, by what others did from where it stands."""

from __future__ import annotations

import math

import pytest

from agesearch.search.stopping.falls import FarthestFalls
from agesearch.search.stopping.rungs import LearningCurve


def _curve(*errors: float) -> LearningCurve:
    return LearningCurve.of(0, 1.0, len(errors), errors)


_EARLY = _curve(10.0, 7.0, 5.5, 5.2, 5.1, 5.0)
_FLAT = _curve(*[10.0] * 6)
_BEYOND_TWO = 1.0 + 2.0 / math.sqrt(2.0)


@pytest.mark.parametrize(
    ("share", "error", "start", "end"),
    [
        (0.5, 10.0, 10.0, 5.2),  # three epochs are left: as the early one fell in any three
        (1 / 6, 10.0, 10.0, 5.0),
        (0.5, 5.5, 5.5, 5.0),  # who stands low falls as others did from there
        (5 / 6, 10.0, 10.0, 7.0),
    ],
)
def test_a_late_curve_may_fall_as_an_early_one_did(
    share: float, error: float, start: float, end: float
) -> None:
    falls = FarthestFalls([_FLAT, _EARLY])
    assert falls.of(error, share) == pytest.approx(_BEYOND_TWO * math.log(start / end))


def test_a_curve_above_all_others_may_fall_as_any_did() -> None:
    falls = FarthestFalls([_FLAT, _EARLY])
    assert falls.of(50.0, 0.5) == falls.of(10.0, 0.5)


def test_one_below_all_others_may_fall_anywhere() -> None:
    assert FarthestFalls([_FLAT, _EARLY]).of(3.0, 0.5) == math.inf
    assert FarthestFalls([]).of(3.0, 0.5) == math.inf


def test_the_more_curves_were_seen_the_less_is_feared_beyond_them() -> None:
    few, many = FarthestFalls([_EARLY]).of(10.0, 0.5), FarthestFalls([_EARLY] * 100).of(10.0, 0.5)
    assert many == pytest.approx(few * 1.2 / 3.0)
