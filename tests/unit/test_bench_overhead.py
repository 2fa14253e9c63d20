"""The overhead bench counts what lies between two ends of one slot, less the training."""

from __future__ import annotations

import pytest

from agesearch.bench.overhead import Stopwatch
from agesearch.search.store.events import TrialFinished, TrialStarted
from agesearch.search.store.records import State, TrialRecord


def trial(number: int, seconds: float, state: State = State.COMPLETE) -> TrialRecord:
    return TrialRecord(number, state, f"{number:04d}-resnet18-96px", seconds=seconds)


def test_gaps_are_counted_a_slot() -> None:
    watch = Stopwatch()
    for when, record, starts in [
        (10.0, trial(0, 4.0), True),
        (11.0, trial(1, 5.0), True),
        (14.5, trial(0, 4.0), False),  # 0.5 over its training
        (15.0, trial(2, 2.0), True),  # 0.5 after the slot was free
        (16.0, trial(1, 5.0), False),  # nothing over
        (17.2, trial(2, 2.0), False),  # 0.2 over, with the wait 0.7
        (17.2, trial(3, 0.0), True),
        (18.0, trial(3, 0.0, State.FAIL), False),  # failed: not counted
    ]:
        watch.listen(TrialStarted(record, 2) if starts else TrialFinished(record, 0, 4, ()), when)
    assert watch.overheads == pytest.approx([0.5, 0.0, 0.7])
    assert watch.training == [4.0, 5.0, 2.0]
    assert watch.first == 10.0
