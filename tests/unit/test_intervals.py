"""Intervals over persons: what they cover, what they stand on, and that they are one function's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from agesearch.errors import InputError
from agesearch.measure import intervals
from agesearch.measure.intervals import Persons, Values, basis, bootstrap_interval, estimate, rate_estimate
from agesearch.measure.repeated import repeated_estimate, sign_flip_p

ages = st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30)


def people(persons: int, faces: int) -> Persons:
    """``faces`` photographs of each of some known persons."""
    names = [f"p{person}" for person in range(persons) for _ in range(faces)]
    return Persons.of([f"f{index}" for index in range(len(names))], names)


def errors_of(persons: int, faces: int, generator: np.random.Generator) -> Values:
    """Absolute errors in years whose true mean is 6: most of an error is the person's (FG-NET's, MORPH's)."""
    own = np.repeat(generator.normal(0.0, 1.65, persons), faces)
    drawn: Values = 6.0 + own + generator.normal(0.0, 2.5, persons * faces)
    return drawn


@pytest.mark.parametrize("count", [12, 40])
def test_95_percent_over_persons_is_95_percent_and_over_faces_it_is_half_of_that(count: int) -> None:
    generator = np.random.default_rng(29)
    persons, faces = people(count, 29), Persons.each(count * 29)
    rounds = 300
    covered = dict.fromkeys(("persons", "faces"), 0)
    for seed in range(rounds):
        values = errors_of(count, 29, generator)
        for name, drawn in (("persons", persons), ("faces", faces)):
            low, high = bootstrap_interval(values, drawn, resamples=300, seed=seed)
            covered[name] += low <= 6.0 <= high
    assert 0.92 <= covered["persons"] / rounds <= 0.98
    assert covered["faces"] / rounds == pytest.approx(0.46, abs=0.08)


def test_a_sign_flip_over_persons_finds_nothing_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agesearch.measure.repeated.FLIPS", 200)
    generator = np.random.default_rng(31)
    persons, faces = people(30, 29), Persons.each(30 * 29)
    drawn = [errors_of(30, 29, generator) - 6.0 for _ in range(150)]  # no difference in truth
    of_persons = np.mean([sign_flip_p(values, persons) < 0.05 for values in drawn])
    of_faces = np.mean([sign_flip_p(values, faces) < 0.05 for values in drawn])
    assert of_persons < 0.1
    assert of_faces > 0.4


def test_the_order_of_the_faces_and_where_they_are_measured_change_nothing() -> None:
    generator = np.random.default_rng(3)
    ids = [f"f{index}" for index in range(200)]
    names = [None if index % 7 == 0 else f"p{index % 23}" for index in range(200)]
    values = generator.gamma(2.0, 3.0, 200)
    here = estimate(values, Persons.of(ids, names))
    order = generator.permutation(200)
    there = estimate(values[order], Persons.of([ids[i] for i in order], [names[i] for i in order]))
    for name in ("value", "low", "high"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-12)
    assert repeated_estimate(values[None], Persons.of(ids, names)) == here  # one training, as `compare` has
    part = estimate(values[:50], Persons.of(ids, names).take(np.arange(50)))
    assert part == estimate(values[:50], Persons.of(ids[:50], names[:50]))  # a slice of more faces


def test_faces_of_nobody_known_stand_alone_and_the_record_says_how_many_persons_there_are() -> None:
    mixed = Persons.of(list("abcde"), ["x", None, "y", "x", None])
    assert mixed.codes[0] == mixed.codes[3]
    assert len(set(mixed.codes)) == 4
    assert estimate(np.arange(5.0), mixed).persons == 4
    assert estimate(np.arange(5.0), mixed).basis == "5 faces of 4 persons"
    assert estimate(np.arange(2.0), mixed.take(np.array([1, 4]))).persons is None
    assert basis(1160, None) == "1,160 faces"
    assert basis(1, 1) == "1 face of 1 person"


def test_persons_are_drawn_where_one_has_several_faces_else_it_is_the_same() -> None:
    assert Persons.of(list("abc"), ["x", "y", None]).drawn == "faces"
    assert Persons.of(list("abc"), ["x", "y", "x"]).drawn == "persons"


def test_a_person_called_as_a_face_is_another() -> None:
    assert Persons.of(["a", "b"], ["b", None]).count == 2


def test_one_person_says_nothing_of_others() -> None:
    alone = estimate(np.array([1.0, 9.0, 5.0]), people(1, 3))
    assert (alone.value, alone.low, alone.high, alone.persons) == (5.0, 5.0, 5.0, 1)


def test_few_persons_have_nearly_students_interval_and_many_the_percentiles() -> None:
    generator = np.random.default_rng(5)
    few, many = generator.normal(8.0, 2.0, 8), generator.gamma(2.0, 3.0, 400)
    low, high = bootstrap_interval(few, Persons.each(8), resamples=20_000)
    student = stats.t.interval(0.95, 7, few.mean(), few.std(ddof=1) / np.sqrt(8))
    assert high - low == pytest.approx(student[1] - student[0], rel=0.2)
    low, high = bootstrap_interval(many, Persons.each(400), resamples=4000)
    other = stats.bootstrap((many,), np.mean, n_resamples=4000, method="percentile", random_state=1)
    width = other.confidence_interval.high - other.confidence_interval.low
    assert low == pytest.approx(other.confidence_interval.low, abs=0.05 * width)
    assert high == pytest.approx(other.confidence_interval.high, abs=0.05 * width)


def test_persons_with_as_many_faces_each_are_drawn_as_their_means() -> None:
    generator = np.random.default_rng(6)
    values = generator.normal(8, 4, 40).repeat(10) + generator.normal(0, 0.5, 400)
    found = bootstrap_interval(values, people(40, 10))
    assert found == pytest.approx(
        bootstrap_interval(values.reshape(40, 10).mean(axis=1), Persons.each(40)), abs=0.25
    )


@given(ages, st.integers(0, 5))
def test_an_interval_lies_inside_the_sample_and_repeats(values: list[float], seed: int) -> None:
    each = Persons.each(len(values))
    low, high = bootstrap_interval(values, each, resamples=50, seed=seed)
    assert min(values) - 1e-6 <= low <= high <= max(values) + 1e-6
    assert bootstrap_interval(values, each, resamples=50, seed=seed) == (low, high)


def test_an_interval_is_the_same_when_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, each = np.arange(50.0), Persons.each(50)
    whole = bootstrap_interval(values, each, resamples=40)
    monkeypatch.setattr(intervals, "_BLOCK", 150)
    assert bootstrap_interval(values, each, resamples=40) == whole


def test_values_of_other_faces_are_refused() -> None:
    with pytest.raises(InputError, match="one a face"):
        estimate(np.arange(3.0), Persons.each(4))
    with pytest.raises(InputError, match="at least one value"):
        bootstrap_interval([], Persons.each(0))


def test_of_many_persons_a_subsample_is_resampled_scaled_to_all_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(5)
    persons, values = people(800, 3), errors_of(800, 3, generator)
    whole = estimate(values, persons)
    flips = sign_flip_p(values - values.mean() + 0.1, persons)
    monkeypatch.setattr(intervals, "MOST_PERSONS", 200)
    monkeypatch.setattr("agesearch.measure.repeated.MOST_PERSONS", 1000)
    part = estimate(values, persons)
    assert (part.value, part.persons, part.subsample) == (whole.value, 800, 200)
    assert part.high - part.low == pytest.approx(whole.high - whole.low, rel=0.2)
    assert part.low < part.value < part.high
    assert part.basis == "2,400 faces of 800 persons; interval on a seeded subsample of 200 persons"
    assert whole.subsample is None
    assert estimate(values, persons) == part
    assert repeated_estimate(np.stack([values, values + 1]), persons).subsample == 200
    assert sign_flip_p(values - values.mean() + 0.1, persons) == pytest.approx(flips, abs=0.02)
    shifted = estimate(values + 2.0, persons)  # paired lists are resampled alike
    assert shifted.low - part.low == pytest.approx(2.0)


def test_a_rate_that_no_draw_changes_has_an_exact_end() -> None:
    none, every = np.zeros(30), np.ones(30)
    found = rate_estimate(none, Persons.each(30))
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(stats.binomtest(0, 30).proportion_ci(method="exact").high)
    assert rate_estimate(every, Persons.each(30)).low == pytest.approx(1.0 - found.high)
    # 30 photographs of three persons tell as much as three.
    assert rate_estimate(none, people(3, 10)).high == pytest.approx(
        stats.binomtest(0, 3).proportion_ci(method="exact").high
    )


@pytest.mark.parametrize(("persons", "faces"), [(200, 1), (60, 7)])
def test_a_rate_is_the_bootstrap_over_persons(persons: int, faces: int) -> None:
    generator = np.random.default_rng(3)
    own = np.repeat(generator.uniform(0, 1, persons), faces)
    hits = (generator.uniform(0, 1, persons * faces) < own).astype(np.float64)
    who = people(persons, faces)
    plain, quick = estimate(hits, who), rate_estimate(hits, who)
    assert (quick.value, quick.faces, quick.persons) == (plain.value, plain.faces, plain.persons)
    assert (quick.low, quick.high) == (
        pytest.approx(plain.low, abs=0.01),
        pytest.approx(plain.high, abs=0.01),
    )
