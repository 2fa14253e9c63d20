"""The race by the clock on the wall: one goal for both, and what the careful loop keeps."""

from __future__ import annotations

import numpy as np
import pytest
from test_plain_loop import faces

from agesearch.bench.plain_loop import Views, train_plainly
from agesearch.bench.wallclock.run import wall_clock_study
from agesearch.bench.wallclock.spent import Reached, Spent, same_goal
from agesearch.search.space.space import check_space
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
