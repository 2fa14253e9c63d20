"""Accuracy against hand-computed cases, and the properties that its intervals must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agesearch.errors import InputError
from agesearch.measure import accuracy

TRUE = [20.0, 30.0, float("nan"), 41.0]
PREDICTED = [25.0, 29.0, 99.0, 31.0]  # errors +5, -1, (unlabelled), -10

ages = st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30)


def test_figures_by_hand() -> None:
    assert accuracy.mae(PREDICTED, TRUE) == pytest.approx(16 / 3)
    assert accuracy.bias(PREDICTED, TRUE) == pytest.approx(-2.0)
    assert accuracy.cs(PREDICTED, TRUE) == pytest.approx(2 / 3)
    assert accuracy.cs(PREDICTED, TRUE, k=1) == pytest.approx(1 / 3)
    estimate = accuracy.mae_estimate(PREDICTED, TRUE)
    assert (estimate.value, estimate.faces) == (pytest.approx(16 / 3), 3)


def test_decades_hold_each_labelled_face_once_under_its_true_age() -> None:
    bins = accuracy.accuracy_by_decade(PREDICTED, TRUE)
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


@given(ages, st.integers(0, 5))
def test_interval_lies_inside_the_sample_and_repeats(values: list[float], seed: int) -> None:
    low, high = accuracy.bootstrap_interval(values, resamples=50, seed=seed)
    assert min(values) - 1e-6 <= low <= high <= max(values) + 1e-6
    assert accuracy.bootstrap_interval(values, resamples=50, seed=seed) == (low, high)


def test_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for seed in range(100):
        low, high = accuracy.bootstrap_interval(generator.normal(6.0, 3.0, 60), resamples=300, seed=seed)
        covered += low <= 6.0 <= high
    assert 86 <= covered <= 100  # 95 expected; a one-sided or 80 % interval falls outside


def test_interval_is_the_same_when_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(50.0)
    whole = accuracy.bootstrap_interval(values, resamples=40)
    monkeypatch.setattr(accuracy, "_BLOCK", 150)
    assert accuracy.bootstrap_interval(values, resamples=40) == whole


def test_paired_difference_sees_what_two_intervals_hide() -> None:
    generator = np.random.default_rng(1)
    true = generator.uniform(10, 80, 200)
    reference = true + generator.normal(0, 8, 200)
    better = true + (reference - true) * 0.9
    difference = accuracy.paired_difference(better, reference, true)
    assert difference.high < 0
    first, second = accuracy.mae_estimate(better, true), accuracy.mae_estimate(reference, true)
    assert first.high > second.low  # apart, their intervals overlap
