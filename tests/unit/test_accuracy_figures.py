"""Accuracy against hand-computed cases, and the properties that its intervals must have."""

from __future__ import annotations

import numpy as np
import pytest

from agesearch.errors import InputError
from agesearch.measure import accuracy
from agesearch.measure.intervals import Persons

TRUE = [20.0, 30.0, float("nan"), 41.0]
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
