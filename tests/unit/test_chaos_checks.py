"""The checks of the chaos bench see each kind of loss."""

from __future__ import annotations

from dataclasses import replace

from agesearch.bench.chaos.checks import _count, _epochs, _finished, attempts, same_story
from agesearch.bench.chaos.run import _plan
from agesearch.bench.chaos.study import Begun
from agesearch.search.store.records import State, TrialRecord


def begun(*rows: tuple[int, int, int]) -> list[Begun]:
    """(trial, epoch, pid), a second apart."""
    return [Begun(trial, epoch, pid, float(second)) for second, (trial, epoch, pid) in enumerate(rows)]


def record(number: int, epochs: int = 3, state: State = State.COMPLETE) -> TrialRecord:
    curve = tuple(9.0 - epoch for epoch in range(epochs))
    return TrialRecord(
        number, state, f"{number:04d}-a-32px", {"x": number}, "", 6.0 - number, 0.5, 1.0, epochs, curve=curve
    )


def told(one: TrialRecord, second: float = 99.0) -> dict[str, object]:
    return {"kind": "finished", "time": second, "record": one.as_json() | {"curve": list(one.curve)}}


WHOLE = begun((0, 1, 10), (0, 2, 10), (0, 2, 11), (0, 3, 11))


def test_epochs_that_were_begun_twice_are_lost() -> None:
    found = attempts(WHOLE)
    assert (found.begun, found.distinct, found.lost, found.cuts, found.worst) == (4, 3, 1, 1, 1)
    assert attempts(begun((0, 1, 10), (0, 2, 10), (0, 1, 11))).worst == 2
    assert attempts(begun((0, 1, 10), (0, 2, 11))).worst == 0  # killed between two epochs


def test_a_study_that_lost_nothing_has_no_faults() -> None:
    records = [record(0)]
    assert _count(records, 1) + _finished(records, [told(record(0))]) == []
    assert _epochs(records, WHOLE, [told(record(0))]) == []


def test_each_loss_is_a_fault() -> None:
    records = [record(0)]
    assert "has 1 trials, and not 2" in _count(records, 2)[0]
    assert _count([record(0, state=State.FAIL)], 1)[0].startswith("trial 0 is FAIL")
    changed = told(replace(record(0), val_mae_years=1.0))
    assert _finished(records, [changed]) == ["trial 0 changed after it was finished"]
    assert _finished(records, [told(record(0)), told(record(0))]) == ["trial 0 was finished twice"]
    twice = begun((0, 1, 10), (0, 2, 10), (0, 3, 10), (0, 1, 11), (0, 2, 11), (0, 3, 11))
    assert _epochs(records, twice, [told(record(0), 2.5)]) == [
        "a cut cost 3 epochs",
        "trial 0 was trained after it was finished",
    ]
    assert _epochs(records, WHOLE[:2], []) == ["trial 0 says 3 epochs, but trained [1, 2]"]
    gap = [replace(record(0), curve=(9.0, 8.0))]
    assert _epochs(gap, WHOLE, []) == ["the curve of trial 0 has 2 of 3 epochs"]


def test_another_value_or_parameter_is_another_story() -> None:
    one = [record(0), record(1)]
    assert same_story(one, one) == []
    other = [record(0), replace(record(1), params={"x": 7})]
    assert same_story(one, other) == ["trial 1: params is {'x': 1}, undisturbed {'x': 7}"]


def test_kills_are_spread_over_the_study_and_seeded() -> None:
    plan = _plan(20, 180, True, 0)
    assert plan == _plan(20, 180, True, 0) != _plan(20, 180, True, 1)
    assert sorted({kind for kind, _, _ in plan}) == ["driver", "node", "worker"]
    assert min(epochs for _, epochs, _ in plan) >= 2
    assert sum(epochs for _, epochs, _ in plan) < 180
    assert {kind for kind, _, _ in _plan(4, 32, False, 0)} == {"driver", "worker"}
