"""What proposals see of a study, kept trial by trial, is what the whole study would show."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agesearch.search.sampler import window as sight
from agesearch.search.sampler.window import TrialWindow
from agesearch.search.store.pareto import front
from agesearch.search.store.records import State, TrialRecord

BEST, NEWEST, MOST = 3, 2, 6


def trial(number: int, state: State, error: float, latency: float) -> TrialRecord:
    done = error if state is State.COMPLETE else None
    return TrialRecord(number, state, "", {"rate": 0.1}, val_mae_years=done, latency_ms_p50=latency)


def expected(records: list[TrialRecord]) -> list[int]:
    """The rule, on all trials at once."""
    running = [record.number for record in records if record.state is State.RUNNING]
    rest = [record.number for record in records if record.state is not State.RUNNING]
    left, best = [record for record in records if record.state is State.COMPLETE], list[int]()
    while left and len(best) < BEST:
        layer = front([(record.val_mae_years or 0.0, record.latency_ms_p50 or 0.0) for record in left])
        best += sorted(left[index].number for index in layer)
        left = [record for index, record in enumerate(left) if index not in layer]
    chosen = rest
    if len(rest) > MOST:
        chosen = best[:BEST]
        chosen = chosen + [number for number in reversed(rest) if number not in chosen][: MOST - len(chosen)]
    return sorted(chosen + running[-NEWEST:])


@given(
    st.lists(st.tuples(st.sampled_from(State), st.integers(1, 5), st.integers(1, 3)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_trial_by_trial_is_as_good_as_all_at_once(
    ends: list[tuple[State, int, int]], luck: random.Random
) -> None:
    records = [trial(n, state, float(error), float(ms)) for n, (state, error, ms) in enumerate(ends)]
    seen = TrialWindow()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sight, "_BEST", BEST)
        patch.setattr(sight, "_RUNNING", NEWEST)
        for record in records:
            seen.take(trial(record.number, State.RUNNING, 0.0, 1.0))
        for record in luck.sample(records, len(records)):  # they end in any order, some after a pause or two
            for _ in range(luck.randrange(3)):
                seen.take(trial(record.number, State.PAUSED, 0.0, 1.0))
                seen.shown(MOST)
                seen.take(trial(record.number, State.RUNNING, 0.0, 1.0))
            seen.take(record)
        assert [record.number for record in seen.shown(MOST)] == expected(records)
        assert all(record == records[record.number] for record in seen.shown(MOST))
        assert seen.shown(MOST) == TrialWindow(records).shown(MOST)


def test_a_trial_without_parameters_is_not_seen_and_one_can_be_left_out() -> None:
    records = [trial(0, State.RUNNING, 0.0, 1.0), trial(1, State.COMPLETE, 5.0, 1.0)]
    assert TrialWindow([*records, TrialRecord(2, State.RUNNING, "")]).shown() == records
    assert TrialWindow(records).shown(besides=0) == records[1:]
