"""Methods trained several times: intervals that hold for other faces and seeds, and a test of luck."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from agesearch.errors import InputError
from agesearch.measure.intervals import Estimate, Persons, Values, estimate
from agesearch.measure.repeated import holm, repeated_estimate, sign_flip_p, spread, verdict

each = Persons.each


def crossed(rng: np.random.Generator, faces: int, trainings: int, seed_sd: float) -> Values:
    """Differences whose true mean is 0: a part of the face, one of the training, and one of both."""
    of_faces = rng.normal(0, 2, (1, faces))
    of_trainings = rng.normal(0, seed_sd, (trainings, 1))
    drawn: Values = of_faces + of_trainings + rng.normal(0, 1, (trainings, faces))
    return drawn


def test_the_interval_holds_the_truth_as_often_as_it_says_where_seeds_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agesearch.measure.repeated.RESAMPLES", 200)
    rng = np.random.default_rng(0)
    both = faces_alone = 0
    for _ in range(150):
        values = crossed(rng, 30, 3, seed_sd=0.7)
        found, naive = repeated_estimate(values, each(30)), estimate(values.mean(axis=0), each(30))
        both += found.low <= 0.0 <= found.high
        faces_alone += naive.low <= 0.0 <= naive.high
    assert both / 150 >= 0.9
    assert faces_alone / 150 < 0.8  # what is promised where seeds are left out


def test_trainings_that_agree_leave_the_interval_of_the_faces() -> None:
    values: Values = crossed(np.random.default_rng(1), 60, 1, 0.0)[0]
    alone = estimate(values, each(60))
    for trainings in (1, 4):
        found = repeated_estimate(np.tile(values, (trainings, 1)), each(60))
        assert found.value == pytest.approx(alone.value)
        assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.08)


def test_few_trainings_of_one_face_have_nearly_students_interval() -> None:
    found = repeated_estimate([[3.0], [4.0], [5.0]], each(1))
    assert found.value == pytest.approx(4.0)
    half = 4.303 / np.sqrt(3)  # t with 2 degrees of freedom
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half), abs=0.35)


def test_faces_of_one_person_count_as_one() -> None:
    values: Values = crossed(np.random.default_rng(2), 12, 2, 0.1)[:, np.repeat(np.arange(12), 5)]
    persons = Persons.of([f"f{face}" for face in range(60)], [f"p{face // 5}" for face in range(60)])
    faces, people = repeated_estimate(values, each(60)), repeated_estimate(values, persons)
    assert (faces.persons, people.persons) == (None, 12)
    assert people.high - people.low > 1.7 * (faces.high - faces.low)
    assert sign_flip_p(values.mean(axis=0), persons) > sign_flip_p(values.mean(axis=0), each(60))


def test_equal_values_have_no_width_and_holes_are_refused() -> None:
    assert repeated_estimate([[1.0, 1.0], [1.0, 1.0]], each(2)) == Estimate(1.0, 1.0, 1.0, 2)
    assert repeated_estimate([[2.5]], each(1)) == Estimate(2.5, 2.5, 2.5, 1)
    for shape in ((1, 0), (2,)):
        with pytest.raises(InputError, match="finite values"):
            repeated_estimate(np.ones(shape), each(1))
    with pytest.raises(InputError, match="finite values"):
        repeated_estimate([[1.0, np.nan]], each(2))


def test_the_sign_flips_of_few_faces_are_all_counted() -> None:
    values = np.array([0.3, 1.1, -0.4, 2.0, 0.9, 0.0])
    flips = np.array(list(product((-1, 1), repeat=6))) @ values
    assert sign_flip_p(values, each(len(values))) == pytest.approx(
        (np.abs(flips) >= values.sum() - 1e-9).mean()
    )
    assert sign_flip_p([1.0, 1.0, 1.0, 1.0], each(4)) == 2 / 16
    assert sign_flip_p([0.0, 0.0], each(2)) == 1.0


def test_random_flips_come_near_the_exact_p_and_are_never_zero() -> None:
    values = np.random.default_rng(3).normal(0.4, 1.0, 40)
    t = values.mean() / (values.std(ddof=1) / np.sqrt(40))
    normal = 2 * (1 - 0.5 * (1 + np.tanh(0.7978845608 * (t + 0.044715 * t**3))))  # 2 (1 - Phi(t)), nearly
    assert sign_flip_p(values, each(len(values))) == pytest.approx(normal, abs=0.01)
    assert 0.0 < sign_flip_p(np.full(40, 3.0), each(40)) < 1e-4


def test_holm_raises_each_p_by_the_tests_still_open_and_keeps_their_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_only_a_difference_beyond_faces_seeds_and_the_search_is_no_tie() -> None:
    lower = Estimate(-0.8, -1.2, -0.4, 50)
    assert verdict(lower, 0.01) == "better"
    assert verdict(lower, 0.06) == "tie"
    assert verdict(Estimate(-0.8, -1.7, 0.1, 50), 0.01) == "tie"
    assert verdict(Estimate(0.8, 0.4, 1.2, 50), 0.01) == "worse"
    assert spread([4.0, 6.0]) == pytest.approx(2**0.5)
    assert spread([5.0]) == 0.0
