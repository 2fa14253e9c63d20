"""Annotation tables as owners write them: rows streamed with their line numbers.

Nothing here trusts the file: lines and cells have a largest size, and what is no text is one clear error.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.fs as pafs

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.sources.base import IMAGE_SUFFIXES, BadLabel, inside, parse_age
from agesearch.errors import InputError, first_line
from agesearch.storage import Location

Row = tuple[int, dict[str, str]]
Cells = tuple[int, list[str]]
Box = tuple[float, float, float, float]

_MAX_LINE_CHARACTERS = 1_000_000


@contextmanager
def open_text(where: Location) -> Iterator[io.TextIOWrapper]:
    """A file as UTF-8 text, with or without a byte order mark; ``InputError`` where it is not text or cannot
    be read.
    """
    try:
        with where.filesystem.open_input_stream(where.path) as stream:
            yield io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    except UnicodeDecodeError as error:
        raise InputError(f"'{where}' is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"'{where}' cannot be read: {first_line(error)[:200]}") from error


def lines_of(text: io.TextIOWrapper, where: Location) -> Iterator[str]:
    """The lines with their ends; an ``InputError`` for one too long to be a row of a table."""
    number = 0
    while line := text.readline(_MAX_LINE_CHARACTERS):
        number += 1
        if len(line) == _MAX_LINE_CHARACTERS and not line.endswith(("\n", "\r")):
            raise InputError(f"'{where}', line {number} has more than {_MAX_LINE_CHARACTERS} characters.")
        yield line


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
                if any(stripped):
                    yield reader.line_num, stripped
        except csv.Error as error:
            raise InputError(f"'{where}', line {reader.line_num}: {error}.") from error


def named_rows(
    where: Location, needed: Iterable[str] = (), *, delimiter: str = ",", quote: str | None = '"'
) -> Iterator[Row]:
    """Rows of a table with a header, cells by column name; missing cells are empty. ``InputError`` where a
    ``needed`` column is not there.
    """
    rows = cell_rows(where, delimiter=delimiter, quote=quote)
    header = next(rows, (0, list[str]()))[1]
    missing = [name for name in needed if name not in header]
    if missing:
        found = ", ".join(name or "(no name)" for name in header[:30])[:500] or "none"
        raise InputError(f"'{where}' has no column '{missing[0]}'. Columns found: {found}.")
    for line, cells in rows:
        padded = cells + [""] * (len(header) - len(cells))
        yield line, dict(zip(header, padded, strict=False))


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
    """A cell by its number, empty where the row is shorter."""
    return cells[index] if -len(cells) <= index < len(cells) else ""


def is_image_name(name: str) -> bool:
    """Whether a name ends like an image's."""
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES if "." in name else False


def parse_box(written: Sequence[str]) -> Box:
    """``x, y, w, h`` in pixels from four cells; ``BadLabel`` ``bad_box`` where they are not four numbers."""
    try:
        x, y, w, h = (float(text) for text in written)
    except ValueError as error:
        raise BadLabel("bad_box", f"'{' '.join(written)[:60]}' is not a box of four numbers") from error
    return x, y, w, h


def corners_box(box: Box) -> Box:
    """A box given by its corners ``x1, y1, x2, y2`` as ``x, y, w, h``."""
    left, top, right, bottom = box
    return left, top, right - left, bottom - top


def single_age(written: str, *, unlabelled: bool = False) -> float | None:
    """One age in years, not a group. ``BadLabel`` ``no_age`` for an empty cell (None where ``unlabelled``),
    ``bad_age`` for anything else that is no age in 0..100.
    """
    try:
        age, low, _ = parse_age(written)
    except BadLabel as error:
        if unlabelled and error.reason == "no_age":
            return None
        raise
    if low is not None:
        raise BadLabel("bad_age", f"'{written[:40]}' is not one age")
    return age


def entry(
    table: Location,
    line: int,
    source: str,
    images: Location,
    written: str,
    build: Callable[[str], SourceRecord],
) -> SourceRecord | Rejected:
    """What ``build`` makes of the full path of the image that a row names, or why the row is left out."""
    path = str(table.parent / f"{table.name}:{line}")
    try:
        path = inside(written, images)
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
