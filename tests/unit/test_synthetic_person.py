"""Persons: exact ages, MakeHuman's stages, and signs of age that grow with it."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agesearch.data.synthetic.mesh import RACES, STAGES, age_weights, find_data, macro_weights
from agesearch.data.synthetic.person import MAX_AGE, MIN_AGE, Person, draw_person, ramp, used_targets
from agesearch.data.synthetic.wrinkles import bezier, wrinkles
from agesearch.errors import InputError


@pytest.mark.parametrize(("age", "stage"), [(1, "baby"), (10, "child"), (25, "young"), (90, "old")])
def test_each_stage_has_its_age(age: float, stage: str) -> None:
    assert age_weights(age) == pytest.approx({name: float(name == stage) for name in STAGES})


@given(st.floats(0.5, 97.0))
def test_stages_share_one_between_neighbours(age: float) -> None:
    shares = list(age_weights(age).values())
    assert sum(shares) == pytest.approx(1.0)
    used = np.flatnonzero(shares)
    assert len(used) <= 2
    assert used[-1] - used[0] <= 1


def test_macro_weights_count_race_and_body_once_each() -> None:
    races = dict.fromkeys(RACES, 1 / 3)
    weights = macro_weights(40.0, 0.3, races, weight=0.5)
    universal = sum(value for name, value in weights.items() if name.startswith("universal"))
    assert universal == pytest.approx(1.0)
    assert sum(weights.values()) - universal == pytest.approx(1.0)
    assert not any("minweight" in name for name in weights)


def test_a_person_depends_on_the_generator_alone() -> None:
    assert draw_person(np.random.default_rng([3, 14])) == draw_person(np.random.default_rng([3, 14]))
    assert draw_person(np.random.default_rng([3, 14])) != draw_person(np.random.default_rng([3, 15]))


def test_a_crowd() -> None:
    crowd = [draw_person(np.random.default_rng([0, index])) for index in range(700)]
    ages = np.array([person.age for person in crowd])
    assert MIN_AGE <= ages.min() < 4
    assert 88 < ages.max() <= MAX_AGE
    shares = np.histogram(ages, bins=8, range=(MIN_AGE, MAX_AGE))[0] / len(crowd)
    assert np.abs(shares - 1 / 8).max() < 0.04
    off = np.array([person.looks for person in crowd]) - ages
    young, old = np.abs(off[ages < 15]).mean(), np.abs(off[ages > 60]).mean()
    assert young < 1.0 < old < 4.5
    assert {person.sex for person in crowd} == {"female", "male"}
    assert all(set(person.targets()) <= used_targets() for person in crowd)
    grey = [np.mean([p.hair.grey for p in crowd if low <= p.age < low + 30]) for low in (0, 30, 60)]
    assert grey[0] < 0.02 < grey[1] < grey[2]
    assert not any(p.hair.bald or p.hair.beard for p in crowd if p.sex == "female" or p.age < 15)


def test_lines_deepen_with_age() -> None:
    depth = {}
    for age in (5, 30, 50, 70, 88):
        people = [draw_person(np.random.default_rng([age, index])) for index in range(3)]
        depth[age] = np.mean(
            [
                sum(stroke.depth for stroke in wrinkles(np.random.default_rng(index), _aged(person, age)))
                for index, person in enumerate(people)
            ]
        )
    values = list(depth.values())
    assert values == sorted(values)
    assert values[0] < 0.2
    assert values[-1] > 3 * values[2] > 0


def _aged(person: Person, age: float) -> Person:
    return replace(person, looks=float(age), mood="neutral", signs=dict.fromkeys(person.signs, 1.0))


def test_ramp_is_flat_outside_and_works_downwards() -> None:
    assert [ramp(age, 20, 40) for age in (10, 20, 30, 40, 90)] == [0, 0, 0.5, 1, 1]
    assert [ramp(age, 14, 1) for age in (1, 7.5, 14, 60)] == [1, 0.5, 0, 0]


def test_a_bezier_meets_its_ends() -> None:
    points = bezier([(0, 0), (1, 3), (2, -1), (4, 2)], 9)
    np.testing.assert_allclose(points[[0, -1]], [[0, 0], [4, 2]])


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'agesearch\[synth\]'"):
        find_data()
