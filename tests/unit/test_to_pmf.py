"""From a network's answer to a PMF: means kept, mass one, spreads as said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agesearch.ages import age_spread, expected_age, gaussian_pmf
from agesearch.models.foreign.to_pmf import ages_matrix, groups_matrix, mixture, scalar_pmf


@given(st.floats(-20, 130), st.floats(0.3, 25))
def test_a_number_becomes_a_distribution_with_that_very_mean(age: float, spread: float) -> None:
    pmf = scalar_pmf([age], spread)
    assert pmf.sum() == pytest.approx(1.0, abs=1e-5)
    assert expected_age(pmf)[0] == pytest.approx(np.clip(age, 0, 100), abs=2e-3)


def test_in_the_middle_it_is_the_plain_gaussian() -> None:
    np.testing.assert_allclose(scalar_pmf([41.3], 4.0), gaussian_pmf([41.3], 4.0), atol=1e-6)
    assert age_spread(scalar_pmf([41.3], 4.0))[0] == pytest.approx(4.0, abs=0.02)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20, unique=True), st.integers(0, 2**32 - 1))
def test_mass_of_any_ages_keeps_its_mean(ages: list[float], seed: int) -> None:
    ages.sort()
    mass = np.random.default_rng(seed).dirichlet(np.ones(len(ages)), size=1)
    pmf = mass @ ages_matrix(ages)
    assert pmf.sum() == pytest.approx(1.0, abs=1e-4)
    assert expected_age(pmf)[0] == pytest.approx(float(mass[0] @ np.asarray(ages)), abs=1e-2)


def test_ages_beyond_the_axis_count_as_its_end() -> None:
    matrix = ages_matrix([-3.0, 50.25, 116.0])
    assert matrix[0, 0] == matrix[2, 100] == 1.0
    assert (matrix[1, 50], matrix[1, 51]) == (0.75, 0.25)


def test_groups_are_spread_evenly_inside_their_limits() -> None:
    matrix = groups_matrix([(0, 1), (10, 13)])
    assert matrix[0, :3].tolist() == [0.5, 0.5, 0.0]
    assert matrix[1, 9:15].tolist() == [0.0, 0.25, 0.25, 0.25, 0.25, 0.0]


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_a_mixture_keeps_the_spread_within_and_between(seed: int, share: float) -> None:
    draw = np.random.default_rng(seed)
    ages, spreads = draw.uniform(20, 80, (2, 1)), draw.uniform(1, 6, 2)
    pmfs = [scalar_pmf(age, spread) for age, spread in zip(ages, spreads, strict=True)]
    mixed = mixture(pmfs, [share, 1 - share])
    means = np.array([expected_age(pmf)[0] for pmf in pmfs], dtype=np.float64)
    variances = np.array([age_spread(pmf)[0] for pmf in pmfs], dtype=np.float64) ** 2
    shares = np.array([share, 1 - share])
    mean = shares @ means
    assert expected_age(mixed)[0] == pytest.approx(mean, abs=1e-2)
    expected = shares @ variances + shares @ (means - mean) ** 2
    assert age_spread(mixed)[0] ** 2 == pytest.approx(expected, rel=1e-2)
