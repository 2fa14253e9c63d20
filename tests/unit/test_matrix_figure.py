"""The heat map across datasets: every figure is printed, readable and under its own names."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from agesearch.errors import InputError
from agesearch.measure.intervals import Estimate
from agesearch.reporting.charts import heat_map as matrix
from agesearch.reporting.charts.heat_map import matrix_figure

SVG = "{http://www.w3.org/2000/svg}"
VALUES: list[list[Estimate | None]] = [
    [Estimate(4.0, 3.5, 4.5, 100), Estimate(8.0, 7.0, 9.0, 50)],
    [Estimate(9.0, 8.25, 9.75, 100), None],
]


def drawn(**options: Any) -> ElementTree.Element:
    return ElementTree.fromstring(matrix_figure(["a", "b <x>"], ["a", "c"], VALUES, **options))


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]


def test_every_cell_prints_its_figure_with_the_interval_below() -> None:
    written = texts(drawn(unit="MAE, years", note="test splits"))
    for words in ("4.00", "3.50–4.50", "8.00", "9.00", "8.25–9.75", "–", "b <x>", "c", "test splits"):
        assert words in written
    percents = texts(drawn(as_percent=True))
    assert "400.0%" in percents


def test_only_cells_of_one_name_are_outlined() -> None:
    marked = [box for box in drawn().iter(f"{SVG}rect") if box.get("class") == "marked"]
    assert len(marked) == 2  # the cell (a, a) and the legend
    alone = matrix_figure(["a"], ["b"], [[VALUES[0][0]]])
    assert 'class="marked"' not in alone


def test_a_tooltip_says_who_was_tested_where_on_how_many_faces() -> None:
    titles = [title.text for title in drawn().iter(f"{SVG}title")]
    assert "a on c\n8.00 (95 % 7.00–9.00), 50 faces" in titles
    assert "b <x> on c: not measured" in titles


def test_larger_figures_are_darker_and_their_ink_contrasts() -> None:
    shades = [matrix._luminance(matrix._colour(step / 20)) for step in range(21)]
    assert shades == sorted(shades, reverse=True)
    ink = matrix._luminance((0x10, 0x23, 0x3B))
    for shade in shades:
        dark, light = (shade + 0.05) / (ink + 0.05), 1.05 / (shade + 0.05)
        assert (light if shade < 0.21 else dark) >= 3.9  # WCAG asks 3 of large, 4.5 of small text


def test_a_long_name_keeps_its_ends_and_stays_whole_in_its_tooltip() -> None:
    name = "appa-real with apparent ages, validation"
    figure = matrix_figure(["a"], [name], [[None]])
    assert name not in texts(ElementTree.fromstring(figure))
    assert f"<title>{name}</title>" in figure
    assert matrix._short("abcdefghij", 7.2 * 7 + 10.1) == "abc…hij"


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="2 columns"):
        matrix_figure(["a"], ["b", "c"], [[None]])
