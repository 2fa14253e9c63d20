"""The simulated clock charges what was spent, and the busy share is that of a case worked out by hand."""

from __future__ import annotations

import pytest

from agesearch.bench.cluster.simulated_clock import Meter, SimulatedClock, busy_share


class TrialCost:
    """A stopwatch that the test winds on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


def test_busy_share_of_two_slots() -> None:
    trained = [(0.0, 4.0), (1.0, 3.0), (5.0, 12.0)]  # within 2..10: 2 + 1 + 5 of 16 slot-seconds
    assert busy_share(trained, 2, 2.0, 10.0) == pytest.approx(8 / 16)
    assert busy_share(trained, 2, 4.0, 5.0) == 0.0
    assert busy_share(trained, 2, 5.0, 5.0) == 0.0


def test_work_moves_the_clock_on_and_waiting_costs_nothing() -> None:
    spent = TrialCost()
    clock = SimulatedClock(spent)
    spent.work(0.5)
    assert clock.charge(0.25) == pytest.approx(0.75)
    clock.wait_until(10.0)
    with clock.unpaid():
        spent.work(3.0)
    assert clock.charge() == pytest.approx(10.0)
    clock.wait_until(9.0)
    assert clock.now == pytest.approx(10.0)
    assert clock.driver == pytest.approx(0.75)


def test_each_second_belongs_to_the_innermost_watched_call() -> None:
    spent = TrialCost()
    meter = Meter(SimulatedClock(spent), "rest")

    class Worker:
        def outer(self) -> None:
            spent.work(1.0)
            self.inner()
            spent.work(2.0)

        def inner(self) -> None:
            spent.work(4.0)

    worker = Worker()
    meter.watch(worker, "outer", "outer")
    meter.watch(worker, "inner", "inner")
    spent.work(8.0)
    worker.outer()
    meter.note()
    assert meter.seconds == pytest.approx({"rest": 8.0, "outer": 3.0, "inner": 4.0})
