"""Axes, ticks and the SVG that charts become."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agesearch.reporting.charts.axes import Axis
from agesearch.reporting.charts.labels import Box, Named, level_places, placed
from agesearch.reporting.charts.plots import (
    Chart,
    Level,
    Mark,
    Polyline,
    curves_chart,
    front_chart,
    share_chart,
)
from agesearch.reporting.pages import environment

SVG = "{http://www.w3.org/2000/svg}"


def svg(chart: Chart) -> ElementTree.Element:
    text = environment().get_template("figure.svg.j2").render(chart=chart)
    return ElementTree.fromstring(text.strip())


def a_front() -> Chart:
    marks = [
        Mark(0.5, 8.0, "front", ("trial 1", "a <b> & c"), "", 7.0, 9.0),
        Mark(2.0, 6.0, "picked", ("trial 2",), "trial 2, knee", 5.5, 6.5),
        Mark(1.5, 7.5, "trial", ("trial 3",)),
        Mark(1.7, 99.0, "trial", ("a trial that diverged",)),
        Mark(30.0, 5.0, "teacher", ("teacher",), "teacher"),
    ]
    return front_chart(marks, [(0.5, 8.0), (2.0, 6.0)], [Level(7.9, "median"), Level(60.0, "out of sight")])


@settings(max_examples=60)
@given(st.floats(1e-3, 1e3), st.floats(1.01, 1e4), st.booleans())
def test_ticks_lie_inside_in_order_at_their_values(low: float, factor: float, log: bool) -> None:
    axis = Axis("x", low, low * factor, 60, 740, log=log)
    ticks = axis.ticks()
    pixels = [at for at, _ in ticks]
    assert len(ticks) <= 20
    assert pixels == sorted(pixels)
    assert all(60 <= at <= 740 for at in pixels)
    for at, label in ticks:
        assert at == pytest.approx(axis.at(float(label)), abs=0.02 * 680)


def test_an_axis_runs_from_start_to_end_and_keeps_outliers_at_its_edge() -> None:
    axis = Axis("y", 4.0, 8.0, 400, 40)
    assert (axis.at(4.0), axis.at(6.0), axis.at(8.0), axis.at(99.0)) == (400, 220, 40, 40)
    assert axis.beyond(10.0) == -140
    log = Axis("x", 1.0, 100.0, 0, 100, log=True)
    assert (log.at(1.0), log.at(10.0), log.at(100.0)) == (0, 50, 100)


def test_whole_numbered_axes_have_no_fractions() -> None:
    labels = [label for _, label in Axis("epoch", 1, 3, 0, 100, whole=True).ticks()]
    assert labels == ["1", "2", "3"]


def test_a_diverged_trial_does_not_flatten_the_others() -> None:
    chart = a_front()
    assert chart.y.high < 20
    assert chart.y.at(99.0) == chart.y.end
    assert [level.label for level in chart.levels] == ["median"]
    assert [kind for kind, _ in chart.legend] == ["front", "picked", "trial", "teacher"]


def test_a_long_legend_takes_rows_and_the_plot_begins_below_them() -> None:
    legend = [(f"curve-{place}", "a strategy's name") for place in range(8)]
    goal = (0.95, "goal")
    chart = share_chart(
        "Shares", "epochs", "share", [Polyline([(0.0, 0.0), (9.0, 1.0)], "curve-1")], goal, legend
    )
    assert [name for *_, name in chart.places] == [name for _, name in legend]
    assert max(x for x, *_ in chart.places) < chart.width - 100
    assert len({y for _, y, *_ in chart.places}) > 1
    assert max(y for _, y, *_ in chart.places) < chart.y.end
    short = share_chart("Shares", "epochs", "share", chart.curves, goal, legend[:2])
    assert short.y.end < chart.y.end


def test_the_front_is_a_staircase_to_the_right_edge() -> None:
    chart = a_front()
    path = chart.path(chart.curves[0])
    assert path.count("H") == path.count("V") == 2
    assert path.endswith(f"H{chart.x.end:g}V{chart.y.at(6.0):g}")


def test_a_figure_is_wellformed_svg_with_escaped_details() -> None:
    root = svg(a_front())
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert "trial 1\na <b> & c" in titles
    assert len(root.findall(f".//{SVG}circle[@class='mark mark-trial']")) == 3  # two trials, one legend
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "trial 2, knee" in texts
    assert "median: 7.90" in texts


def test_curves_draw_the_picked_trial_last_and_on_top() -> None:
    curves = [
        Polyline([(1, 9.0), (2, 7.0)], "curve-picked", ("trial 1",)),
        Polyline([(1, 9.5), (2, 8.0)], "curve", ("trial 2",)),
        Polyline([(1, 9.2)], "curve-front", ("trial 3",)),
    ]
    chart = curves_chart(curves)
    assert [curve.kind for curve in chart.curves] == ["curve", "curve-front", "curve-picked"]
    assert len(svg(chart).findall(f".//{SVG}path[@class='line line-curve-picked']")) == 2
    assert all(math.isfinite(chart.y.at(y)) for curve in curves for _, y in curve.points)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(0.1, 90.0), st.floats(2.0, 12.0)), min_size=2, max_size=7))
def test_names_lie_on_no_mark_and_inside_the_plot_at_both_widths(points: list[tuple[float, float]]) -> None:
    marks = [Mark(x, y, "front", label="a name" if place < 3 else "") for place, (x, y) in enumerate(points)]
    wide = front_chart(marks, [], [Level(points[0][1], "always the median")])
    for chart in (wide, wide.narrow()):
        boxes = [chart._box(mark) for mark in chart.marks]
        labels = chart.labels
        assert len(labels) == min(3, len(points)) + len(chart.levels)
        for label in labels:
            assert label.box.left >= chart.x.start
            assert label.box.right <= chart.x.end
        names = [label for label in labels if label.kind == "name"]
        assert all(name.box.overlap(box) == 0 for name in names for box in boxes)
        assert all(a.box.overlap(b.box) == 0 for a in names for b in names if a is not b)


def test_a_name_without_room_takes_the_place_with_the_least_overlap() -> None:
    plot = Box(0, 0, 200, 60)
    (only,) = placed([Named("name", 100, 30, "wide name here")], [Box(0, 0, 200, 60)], [], plot)
    assert plot.holds(only.box)
    (level,) = placed([Named("level-label", 0, 0, "goal", level_places("goal", 30, 0, 200))], [], [], plot)
    assert level.box.right < 200
    assert level.leader == ""


def test_intervals_of_what_is_in_sight_are_drawn_whole_and_others_end_in_an_arrow() -> None:
    chart = a_front()
    assert all(chart.y.holds(mark.high) for mark in chart.marks if mark.high is not None)
    assert chart.whisker(chart.marks[0]).count("h6") == 2
    beyond = Mark(1.0, 7.0, "trial", low=6.5, high=500.0)
    drawn = front_chart([*chart.marks, beyond], [], [])
    assert not drawn.y.holds(500.0)
    assert drawn.whisker(beyond).count("l4") == 2


def test_a_phone_gets_the_same_marks_on_fewer_ticks_whose_labels_keep_apart() -> None:
    wide = a_front()
    narrow = wide.narrow()
    assert narrow.width < 390
    assert narrow.marks == wide.marks
    for chart in (wide, narrow):
        shown = [(at, label) for at, label in chart.x.ticks() if label]
        assert len(shown) >= 3
        for (left, one), (right, other) in zip(shown, shown[1:], strict=False):
            assert right - left >= 3.5 * (len(one) + len(other))
    assert len(narrow.x_title) >= len(wide.x_title) == 1
    assert max(x for x, *_ in narrow.places) < narrow.width - 60
