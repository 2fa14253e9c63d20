"""Annotation tables as owners write them: rows streamed with their line numbers.

Nothing here trusts the file: lines and cells have a largest size, and what is no text is one clear error.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.fs as pafs

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.sources.base import IMAGE_SUFFIXES, inside
from agesearch.data.sources.values import BadLabel, Box, clean, parse_years
from agesearch.errors import InputError, first_line
from agesearch.storage import Location

Cells = tuple[int, list[str]]

_MAX_LINE_CHARACTERS = 1_000_000
_SNIFFED_CHARACTERS = 65_536
#: Excel writes the separator above the header for other Excels.
_SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)


#: How files begin that are no text, and what they are.
_NO_TEXT = {
    b"PK\x03\x04": "a workbook or another archive: save its sheet as 'CSV UTF-8'",
    b"\xd0\xcf\x11\xe0": "an old workbook: save its sheet as 'CSV UTF-8'",
    b"\x1f\x8b": "compressed: unpack it first",
}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: Bytes of text for each NUL, in what is taken for text.
_LEAST_TEXT_A_NUL = 16
_BEGINNING_BYTES = 4096


class RowCells(dict[str, str]):
    """The cells of a row by ``column_key``; ``surplus`` holds what stands beyond the last column."""

    surplus: tuple[str, ...] = ()


Row = tuple[int, RowCells]


@contextmanager
def open_text(where: Location) -> Iterator[io.TextIOWrapper]:
    """A file as text: UTF-8 with or without a byte order mark, or UTF-16 with one. ``InputError`` where it is
    not text or cannot be read.
    """
    try:
        with where.filesystem.open_input_stream(where.path) as stream:
            beginning = bytes(stream.read(_BEGINNING_BYTES))
        encoding = _encoding(where, beginning)
        with where.filesystem.open_input_stream(where.path) as stream:
            yield io.TextIOWrapper(stream, encoding=encoding, newline="")
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{where}' is not UTF-8 text: {error.reason} (byte {error.object[error.start]:#04x}). Save it "
            f"as UTF-8, such as with: iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(where.path)} > utf8.csv"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"'{where}' cannot be read: {first_line(error)[:200]}") from error


def _encoding(where: Location, beginning: bytes) -> str:
    if beginning.startswith(_UTF16):
        return "utf-16"
    kind = next((name for start, name in _NO_TEXT.items() if beginning.startswith(start)), None)
    # One cell may hold one (it names no file, then); every other byte is one in UTF-16 without its mark.
    if kind is None and beginning.count(b"\0") * _LEAST_TEXT_A_NUL > len(beginning):
        kind = "a binary file, or text without a byte order mark: save it as UTF-8"
    if kind is not None:
        raise InputError(f"'{where}' is not UTF-8 text but {kind}.")
    return "utf-8-sig"


def lines_of(text: io.TextIOWrapper, where: Location) -> Iterator[str]:
    """The lines with their ends; an ``InputError`` for one too long to be a row of a table."""
    number = 0
    while line := text.readline(_MAX_LINE_CHARACTERS):
        number += 1
        if len(line) == _MAX_LINE_CHARACTERS and not line.endswith(("\n", "\r")):
            raise InputError(f"'{where}', line {number} has more than {_MAX_LINE_CHARACTERS} characters.")
        yield line


def delimiter_of(where: Location) -> str:
    """The separator of a table with a header: a tab for ``.tsv``, what an ``sep=`` line of Excel says, or
    what the header has most of; a comma for a single column.
    """
    if where.name.lower().endswith(".tsv"):
        return "\t"
    with open_text(where) as text:
        header = text.read(_SNIFFED_CHARACTERS).lstrip().splitlines()[:1] or [""]
    declared = _SEPARATOR_LINE.fullmatch(header[0].strip("\"'"))
    return declared[1] if declared else max(",;\t|", key=lambda mark: (header[0].count(mark), mark == ","))


def cell_rows(where: Location, *, delimiter: str = ",", quote: str | None = '"') -> Iterator[Cells]:
    """Line number and cells, stripped, of every row that is not blank. ``quote`` None: no mark is special."""
    with open_text(where) as text:
        reader = csv.reader(
            lines_of(text, where),
            delimiter=delimiter,
            quotechar=quote,
            quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
            skipinitialspace=True,
        )
        try:
            for cells in reader:
                stripped = [cell.strip() for cell in cells]
                declared = reader.line_num == 1 and _SEPARATOR_LINE.fullmatch(delimiter.join(cells))
                if any(stripped) and not declared:
                    yield reader.line_num, stripped
        except csv.Error as error:
            raise InputError(f"'{where}', line {reader.line_num}: {error}.") from error


def column_key(name: str) -> str:
    """The name of a column as it is looked up: lower case, words joined by ``_`` (``Real Age``: real_age)."""
    return "_".join(re.split(r"[\s_-]+", clean(name).lower())).strip("_")


def table_rows(
    where: Location, *, delimiter: str = ",", quote: str | None = '"'
) -> tuple[list[str], Iterator[Row]]:
    """The header of a table as it is written, and its rows; missing cells are empty."""
    rows = cell_rows(where, delimiter=delimiter, quote=quote)
    header = next(rows, (0, list[str]()))[1]
    return header, _by_column(rows, [column_key(name) for name in header])


def _by_column(rows: Iterator[Cells], keys: list[str]) -> Iterator[Row]:
    for line, cells in rows:
        padded = [clean(cell) for cell in cells] + [""] * (len(keys) - len(cells))
        row = RowCells(zip(keys, padded, strict=False))
        row.surplus = tuple(filter(None, padded[len(keys) :]))
        yield line, row


def named_rows(
    where: Location, needed: Iterable[str] = (), *, delimiter: str | None = None, quote: str | None = '"'
) -> Iterator[Row]:
    """Rows of a table with a header, cells by ``column_key``. ``InputError`` where a ``needed`` column is not
    there, or there twice. Without a ``delimiter`` the header tells it: spreadsheets of many countries save
    with semicolons.
    """
    header, rows = table_rows(where, delimiter=delimiter or delimiter_of(where), quote=quote)
    keys = [column_key(name) for name in header]
    for name in needed:
        if keys.count(name) != 1:
            raise no_column(
                where, f"has {'no' if name not in keys else 'more than one'} column '{name}'", header
            )
    yield from rows


def no_column(where: Location, what: str, header: Sequence[str]) -> InputError:
    """The error for a table whose columns will not do: it lists them, or says that a row stands for them."""
    if any(is_image_name(clean(name)) for name in header):
        row = ", ".join(header)[:200]
        return InputError(
            f"'{where}' has no header: its first row is '{row}'. Write one above it that names the columns, "
            "such as file,age."
        )
    listed = ", ".join(name or "(no name)" for name in header[:30])[:500] or "none"
    return InputError(f"'{where}' {what}. Columns found: {listed}.")


def check_width(row: RowCells) -> None:
    """``BadLabel`` ``too_many_cells`` for a row with more cells than there are columns: it is not known which
    of them belong together.
    """
    if row.surplus:
        raise BadLabel(
            "too_many_cells",
            f"the row has more cells than there are columns ('{row.surplus[0][:40]}' is beyond the last): a "
            "value that holds the separator must stand in quotes",
        )


def numbered_rows(where: Location, *, path_at: int, quote: str = "|") -> Iterator[Cells]:
    """Rows of a comma separated table whose columns are known by number. A first row that names no image in
    column ``path_at`` is a header, and skipped.
    """
    rows = cell_rows(where, quote=quote)
    first = next(rows, None)
    if first is not None and is_image_name(cell(first[1], path_at)):
        yield first
    yield from rows


def cell(cells: Sequence[str], index: int) -> str:
    """A cell by its number, empty where it is missing."""
    return clean(cells[index]) if -len(cells) <= index < len(cells) else ""


def is_image_name(name: str) -> bool:
    """Whether a name ends like an image's."""
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES if "." in name else False


def corners_box(box: Box) -> Box:
    """A box given by its corners ``x1, y1, x2, y2`` as ``x, y, w, h``."""
    left, top, right, bottom = box
    return left, top, right - left, bottom - top


def single_age(written: str, *, unlabelled: bool = False) -> float | None:
    """One age in years, not a group. ``BadLabel`` ``no_age`` for an empty cell (None where ``unlabelled``),
    ``bad_age`` for anything else that is no age in 0..100.
    """
    return None if unlabelled and not clean(written) else parse_years(written)


def entry(
    table: Location,
    line: int,
    source: str,
    images: Location,
    written: str,
    build: Callable[[str], SourceRecord],
    row: RowCells | None = None,
) -> SourceRecord | Rejected:
    """What ``build`` makes of the full path of the image that a row names, or why the row is left out. The
    ``row`` itself, where the table has a header, is checked for cells beyond the last column.
    """
    path = str(table.parent / f"{table.name}:{line}")
    try:
        path = inside(written, images)
        if row is not None:
            check_width(row)
        return build(path)
    except BadLabel as error:
        return Rejected(path, error.reason, f"{table.name}, line {line}: {error}", source)


def find(folder: Location, candidates: Iterable[str]) -> Location | None:
    """The first of some files or folders inside ``folder`` that is there; an empty name is the folder."""
    places = (folder / name if name else folder for name in candidates)
    return next((place for place in places if place.exists()), None)


def missing_files(root: Location, source: str, names: Iterable[str]) -> InputError:
    """The error for a root without the files that a source needs."""
    listed = ", ".join(f"'{name}'" for name in names)
    state = "has not all the files" if root.exists() else "is not there, and would need the files"
    return InputError(f"'{root}' {state} of the source '{source}'. Expected there: {listed}.")


def file_names(folder: Location) -> set[str]:
    """The names of what lies directly in a folder; empty where there is no such folder."""
    infos = folder.filesystem.get_file_info(pafs.FileSelector(folder.path, allow_not_found=True))
    return {str(info.base_name) for info in infos}
