"""Accuracy against hand-computed cases, and the properties that its intervals must have."""

from __future__ import annotations

import numpy as np
import pytest

from agesearch.ages import decade_end, decade_name, decade_of
from agesearch.errors import InputError
from agesearch.measure import accuracy
from agesearch.measure.intervals import Persons

NAN = float("nan")
TRUE = [20.0, 30.0, NAN, 41.0]
PREDICTED = [25.0, 29.0, 99.0, 31.0]  # errors +5, -1, (unlabelled), -10


def test_figures_by_hand() -> None:
    assert accuracy.mae(PREDICTED, TRUE) == pytest.approx(16 / 3)
    assert accuracy.bias(PREDICTED, TRUE) == pytest.approx(-2.0)
    assert accuracy.cs(PREDICTED, TRUE) == pytest.approx(2 / 3)
    assert accuracy.cs(PREDICTED, TRUE, k=1) == pytest.approx(1 / 3)
    estimate = accuracy.mae_estimate(PREDICTED, TRUE, Persons.each(4))
    assert (estimate.value, estimate.faces) == (pytest.approx(16 / 3), 3)


def test_decades_hold_each_labelled_face_once_under_its_true_age() -> None:
    bins = accuracy.accuracy_by_decade(PREDICTED, TRUE, Persons.each(4))
    assert [(row.first, row.last, row.mae_years.faces) for row in bins] == [
        (20, 29, 1),
        (30, 39, 1),
        (40, 49, 1),
    ]
    assert [row.mae_years.value for row in bins] == pytest.approx([5, 1, 10])
    assert [row.bias_years for row in bins] == pytest.approx([5, -1, -10])


def test_the_last_decade_takes_100_in() -> None:
    true = [0.0, 9.5, 10.0, 89.9, 90.0, 100.0]
    bins = accuracy.accuracy_by_decade(true, true, Persons.each(6))
    faces = {(row.first, row.last): row.mae_years.faces for row in bins}
    assert faces == {(0, 9): 2, (10, 19): 1, (80, 89): 1, (90, 100): 2}
    names = [decade_name(first) for first in decade_of([9.9, 35.0, 100.0]).tolist()]
    assert names == ["0-9", "30-39", "90-100"]
    assert decade_end(decade_of([9.9, 35.0, 100.0])).tolist() == [9.0, 39.0, 100.0]


def test_the_worst_decade_is_one_of_those_with_enough_faces() -> None:
    true = [5.0] * 10 + [25.0] * 12 + [42.0] * 10 + [71.0] * 9 + [NAN] * 30
    off = [4.0] * 10 + [3.0, -9.0] * 6 + [-5.0] * 10 + [40.0] * 9 + [90.0] * 30
    predicted = np.nan_to_num(true) + np.array(off)
    assert accuracy.worst_decade(predicted, true) == (20, pytest.approx(6.0))
    assert accuracy.judged_decades(true) == [0, 20, 40]
    assert accuracy.worst_decade(predicted[:10], true[:10]) == (0, pytest.approx(4.0))
    assert accuracy.worst_decade(predicted[32:41], true[32:41]) is None  # nine faces
    assert accuracy.worst_decade([10.0] * 20, [8.0] * 10 + [12.0] * 10) == (0, 2.0)  # equals: the younger


@pytest.mark.parametrize(
    ("predicted", "true", "words"),
    [
        ([1.0], [float("nan")], "true age"),
        ([float("inf")], [3.0], "finite"),
        ([1.0, 2.0], [3.0], "one length"),
    ],
)
def test_what_cannot_be_measured_is_an_input_error(
    predicted: list[float], true: list[float], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        accuracy.mae(predicted, true)


def test_paired_difference_sees_what_two_intervals_hide() -> None:
    generator = np.random.default_rng(1)
    true = generator.uniform(10, 80, 200)
    reference = true + generator.normal(0, 8, 200)
    better = true + (reference - true) * 0.9
    each = Persons.each(200)
    difference = accuracy.paired_difference(better, reference, true, each)
    assert difference.high < 0
    first = accuracy.mae_estimate(better, true, each)
    second = accuracy.mae_estimate(reference, true, each)
    assert first.high > second.low  # apart, their intervals overlap
