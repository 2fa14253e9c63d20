"""The race by the clock on the wall: one goal for both, and what the careful loop keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_plain_loop import faces

from agesearch.bench.plain_loop import Views, train_plainly
from agesearch.bench.wallclock import careful_loop
from agesearch.bench.wallclock.run import wall_clock_study
from agesearch.bench.wallclock.spent import Reached, Spent, same_goal
from agesearch.search.space.space import check_space, networks
from agesearch.specs import ModelSpec, TrainSpec


def _spent(*reached: tuple[float, float, float]) -> Spent:
    points = tuple(Reached(seconds, (error, latency)) for seconds, error, latency in reached)
    return Spent(points, 20.0, 2.0, 30.0, 1.0, 12, 0, slots=2)


def test_both_run_to_what_the_worse_one_ends_with() -> None:
    ours, loop = _spent((9.0, 5.0, 5.0), (3.0, 8.0, 8.0)), _spent((4.0, 9.0, 9.0), (11.0, 6.0, 6.0))
    reference = (10.0, 10.0)
    goal = same_goal([ours, loop], 0.5, reference)
    assert goal == 8.0  # half of the loop's 16
    assert ours.seconds_to(goal, reference) == 9.0
    assert loop.seconds_to(goal, reference) == 11.0
    assert loop.seconds_to(17.0, reference) is None
    assert ours.other_s == 2 * 18.0 - 30.0 - 2 * 1.0


def test_the_careful_loop_keeps_its_views_and_stops_when_told() -> None:
    train, val = faces(12, 0), faces(4, 1)
    train["teacher_pmf"] = np.stack([train["teacher_pmf"]] * 2, axis=1)  # of two views
    spec = TrainSpec(model=ModelSpec(arch="lcnet_035", input_size=32)).with_values(
        {"optim.epochs": 4, "optim.batch_size": 8, "augment.views": 2}
    )
    cache: Views = {}
    told: list[tuple[int, float]] = []
    curve = train_plainly(
        spec,
        train,
        val,
        cache=cache,
        goes_on=lambda epoch, error: not told.append((epoch, error)) and epoch < 2,
    )
    assert sorted(cache) == [(32, 0), (32, 1)]
    assert [error for _, error in told] == curve
    assert len(curve) == 2
    assert train_plainly(spec, train, val, cache=cache)[:2] == pytest.approx(curve)


@pytest.mark.parametrize("has_teacher", [True, False])
def test_the_space_of_the_race_can_be_searched_with_fixed_views(has_teacher: bool) -> None:
    study = check_space(wall_clock_study(4, 2, has_teacher=has_teacher))
    assert ("distill.kd_weight" in study.space) == has_teacher
    assert (study.student.distill.kd_weight > 0) == has_teacher


class _End:
    """A worker's end of the pipe: what it was sent."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, what: object) -> None:
        self.sent.append(what)


def test_the_loop_tells_its_workers_to_stop_and_hands_out_each_trial_once() -> None:
    study = wall_clock_study(3, 4, has_teacher=False)
    loop = careful_loop._Loop(study, dict.fromkeys(networks(study), 1.0))
    ends: list[Any] = [_End(), _End()]
    for end in ends:
        loop._hand_out(end)
    loop._pruner.goes_on = lambda epoch, point: point[0] < 10.0  # type: ignore[method-assign]
    loop._hear(ends[0], (20.0, 1.0, False), 0.0)
    loop._hear(ends[1], (9.0, 1.0, False), 0.0)
    loop._hear(ends[1], (8.0, 1.0, True), 0.0)
    first, stop, last = ends[0].sent
    assert (stop, ends[1].sent[1:]) == (False, [True])
    assert len({spec.digest() for spec in (first, last, ends[1].sent[0])}) == 3
    assert [one.point for one in loop._reached] == [(8.0, 1.0)]
    assert (loop._stopped, loop._epochs, list(loop._running)) == (1, 3, [ends[0]])
