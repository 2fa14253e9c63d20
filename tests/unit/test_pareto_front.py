"""The front, its knee and its area, against definitions written the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agesearch.errors import InputError
from agesearch.search.store.pareto import dominates, front, hypervolume, knee

coordinate = st.floats(0.0, 10.0).map(lambda value: round(value, 1))  # coarse, so that ties happen
special = st.one_of(coordinate, st.sampled_from([math.nan, math.inf]))


def clouds(
    dimensions: int, values: st.SearchStrategy[float] = coordinate
) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(st.lists(values, min_size=dimensions, max_size=dimensions), max_size=30)


@given(st.integers(2, 4).flatmap(lambda dimensions: clouds(dimensions, special)))
def test_front_is_the_definition(points: list[list[float]]) -> None:
    finite = [index for index, point in enumerate(points) if all(map(math.isfinite, point))]
    slow = {i for i in finite if not any(dominates(points[j], points[i]) for j in finite)}
    found = front(points)
    assert set(found) == slow
    assert len(found) == len(slow)
    firsts = [points[index][0] for index in found]
    assert firsts == sorted(firsts)


@given(clouds(2), st.randoms())
def test_the_front_does_not_depend_on_order(points: list[list[float]], random: object) -> None:
    shuffled = list(points)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sorted(points[i] for i in front(points)) == sorted(shuffled[i] for i in front(shuffled))


@given(clouds(2))
def test_hypervolume_is_the_share_of_a_grid_that_is_dominated(points: list[list[float]]) -> None:
    cells = np.arange(100) / 10 + 0.05  # cell centres; coordinates lie on the cells' edges
    below = np.zeros((100, 100), dtype=bool)
    for first, second in points:
        below |= (cells[:, None] > first) & (cells[None, :] > second)
    assert hypervolume(points, (10.0, 10.0)) == pytest.approx(below.sum() / 100, abs=1e-6)


@given(clouds(2), st.lists(coordinate, min_size=2, max_size=2))
def test_hypervolume_never_falls_when_a_point_comes(points: list[list[float]], more: list[float]) -> None:
    assert hypervolume([*points, more], (9.0, 9.0)) >= hypervolume(points, (9.0, 9.0)) - 1e-9


def test_hypervolume_of_a_known_staircase() -> None:
    assert hypervolume([(1, 3), (2, 2), (3, 1), (3, 3)], (4, 4)) == 6.0
    assert hypervolume([], (4, 4)) == 0.0
    with pytest.raises(InputError, match="must have 2"):
        hypervolume([(1, 2)], (4, 4, 4))


def test_the_knee_is_where_a_front_bends() -> None:
    errors, latencies = [9.0, 6.0, 5.9, 5.8, 7.0], [0.5, 0.8, 2.0, 8.0, 9.0]
    assert knee(errors, latencies) == 1


def test_a_front_without_a_bend_gives_its_most_accurate_end() -> None:
    assert knee([9.0, 5.0], [1.0, 4.0]) == 1
    assert knee([9.0, 8.9, 5.0], [1.0, 2.0, 4.0]) == 2
    assert knee([5.0], [1.0]) == 0
    with pytest.raises(InputError, match="at least one trial"):
        knee([math.nan], [1.0])


@given(st.lists(st.tuples(st.floats(1, 20), st.floats(0.1, 50)), min_size=1, max_size=20))
def test_the_knee_is_on_the_front(points: list[tuple[float, float]]) -> None:
    errors, latencies = zip(*points, strict=True)
    assert knee(errors, latencies) in front(list(zip(errors, np.log(latencies), strict=True)))


def test_the_knee_ignores_units() -> None:
    errors, latencies = [9.0, 6.0, 5.9, 5.8], [0.5, 0.8, 2.0, 8.0]
    assert knee([12 * error for error in errors], [latency * 1000 for latency in latencies]) == 1


def test_rows_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="rows of two or more"):
        front([1.0, 2.0])
    with pytest.raises(InputError, match="rows of two or more"):
        front([[1.0], [2.0]])


def test_dominating_is_nowhere_worse_and_somewhere_better() -> None:
    assert dominates((1.0, 2.0), (1.0, 3.0))
    assert not dominates((1.0, 2.0), (1.0, 2.0))
    assert not dominates((1.0, 4.0), (2.0, 3.0))
    assert not dominates((2.0, 3.0), (1.0, 3.0))


def test_the_knee_of_a_narrow_front_is_scaled_to_its_own_extent() -> None:
    errors, latencies = [5.3, 5.12, 5.1], [0.5, 0.55, 0.9]  # neither spans 1
    assert knee(errors, latencies) == 1
    assert knee([5.0, 5.0], [1.0, 1.0]) == 0  # no extent at all
