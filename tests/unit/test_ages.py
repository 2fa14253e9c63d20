"""The age axis: every PMF has mass one, and the expectation, spread and quantiles agree with hand
computation.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agesearch.ages import AGES, BINS, age_quantile, age_spread, expected_age, gaussian_pmf, group_pmf
from agesearch.errors import InputError


@given(age=st.floats(0, 100), sigma=st.floats(0.05, 50))
def test_gaussian_is_a_mass_with_its_mode_at_the_age(age: float, sigma: float) -> None:
    pmf = gaussian_pmf(age, sigma)
    assert pmf.shape == (BINS,)
    assert pmf.min() >= 0
    assert pmf.sum() == pytest.approx(1.0, abs=1e-5)
    assert abs(int(pmf.argmax()) - age) <= 0.5 + 1e-6


@given(age=st.floats(30, 70), sigma=st.floats(1.0, 6.0))
def test_gaussian_keeps_mean_and_spread_away_from_the_ends(age: float, sigma: float) -> None:
    pmf = gaussian_pmf(age, sigma)
    assert float(expected_age(pmf)) == pytest.approx(age, abs=0.01)
    assert float(age_spread(pmf)) == pytest.approx(sigma, rel=0.01)


def test_gaussian_takes_batches_and_refuses_a_width_without_mass() -> None:
    assert gaussian_pmf([20, 40, 60], [1, 2, 3]).shape == (3, BINS)
    with pytest.raises(InputError, match=r"0\.01 years"):
        gaussian_pmf(20, 0.01)


def test_group_spreads_its_mass_evenly_with_both_ends() -> None:
    pmf = group_pmf(25, 32)
    np.testing.assert_allclose(pmf[25:33], 1 / 8)
    assert pmf[:25].sum() + pmf[33:].sum() == 0
    assert float(expected_age(pmf)) == pytest.approx(28.5)
    with pytest.raises(InputError, match="age group"):
        group_pmf(32, 25)


def test_quantiles_of_a_certain_age_lie_inside_its_year() -> None:
    pmf = np.zeros(BINS)
    pmf[40] = 1.0
    assert float(age_quantile(pmf, 0.5)) == pytest.approx(40.0)
    assert float(age_quantile(pmf, 0.25)) == pytest.approx(39.75)
    with pytest.raises(InputError, match="between 0 and 1"):
        age_quantile(pmf, 1.0)


@given(st.lists(st.floats(0, 1), min_size=BINS, max_size=BINS).filter(lambda mass: sum(mass) > 0.1))
def test_quantiles_rise_with_the_level(mass: list[float]) -> None:
    pmf = np.array(mass) / sum(mass)
    low, middle, high = (float(age_quantile(pmf, level)) for level in (0.1, 0.5, 0.9))
    assert 0 <= low <= middle <= high <= AGES[-1]
