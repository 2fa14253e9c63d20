"""Tables of the command line: text left, numbers right, and never a figure that is cut.

A table takes the width that there is. Where its columns do not fit, words go on in a next line first (a name
that is longer than ``_WORD`` is folded), then the columns named ``optional`` are left out, the last of them
first, and the title says which; where even that is too wide, each row becomes a block of lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from agesearch.reporting.evaluations import Lines

#: Columns where there is no terminal to ask: wide enough that no table is cut in a pipe or a log.
PIPE_WIDTH = 120

#: A column of words gets no narrower than its longest word, up to so many characters.
_WORD = 24

#: Between two columns: the box's divider and a space.
_GAP = 2

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}

#: What a figure is made of: numbers, the signs between them, and units.
_NUMBER = r"[+\-−±~<>≤≥]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
_UNIT = r"(?:%|×|(?:x|ms|s|min|h|px|MB|MiB|GB|kB|M|k|years?|of|to|at)\b)"
_FIGURE = re.compile(rf"[(\[]?{_NUMBER}(?:[\s:/(\[,;×±x–\-]*(?:{_NUMBER}|{_UNIT}|[)\]]))*[)\]]?")
_NOTHING = re.compile(r"[\s\-–]*")

Rows = Sequence[Sequence[str]]


def harmless(text: str) -> str:
    """The text without what a terminal would obey: file names and labels of a source may hold control
    characters, which are written as ``\\xHH``.
    """
    return text.translate(_CONTROLS)


def table(
    title: str,
    columns: Sequence[str],
    rows: Rows,
    *,
    optional: Sequence[str] = (),
    sections: Sequence[int] = (),
) -> TextTable:
    """A table in the house style; cells are plain text, without markup.

    ``optional`` names columns that may be left out where the width is short, the most important first (names
    that the table does not have are passed over);
    ``sections`` are the rows after which a line is left free.
    """
    cells = tuple(tuple(harmless(cell) for cell in row) for row in rows)
    return TextTable(harmless(title), tuple(columns), cells, tuple(optional), tuple(sections))


@dataclass(frozen=True)
class TextTable:
    """A table that lays itself out for the width it is printed in."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    sections: tuple[int, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = list(range(len(self.columns)))
        dropped: list[str] = []
        left = [self.columns.index(name) for name in self.optional if name in self.columns]
        while (widths := self._widths(shown, options.max_width)) is None and left:
            shown.remove(left[-1])
            dropped.append(self.columns[left.pop()])
        if widths is None:
            yield from self._stacked()
            return
        left_out = f" (no room for: {', '.join(reversed(dropped))})" if dropped else ""
        yield from _titled(self.title + left_out)
        yield self._grid(shown, widths)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        natural = sum(self._natural(place) + _GAP for place in range(len(self.columns)))
        return Measurement(min(20, options.max_width), min(natural, options.max_width))

    def is_figures(self, place: int) -> bool:
        """Whether a column holds figures, which stand right and are never broken."""
        cells = [row[place].strip() for row in self.rows]
        return any(cells) and all(_NOTHING.fullmatch(cell) or _FIGURE.fullmatch(cell) for cell in cells)

    def _natural(self, place: int) -> int:
        return max(map(_width, (self.columns[place], *(row[place] for row in self.rows))))

    def _least(self, place: int) -> int:
        """The width below which a column may not go."""
        head = _longest_word(self.columns[place])
        if self.is_figures(place):
            return max(head, *(_width(row[place]) for row in self.rows))
        words = max((_longest_word(row[place]) for row in self.rows), default=0)
        return max(head, min(words, _WORD))

    def _widths(self, shown: Sequence[int], room: int) -> list[int] | None:
        """The widths of these columns within ``room``, or None where they do not fit."""
        room -= _GAP * (len(shown) - 1)
        widths = [self._least(place) for place in shown]
        if sum(widths) > room:
            return None
        wanted = [self._natural(place) for place in shown]
        for index in range(len(widths)):  # what stands further left says whose row it is, and is broken last
            widths[index] += min(room - sum(widths), wanted[index] - widths[index])
        return widths

    def _grid(self, shown: Sequence[int], widths: Sequence[int]) -> RichTable:
        grid = RichTable(
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            header_style="bold",
            show_header=any(self.columns),
        )
        for place, width in zip(shown, widths, strict=True):
            side = "right" if self.is_figures(place) else "left"
            grid.add_column(Text(self.columns[place]), justify=side, width=width, overflow="fold")  # type: ignore[arg-type]
        for index, row in enumerate(self.rows):
            grid.add_row(*(Text(row[place]) for place in shown), end_section=index in self.sections)
        return grid

    def _stacked(self) -> Iterator[Text]:
        """Each row as a block: its first cell, and a line for every other that says something."""
        yield from _titled(self.title)
        margin = max((_width(name) for name in self.columns[1:]), default=0)
        for row in self.rows:
            head = f"{self.columns[0]} {row[0]}".strip()
            yield Text(head, style="bold", overflow="fold")
            for name, cell in zip(self.columns[1:], row[1:], strict=True):
                if cell.strip():
                    yield Text(f"  {name:<{margin}}  {cell}" if margin else f"  {cell}", overflow="fold")


def _titled(title: str) -> Iterator[Text]:
    if title:
        yield Text(title, style="bold", overflow="fold")


def _width(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def lines_table(lines: Lines) -> TextTable:
    """A report's lines as a table, with a line free between its sections."""
    rows = [row for section in lines.sections for row in section]
    ends = list(accumulate(len(section) for section in lines.sections))
    return table(lines.title, lines.columns, rows, sections=[end - 1 for end in ends])
