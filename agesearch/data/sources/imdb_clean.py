"""Reader of IMDB-clean (Lin 2021): IMDB-WIKI's film stars with ages, boxes and poses made anew.

The owner's script leaves ``csvs/imdb_{train,valid,test}_new_1024.csv`` and ``data/imdb-clean-1024/``, whose
images are crops with a margin of the face's size; ``imdb_*_new.csv`` has the boxes in the photographs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources.base import Source, SourceOptions, Variant
from agesearch.data.sources.tables import (
    corners_box,
    entry,
    find,
    missing_files,
    named_rows,
    single_age,
)
from agesearch.data.sources.values import BadLabel, parse_box, parse_sex
from agesearch.storage import Location

_NAME = "imdb-clean"
_SPLITS = {"train": Split.TRAIN, "valid": Split.VAL, "test": Split.TEST}
#: Variant -> what the tables end with, and where the owner's script puts the images.
_TABLES = {"1024": ("_new_1024.csv", "imdb-clean-1024"), "photographs": ("_new.csv", "imdb")}
_TABLE_FOLDERS = ("csvs/", "", "data/imdb-clean-1024/", "imdb-clean-1024/")
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_COLUMNS = ("filename", "age", *_CORNERS)
_PERSON = re.compile(r"(?:^|/)(nm\d+)_")


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per row of the three tables. ``InputError`` where one is missing or lacks a column."""
    ending, folder = _TABLES[options.variant or next(iter(_TABLES))]
    names = {part: f"imdb_{part}{ending}" for part in _SPLITS}
    tables = {
        part: find(options.root, (place + name for place in _TABLE_FOLDERS)) for part, name in names.items()
    }
    images = _images(options, folder)
    lacking = [names[part] for part, table in tables.items() if table is None]
    if lacking:
        raise missing_files(options.root, _NAME, (f"csvs/{name}" for name in lacking))
    for part, table in tables.items():
        if table is not None:
            for line, row in named_rows(table, _COLUMNS):
                build = partial(_record, row, _SPLITS[part], unlabelled=options.unlabelled)
                yield entry(table, line, _NAME, images, row["filename"], build, row)


def _images(options: SourceOptions, folder: str) -> Location:
    if options.images is not None:
        return options.images
    return find(options.root, (f"data/{folder}", folder)) or options.root / "data" / folder


def _record(row: dict[str, str], split: Split, path: str, *, unlabelled: bool) -> SourceRecord:
    person = _PERSON.search(row["filename"])
    if person is None:
        raise BadLabel("no_identity", "the file's name does not begin with nm and a person's number")
    return SourceRecord(
        path,
        _NAME,
        age=single_age(row["age"], unlabelled=unlabelled),
        subject_id=person[1],
        sex=parse_sex(row.get("gender", "")),
        split=split,
        box=corners_box(parse_box([row[name] for name in _CORNERS])),
    )


SOURCE = Source(
    layout="ROOT/csvs/imdb_{train,valid,test}_new_1024.csv, ROOT/data/imdb-clean-1024/NN/nm*.jpg",
    label_kind="real",
    licence="labels MIT; images as IMDB-WIKI (research only)",
    identities="IMDb numbers",
    read=read,
    variants={
        "1024": Variant("the owner's crops of at most 1024 pixels (*_new_1024.csv)"),
        "photographs": Variant("the photographs of IMDB-WIKI, in data/imdb (*_new.csv)"),
    },
    notes=(
        "The owner's train and valid splits share people; only the test split is subject-exclusive. "
        "A validation figure on it is therefore too good.",
    ),
)
