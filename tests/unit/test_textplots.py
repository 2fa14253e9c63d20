"""Sparklines and scatter plots of characters."""

from __future__ import annotations

import math

from agesearch.cli.textplots import scatter, sparkline


def test_a_sparkline_falls_with_its_values_and_ends_with_the_last() -> None:
    assert sparkline([8, 4, 1], 10) == "█▄▁"
    long = sparkline([float(value) for value in range(100, 0, -1)], 8)
    assert len(long) == 8
    assert (long[0], long[-1]) == ("█", "▁")


def test_a_sparkline_keeps_a_given_scale_and_shows_no_number_as_a_gap() -> None:
    assert sparkline([5.0], 4, low=0.0, high=10.0) == "▅"
    assert sparkline([1.0, math.nan, 3.0], 4) == "▁ █"
    assert sparkline([], 4) == ""
    assert sparkline([2.0, 2.0], 4) == "▁▁"
    assert sparkline([1.0, 3.0], 4, ascii_only=True).isascii()


def test_a_scatter_plot_puts_the_fast_left_and_the_good_below() -> None:
    lines = scatter([(0.5, 9.0), (2.0, 6.0)], [(0.5, 9.0), (2.0, 6.0)], 40, 8)
    assert len(lines) == 8
    assert max(map(len, lines)) <= 40
    assert lines[0].index("●") < lines[5].index("●")
    assert "0.50" in lines[-1]
    assert "2.00 ms" in lines[-1]


def test_one_diverged_trial_does_not_flatten_the_rest() -> None:
    front = [(0.5, 7.0), (1.0, 6.5), (2.0, 6.0)]
    lines = scatter([*front, (0.7, 400.0)], front, 50, 10)
    assert lines[0].split()[0] == ">7.0"
    assert sum(line.count("·") for line in lines[:-1]) == 1  # at the upper edge


def test_nothing_is_drawn_without_points_or_room() -> None:
    assert scatter([], [], 40, 8) == []
    assert scatter([(1.0, 5.0)], [(1.0, 5.0)], 10, 8) == []
    assert scatter([(math.nan, 5.0)], [], 40, 8) == []
    assert all(line.isascii() for line in scatter([(1.0, 5.0)], [], 40, 8, ascii_only=True))
