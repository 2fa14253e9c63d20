"""Tables of the command line fit any terminal, and no figure of theirs is ever cut or broken."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agesearch.cli.tables import table

COLUMNS = ["trial", "network", "val MAE, years", "latency, ms", "params", "role"]
ROWS = [
    ["7", "mobilenetv3_small_050 at 96 px", "5.3217", "0.7461", "1.02 M", "knee"],
    ["12", "a_network_with_a_name_that_is_very_long_indeed at 128 px", "14.9023", "–", "24.02 M", ""],
]
FIGURES = ("5.3217", "0.7461", "14.9023", "7", "12")


def printed(width: int, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(table("Front of study", COLUMNS, ROWS, **options))  # type: ignore[arg-type]
    return captured.get()


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 70, 80, 100, 120, 200])
@pytest.mark.parametrize("optional", [(), ("role", "params")])
def test_no_figure_is_cut_and_no_line_is_wider_than_the_terminal(width: int, optional: tuple[str]) -> None:
    text = printed(width, optional=optional)
    assert max(map(len, text.split("\n"))) <= width
    assert set(FIGURES) <= set(text.split())
    assert "…" not in text
    whole = "".join(text.split())
    if not optional:  # nothing may be missing, in whatever order the lines stand
        assert all(part in whole for part in ("1.02M", "24.02M", "knee"))


def test_optional_columns_go_in_their_order_and_the_title_says_so() -> None:
    assert "no room" not in printed(120, optional=("role", "params"))
    first, second = printed(62, optional=("role", "params")), printed(54, optional=("role", "params"))
    assert "(no room for: params)" in first
    assert "role" in first
    assert "(no room for: role, params)" in second.replace("\n", " ")


def test_text_stands_left_and_numbers_right_whatever_their_place() -> None:
    lines = table(
        "", ["age", "why", "share", "when"], [["0–9", "x", "12 %", "-"], ["all", "yes", "9.5 %", ""]]
    )
    assert [lines.is_figures(place) for place in range(4)] == [False, False, True, True]
    for cell in (
        "12",
        "-3.5",
        "1,024",
        "1.20 (1.10 to 1.35)",
        "0.75 ms",
        "[0.1, 0.2]",
        "9/20",
        "2.4 x",
        "49 ×",
        "±0.3",
    ):
        assert table("", ["a"], [[cell]]).is_figures(0), cell
    for cell in ("3f2a91", "2 splits", "lcnet_035", "12 faces", "0.1.0rc"):
        assert not table("", ["a"], [[cell]]).is_figures(0), cell


def test_cells_are_plain_text() -> None:
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as captured:
        console.print(table("[bold]t[/bold]", ["a"], [["[red]\x1b[2J"]]))
    assert "[bold]t[/bold]" in captured.get()
    assert "[red]\\x1b[2J" in captured.get()
