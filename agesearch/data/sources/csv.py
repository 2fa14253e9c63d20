"""Reader of any CSV, TSV or JSON Lines file with a column of image paths and one of ages or age ranges.

Columns are found by their usual names (``ALIASES``) or by the user's own (``--column age=years``).
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agesearch.data.dataset.records import LabelKind, Rejected, SourceRecord
from agesearch.data.images.files import printable
from agesearch.data.sources.base import Findings, Source, SourceOptions, resolve
from agesearch.data.sources.tables import (
    Row,
    RowCells,
    check_width,
    column_key,
    delimiter_of,
    lines_of,
    no_column,
    open_text,
    table_rows,
)
from agesearch.data.sources.values import (
    Age,
    BadLabel,
    Box,
    age_range,
    clean,
    parse_age,
    parse_box,
    parse_fold,
    parse_sex,
    parse_split,
    parse_spread,
    parse_years,
)
from agesearch.errors import InputError, unknown_name
from agesearch.storage import Location

#: Field -> the column names, as ``tables.column_key`` gives them, that it is known by.
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
#: Words in the name of a column of ages, and the kind of label that it then holds.
_KINDS: dict[str, LabelKind] = {
    **dict.fromkeys(("real", "chronological", "true"), "real"),
    **dict.fromkeys(("apparent", "perceived", "guess", "guessed", "votes"), "apparent"),
    **dict.fromkeys(("predicted", "prediction", "pred", "teacher"), "teacher"),
}
_BOX = ("box_x", "box_y", "box_w", "box_h")
_JSON_SUFFIXES = (".jsonl", ".ndjson")
#: Rows of JSON Lines whose keys are the columns: a field may be absent from the first row.
_JSON_ROWS_FOR_KEYS = 1000


@dataclass(frozen=True)
class _Columns:
    """The source's column (as it is written) of each field, and what its user must know of the choice."""

    names: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def cells(self, row: Mapping[str, str]) -> dict[str, str]:
        """The cells of a row by field."""
        return {field: row.get(column_key(name), "") for field, name in self.names.items()}

    @property
    def label_kind(self) -> LabelKind | None:
        """What the column of ages says of its labels; None where its name does not tell."""
        return _kind_of(self.names["age"]) if "age" in self.names else None


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per row. ``InputError`` where the file is missing, empty, not text, lacks the path or the
    age column, or has two columns for one field; rows whose path, age, split or fold cannot be used are
    ``Rejected``.
    """
    columns, rows = _table(options)
    source = options.root.name.rsplit(".", 1)[0]
    for line, row in rows:
        yield _record(row, columns, options, source, line)


def findings(options: SourceOptions) -> Findings:
    """The kind of label that the column of ages holds, and which columns were left aside."""
    columns, _ = _table(options)
    return Findings(columns.label_kind, columns.notes)


def _table(options: SourceOptions) -> tuple[_Columns, Iterator[Row]]:
    """The columns, and line number and cells of every row that is not blank."""
    where = options.root
    if not where.exists() or where.is_dir():
        raise InputError(f"There is no file '{where}', but the source 'csv' reads a CSV, TSV or JSONL file.")
    cells: Iterator[Row]
    if where.name.lower().endswith(_JSON_SUFFIXES):
        rows = _json_rows(where)
        first = list(itertools.islice(rows, _JSON_ROWS_FOR_KEYS))
        header = list(dict.fromkeys(itertools.chain.from_iterable(names for _, names, _ in first)))
        cells = ((line, row) for line, _, row in itertools.chain(first, rows))
    else:
        header, cells = table_rows(where, delimiter=delimiter_of(where))
    columns = _columns(header, options) if header else None
    begin = next(cells, None)
    if columns is None or begin is None:
        raise InputError(f"'{where}' has no rows.")
    return columns, itertools.chain([begin], cells)


def _json_rows(where: Location) -> Iterator[tuple[int, list[str], RowCells]]:
    """Line number, keys as they are written, and cells of every line."""
    with open_text(where) as text:
        for number, line in enumerate(lines_of(text, where), start=1):
            if line.strip():
                value = _json_object(line, where, number)
                yield number, list(value), RowCells((column_key(k), _cell(v)) for k, v in value.items())


def _json_object(line: str, where: Location, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits, too
        raise InputError(f"'{where}', line {number} is not a JSON object: {error}.") from error
    if not isinstance(value, dict):
        raise InputError(f"'{where}', line {number} is not a JSON object but {type(value).__name__}.")
    return {printable(key): content for key, content in value.items()}


def _cell(value: Any) -> str:
    return "" if value is None else clean(printable(str(value)))


def _columns(header: list[str], options: SourceOptions) -> _Columns:
    """The column of each field, by the user's names first and the usual ones then; checks what must be there,
    and that no field has two.
    """
    chosen: dict[str, str] = {}
    for field, name in options.columns.items():
        if field not in ALIASES:
            raise unknown_name("field", field, ALIASES)
        chosen[field] = _only(field, [found for found in header if _same(found, name)], options, header, name)
    for field, names in ALIASES.items():
        usual = [name for name in header if column_key(name) in names]
        if field not in options.columns and usual and field != "age_std":
            chosen[field] = _only(field, usual, options, header)
    notes = _choose_spread(chosen, header, options)
    if "path" not in chosen:
        raise no_column(options.root, "has no column of image paths: give --column path=NAME", header)
    labelled = "age" in chosen or {"age_low", "age_high"} <= chosen.keys()
    if not labelled and not options.unlabelled:
        hint = "give --column age=NAME (or age_low and age_high), or --unlabelled"
        raise no_column(options.root, f"has no column of ages: {hint}", header)
    return _Columns(chosen, notes)


def _same(found: str, name: str) -> bool:
    return found == name or column_key(found) == column_key(name)


def _only(field: str, found: list[str], options: SourceOptions, header: list[str], asked: str = "") -> str:
    """The one column of a field; an ``InputError`` where there is none of the name that the user gave, or
    there are several.
    """
    if not found:
        raise no_column(options.root, f"has no column '{asked}' (given for '{field}')", header)
    if len(found) == 1:
        return found[0]
    if len({column_key(name) for name in found}) < len(found):
        raise no_column(options.root, f"has the column '{found[-1]}' more than once", header)
    shown = " or ".join(f"--column {shlex.quote(f'{field}={name}')}" for name in found)
    raise no_column(options.root, f"has {len(found)} columns for '{field}': choose with {shown}", header)


def _choose_spread(chosen: dict[str, str], header: list[str], options: SourceOptions) -> tuple[str, ...]:
    """Take the column of spreads that goes with that of the ages, which another kind's does not; returns
    notes on one that is left aside.
    """
    if "age_std" in chosen or "age" not in chosen:
        return ()
    usual = [name for name in header if column_key(name) in ALIASES["age_std"]]
    fitting = [name for name in usual if _kind_of(name) in (None, _kind_of(chosen["age"]))]
    if fitting:
        chosen["age_std"] = _only("age_std", fitting, options, header)
    return tuple(
        f"The column '{name}' was not taken for the spread of '{chosen['age']}': it is that of "
        f"{_kind_of(name)} ages. To take it: --column {shlex.quote(f'age_std={name}')}"
        for name in usual
        if name not in fitting
    )


def _kind_of(column: str) -> LabelKind | None:
    words = column_key(column).split("_")
    return next((_KINDS[word] for word in words if word in _KINDS), None)


def _record(
    row: RowCells, columns: _Columns, options: SourceOptions, source: str, line: int
) -> SourceRecord | Rejected:
    cells = columns.cells(row)
    source = cells.get("source") or source
    path = f"{options.root.name}:{line}"
    try:
        if not cells["path"]:
            raise BadLabel("no_path", "the row names no image")
        path = resolve(cells["path"], options.image_root)
        check_width(row)
        age, low, high = _age(cells, unlabelled=options.unlabelled)
        return SourceRecord(
            path,
            source,
            age=age,
            age_std=parse_spread(cells.get("age_std", "")),
            age_low=low,
            age_high=high,
            subject_id=cells.get("subject") or None,
            sex=parse_sex(cells.get("sex", "")),
            ethnicity=cells.get("ethnicity") or None,
            split=parse_split(cells.get("split", "")),
            fold=parse_fold(cells.get("fold", "")),
            box=_box(cells),
        )
    except BadLabel as error:
        return Rejected(path, error.reason, f"line {line}: {error}", source)


def _age(cells: Mapping[str, str], *, unlabelled: bool) -> Age:
    """``(age, low, high)``: the age column decides, the pair of bounds stands in where it is empty, and must
    hold it where it is not.
    """
    written, first, last = (cells.get(name, "") for name in ("age", "age_low", "age_high"))
    if not written and not first and not last and unlabelled:
        return None, None, None
    bounds = age_range(parse_years(first), parse_years(last), f"{first}-{last}") if first and last else None
    if not written and bounds is not None:
        return None, *bounds
    age, low, high = parse_age(written)
    begin, end = (age, age) if age is not None else (low or 0.0, high or 0.0)
    if bounds is not None and not (bounds[0] <= begin and end <= bounds[1]):
        raise BadLabel("two_ages", f"the age '{written[:40]}' is not in the group {first}-{last}")
    return age, low, high


def _box(cells: Mapping[str, str]) -> Box | None:
    written = [cells.get(field, "") for field in _BOX]
    return parse_box(written) if any(written) else None


SOURCE = Source(
    layout="FILE.csv|tsv|jsonl with a column of paths and one of ages or age ranges",
    label_kind="real",
    licence="the owner's",
    identities="from a subject column",
    read=read,
    findings=findings,
    notes=(
        "NA, N/A, NaN, null, None, unknown, - and ? mean 'missing' in every column: a person called Null, or "
        "the country NA, must be written otherwise (Null_1, Namibia).",
        "A comma between digits is a decimal comma; groups are written 25-32, (25, 32) or 60+.",
    ),
)
