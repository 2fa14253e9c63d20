"""A cross-dataset matrix as a heat map in SVG: what each model was trained on, and what it is tested on.

Every cell prints its figure and its interval, so that the colour only guides the eye.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agesearch.errors import InputError
from agesearch.measure.intervals import Estimate
from agesearch.reporting.charts.axes import Axis, Bands
from agesearch.reporting.pages import environment

_LETTER = 7.2
_ROW_HEIGHT = 58
_CELL = (108, 168)
_HEADER = 118
_FOOTER = 58
_MARGIN = 14
_LEFT = 46

#: From the smallest to the largest figure (sRGB); lightness falls evenly.
_RAMP = ((0xF2, 0xF6, 0xFB), (0xB5, 0xD1, 0xEE), (0x6A, 0xA3, 0xDB), (0x2C, 0x6F, 0xB6), (0x11, 0x3B, 0x73))


@dataclass(frozen=True)
class MatrixCell:
    """A rectangle with its lines of text; ``fill`` and ``ink`` are CSS colours, empty for no figure."""

    x: float
    y: float
    text: str
    interval: str
    fill: str
    ink: str
    marked: bool
    details: tuple[str, ...]


@dataclass(frozen=True)
class MatrixFigure:
    """All that the template draws, in pixels."""

    title: str
    unit: str
    rows_title: str
    columns_title: str
    note: str
    rows: Sequence[tuple[float, str, str]]
    columns: Sequence[tuple[float, str, str]]
    cells: Sequence[MatrixCell]
    ramp: Sequence[str]
    ends: tuple[str, str]
    left: float
    cell_width: float
    width: float
    height: float

    @property
    def top(self) -> int:
        """The upper edge of the cells."""
        return _HEADER

    @property
    def cell_height(self) -> int:
        """The height of a cell."""
        return _ROW_HEIGHT


def matrix_figure(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[Estimate | None]],
    *,
    title: str = "Across datasets",
    unit: str = "MAE, years",
    rows_title: str = "trained on",
    columns_title: str = "tested on",
    note: str = "",
    digits: int = 2,
    as_percent: bool = False,
    on_page: bool = False,
) -> str:
    """The heat map as an SVG document, ``on_page`` in the colours of the page around it:
    ``values[row][column]``, None where nothing was measured.

    Cells whose row and column have one name (trained and tested on parts of one dataset) are outlined.
    ``note`` is a line under the map. Sizes that do not fit the names are an ``InputError``.
    """
    if not rows or not columns or [len(line) for line in values] != [len(columns)] * len(rows):
        raise InputError(
            f"A matrix of {len(rows)} rows and {len(columns)} columns needs as many values, but got "
            f"{[len(line) for line in values]} a row."
        )
    write = _Writer(digits, as_percent)
    figure = _laid_out(rows, columns, values, write, (title, unit, rows_title, columns_title, note))
    return environment().get_template("matrix.svg.j2").render(figure=figure, on_page=on_page).strip() + "\n"


@dataclass(frozen=True)
class _Writer:
    """How a figure is written."""

    digits: int
    as_percent: bool

    def __call__(self, value: float) -> str:
        return f"{value:.{max(0, self.digits - 1)}%}" if self.as_percent else f"{value:.{self.digits}f}"


def _laid_out(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[Estimate | None]],
    write: _Writer,
    words: tuple[str, str, str, str, str],
) -> MatrixFigure:
    title, unit, rows_title, columns_title, note = words
    known = [cell.value for line in values for cell in line if cell is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    shade = Axis(unit, low, high, start=0.0, end=1.0)
    cell_width = min(max(_LETTER * max(map(len, columns)) + 18, _CELL[0]), _CELL[1])
    left = _LEFT + min(_LETTER * max(map(len, rows)), 190.0) + 14
    across, down = Bands(left, cell_width), Bands(_HEADER, _ROW_HEIGHT)
    cells = [
        _cell(
            across.edge(place),
            down.edge(line),
            values[line][place],
            (row, column),
            _share(values[line][place], shade),
            write,
        )
        for line, row in enumerate(rows)
        for place, column in enumerate(columns)
    ]
    return MatrixFigure(
        title=title,
        unit=unit,
        rows_title=rows_title,
        columns_title=columns_title,
        note=note,
        rows=[(down.middle(line), _short(name, left - _LEFT), name) for line, name in enumerate(rows)],
        columns=[
            (across.middle(place), _short(name, cell_width), name) for place, name in enumerate(columns)
        ],
        cells=cells,
        ramp=[_css(_colour(step / 16)) for step in range(17)],
        ends=(write(low), write(high)),
        left=left,
        cell_width=cell_width,
        width=round(max(across.edge(len(columns)) + _MARGIN, 420, 7.0 * len(note) + 2 * _MARGIN)),
        height=down.edge(len(rows)) + _FOOTER + (20 if note else 0),
    )


def _cell(
    x: float, y: float, cell: Estimate | None, names: tuple[str, str], share: float, write: _Writer
) -> MatrixCell:
    row, column = names
    if cell is None:
        return MatrixCell(x, y, "–", "", "", "", row == column, (f"{row} on {column}: not measured",))
    colour = _colour(share)
    interval = f"{write(cell.low)}–{write(cell.high)}"
    details = (
        f"{row} on {column}",
        f"{write(cell.value)} (95 % {interval}), {cell.basis}",
    )
    ink = "#fff" if _luminance(colour) < 0.21 else "#10233b"
    return MatrixCell(x, y, write(cell.value), interval, _css(colour), ink, row == column, details)


def _share(cell: Estimate | None, shade: Axis) -> float:
    return 0.0 if cell is None or not math.isfinite(cell.value) else shade.share(cell.value)


def _colour(share: float) -> tuple[int, int, int]:
    place = min(max(share, 0.0), 1.0) * (len(_RAMP) - 1)
    index = min(int(place), len(_RAMP) - 2)
    rest = place - index
    first, second = _RAMP[index], _RAMP[index + 1]
    red, green, blue = (round(a + (b - a) * rest) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _css(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def _luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance as WCAG 2 defines it: 0 for black, 1 for white."""
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _short(name: str, pixels: float) -> str:
    """A name that fits, its middle left out where it is too long; the full one stands in the tooltip."""
    room = max(5, int((pixels - 10) / _LETTER))
    if len(name) <= room:
        return name
    return f"{name[: room // 2]}…{name[len(name) - (room - 1) // 2 :]}"
