"""Changed faces: shifts are of the same person, an attack counts only where it lets in who was kept out."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.data.synthetic.person import Draws, draw_person
from agesearch.errors import InputError
from agesearch.measure.counterfactual.changes import CHANGES, plain
from agesearch.measure.counterfactual.faces import CounterfactualSpec, person_of
from agesearch.measure.counterfactual.shifts import Answered
from agesearch.measure.decisions.rates import Counting


def _answered(age: list[float], answers: list[list[float]], least: int = 2) -> Answered:
    changes = [f"change {number}" for number in range(1, len(answers))]
    return Answered(np.array(age), np.array(answers), changes, 18.0, 25.0, Counting(least))


def test_a_shift_is_paired_and_as_sure_as_its_persons_agree() -> None:
    as_is = [10.0, 16.0, 30.0, 80.0]
    found = _answered(as_is, [as_is, [age + 3 for age in as_is], [12.0, 16.0, 28.0, 80.0]])
    same, mixed = found.shifts()
    assert (same.shift_years.faces, same.minors_shift_years.faces) == (4, 2)
    estimate = same.shift_years.estimate
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == (3.0, 3.0, 3.0)  # persons differ by 70 years
    assert mixed.shift_years.estimate is not None
    assert mixed.moved_years.estimate is not None
    assert (mixed.shift_years.estimate.value, mixed.moved_years.estimate.value) == (0.0, 1.0)


def test_an_attack_converts_minors_who_pass_only_with_the_change() -> None:
    age = [15.0, 15.0, 15.0, 15.0, 30.0, 30.0]
    as_is = [20.0, 24.99, 26.0, 26.0, 30.0, 30.0]
    changed = [25.0, 24.994, 27.0, 20.0, 24.0, 31.0]
    shift = next(_answered(age, [as_is, changed]).shifts())
    assert shift.conversion.estimate is not None
    assert shift.refusal.estimate is not None
    assert shift.conversion.estimate.value == 0.25  # told ages decide: 24.994 is 24.99
    assert shift.refusal.estimate.value == 0.5
    assert _answered(age, [as_is, changed]).minors_pass.estimate.value == 0.5  # type: ignore[union-attr]


def test_a_change_that_applies_to_few_has_no_figure() -> None:
    nan = float("nan")
    age, as_is = [15.0, 16.0, 40.0], [15.0, 16.0, 40.0]
    shift = next(_answered(age, [as_is, [15.0, nan, nan]]).shifts())
    assert (shift.shift_years.faces, shift.shift_years.estimate) == (1, None)
    assert (shift.refusal.faces, shift.refusal.estimate) == (0, None)


def test_half_of_the_persons_are_minors_near_the_legal_age() -> None:
    spec = CounterfactualSpec(persons=60, seed=3)
    persons = [person_of(spec, index) for index in range(spec.persons)]
    assert all(8 <= person.age < 18 for person in persons[::2])
    assert all(18 <= person.age <= 80 for person in persons[1::2])
    assert persons == [person_of(spec, index) for index in range(spec.persons)]
    assert not any(person.glasses or person.makeup or person.expression for person in persons)


def test_each_change_changes_who_it_applies_to() -> None:
    persons = [plain(draw_person(np.random.default_rng([7, index]))) for index in range(80)]
    for name, change in CHANGES.items():
        applies = [person for person in persons if change.applies(person)]
        assert applies, name
        is_other = any(change.person(person) != person for person in applies)
        assert is_other or change.setting != type(change.setting)() or change.of == "camera", name
    girl = replace(persons[0], male=0.0)
    assert not CHANGES["beard"].applies(girl)


def test_parts_draw_apart_or_from_one_generator() -> None:
    shared = Draws.shared(np.random.default_rng(1))
    assert len({id(getattr(shared, field.name)) for field in fields(Draws)}) == 1
    first, second = Draws.apart([5, 1]), Draws.apart([5, 1])
    first.spots.random(1000)
    drawn = [(getattr(one, name).random() for one in (first, second)) for name in ("noise", "hair", "photo")]
    assert all(one == other for one, other in drawn)
    values = [getattr(second, field.name).random() for field in fields(Draws)]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"changes": ("glases",)}, "Unknown change 'glases'.*Did you mean 'glasses'"),
        ({"legal_age": 1.0}, "--legal-age is 1, but must be 2 to 79"),
        ({"legal_age": float("nan")}, "--legal-age is nan"),
        ({"challenge_age": 0.0}, "--challenge is 0"),
        ({"challenge_age": 17.9}, "--challenge is 17.9, below --legal-age 18"),
    ],
)
def test_what_cannot_be_asked_is_told_before_a_face_is_drawn(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        CounterfactualSpec.model_validate(changes).check()


def test_changes_keep_the_order_of_the_table() -> None:
    assert CounterfactualSpec(changes=("smile", "glasses", "smile")).named == ("glasses", "smile")
    assert CounterfactualSpec().named == tuple(CHANGES)


def test_the_verb_refuses_another_file() -> None:
    result = CliRunner().invoke(app, ["measure", "counterfactual", "no-model", "--out", "x.html"])
    assert isinstance(result.exception, InputError)
    assert ".json" in str(result.exception)
