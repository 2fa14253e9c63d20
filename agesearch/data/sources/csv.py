"""Reader of any CSV, TSV or JSON Lines file with a column of image paths and one of ages or age ranges.

Columns are found by their usual names (``ALIASES``) or by the user's own (``--column age=years``).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.images.files import printable
from agesearch.data.sources.base import (
    BadLabel,
    Source,
    SourceOptions,
    age_range,
    parse_age,
    parse_number,
    parse_sex,
    parse_split,
    resolve,
)
from agesearch.data.sources.tables import Box, Row, lines_of, named_rows, open_text, parse_box
from agesearch.errors import InputError, unknown_name
from agesearch.storage import Location

#: Field -> the column names, in lower case, that it is known by, best first.
ALIASES: dict[str, tuple[str, ...]] = {
    "path": (
        "path", "file", "file_name", "filename", "filepath", "file_path", "full_path", "image", "image_path",
        "img", "img_path", "photo",
    ),
    "age": ("age", "real_age", "age_years", "years", "apparent_age_avg", "apparent_age"),
    "age_std": ("age_std", "apparent_age_std"),
    "age_low": ("age_low", "age_min"),
    "age_high": ("age_high", "age_max"),
    "subject": ("subject_id", "subject", "identity", "person_id", "person", "id_num", "user_id"),
    "sex": ("sex", "gender"),
    "ethnicity": ("ethnicity", "race"),
    "source": ("source", "dataset", "database"),
    "split": ("split", "part", "partition", "subset"),
    "fold": ("fold",),
    "box_x": ("box_x",),
    "box_y": ("box_y",),
    "box_w": ("box_w",),
    "box_h": ("box_h",),
}  # fmt: skip
_BOX = ("box_x", "box_y", "box_w", "box_h")
_JSON_SUFFIXES = (".jsonl", ".ndjson")
_SNIFFED_CHARACTERS = 65_536


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per row. ``InputError`` where the file is missing, empty, not text, or lacks the path or the
    age column; rows whose path, age, split or fold cannot be used are ``Rejected``.
    """
    where = options.root
    if not where.exists() or where.is_dir():
        raise InputError(f"There is no file '{where}', but the source 'csv' reads a CSV, TSV or JSONL file.")
    rows = _rows(options)
    first = next(rows, None)
    if first is None:
        raise InputError(f"'{where}' has no rows.")
    columns = _columns(list(first[1]), options)
    source = where.name.rsplit(".", 1)[0]
    for line, row in itertools.chain([first], rows):
        yield _record(row, columns, options, source, line)


def _rows(options: SourceOptions) -> Iterator[Row]:
    """Line number and cells (by column name) of every row that is not blank."""
    where = options.root
    if where.name.lower().endswith(_JSON_SUFFIXES):
        return _json_rows(where)
    return named_rows(where, delimiter=_delimiter(where))


def _delimiter(where: Location) -> str:
    """The separator that the header has most of; a comma for a single column."""
    if where.name.lower().endswith(".tsv"):
        return "\t"
    with open_text(where) as text:
        header = text.read(_SNIFFED_CHARACTERS).lstrip().split("\n", 1)[0]
    return max(",;\t|", key=lambda mark: (header.count(mark), mark == ","))


def _json_rows(where: Location) -> Iterator[Row]:
    with open_text(where) as text:
        for number, line in enumerate(lines_of(text, where), start=1):
            if line.strip():
                yield number, _json_row(line, where, number)


def _json_row(line: str, where: Location, number: int) -> dict[str, str]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits, too
        raise InputError(f"'{where}', line {number} is not a JSON object: {error}.") from error
    if not isinstance(value, dict):
        raise InputError(f"'{where}', line {number} is not a JSON object but {type(value).__name__}.")
    return {str(key): _cell(content) for key, content in value.items()}


def _cell(value: Any) -> str:
    return "" if value is None else printable(str(value))


def _columns(found: list[str], options: SourceOptions) -> dict[str, str]:
    """Field -> column, by the user's names first and the usual ones then; checks what must be there."""
    for field, column in options.columns.items():
        if field not in ALIASES:
            raise unknown_name("field", field, ALIASES)
        if column not in found:
            raise _missing(f"has no column '{column}' (given for '{field}')", options, found)
    lowered = {name.lower(): name for name in reversed(found)}
    columns = dict(options.columns)
    for field, names in ALIASES.items():
        usual = next((lowered[name] for name in names if name in lowered), None)
        if field not in columns and usual is not None:
            columns[field] = usual
    if "path" not in columns:
        raise _missing("has no column of image paths: give --column path=NAME", options, found)
    labelled = "age" in columns or {"age_low", "age_high"} <= columns.keys()
    if not labelled and not options.unlabelled:
        hint = "give --column age=NAME (or age_low and age_high), or --unlabelled"
        raise _missing(f"has no column of ages: {hint}", options, found)
    return columns


def _missing(what: str, options: SourceOptions, found: list[str]) -> InputError:
    listed = ", ".join(name or "(no name)" for name in found[:30])
    return InputError(f"'{options.root}' {what}. Columns found: {listed[:500]}.")


def _record(
    row: Mapping[str, str], columns: Mapping[str, str], options: SourceOptions, source: str, line: int
) -> SourceRecord | Rejected:
    cells = {field: row.get(column, "").strip() for field, column in columns.items()}
    source = cells.get("source") or source
    if not cells["path"]:
        return Rejected(f"{options.root.name}:{line}", "no_path", "the row names no image", source)
    path = resolve(cells["path"], options.image_root)
    try:
        age, low, high = _age(cells, unlabelled=options.unlabelled)
        return SourceRecord(
            path,
            source,
            age=age,
            age_std=_spread(cells.get("age_std", "")),
            age_low=low,
            age_high=high,
            subject_id=cells.get("subject") or None,
            sex=parse_sex(cells.get("sex", "")),
            ethnicity=cells.get("ethnicity") or None,
            split=parse_split(cells.get("split", "")),
            fold=_fold(cells.get("fold", "")),
            box=_box(cells),
        )
    except BadLabel as error:
        return Rejected(path, error.reason, f"line {line}: {error}", source)


def _age(cells: Mapping[str, str], *, unlabelled: bool) -> tuple[float | None, float | None, float | None]:
    """``(age, low, high)``: the age column decides, the pair of bounds stands in where it is empty."""
    try:
        if cells.get("age") or not (cells.get("age_low") and cells.get("age_high")):
            return parse_age(cells.get("age", ""))
        low, high = parse_number(cells["age_low"]), parse_number(cells["age_high"])
    except BadLabel as error:
        if unlabelled and error.reason == "no_age":
            return None, None, None
        raise
    return None, *age_range(low, high, f"{low:g}-{high:g}")


def _spread(text: str) -> float | None:
    return parse_number(text) if text else None


def _fold(text: str) -> int | None:
    if not text:
        return None
    try:
        fold = int(float(text))
    except (ValueError, OverflowError) as error:
        raise BadLabel("bad_fold", f"'{text[:40]}' is not the number of a fold") from error
    if not 0 <= fold <= 127:
        raise BadLabel("bad_fold", f"{fold} is not the number of a fold (0..127)")
    return fold


def _box(cells: Mapping[str, str]) -> Box | None:
    written = [cells.get(field, "") for field in _BOX]
    return parse_box(written) if any(written) else None


SOURCE = Source(
    layout="FILE.csv|tsv|jsonl with a column of paths and one of ages or age ranges",
    label_kind="real",
    licence="the owner's",
    identities="from a subject column",
    read=read,
)
