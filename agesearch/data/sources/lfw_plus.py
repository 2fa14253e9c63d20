"""Reader of LFW+ (Han 2017): faces of Labeled Faces in the Wild, ages estimated by a crowd; a test set only.

``ROOT/lfw_cropped/Name_NNNN.jpg`` and a table without header, column 1 the age and column 2 the file; ROOT is
the folder of both, or the table itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources.base import Source, SourceOptions
from agesearch.data.sources.tables import (
    cell,
    entry,
    file_names,
    find,
    missing_files,
    numbered_rows,
    single_age,
)
from agesearch.errors import InputError
from agesearch.storage import Location

_NAME = "lfw+"
_FOLDER = "lfw_cropped"
_TABLES = ("lfw_theirs.csv", "lfw_cropped.csv", "lfw+.csv")
_PERSON = re.compile(r"([^/]+)_\d{4}\.\w+$")


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per row, all of them for the test. ``InputError`` where there is no table, or several and
    none has a usual name.
    """
    table = _table(options.root)
    folder = options.images or find(table.parent, (_FOLDER,)) or table.parent
    for line, cells in numbered_rows(table, path_at=2):
        build = partial(_record, cells, unlabelled=options.unlabelled)
        yield entry(table, line, _NAME, folder, cell(cells, 2), build)


def _table(root: Location) -> Location:
    if root.exists() and not root.is_dir():
        return root
    usual = find(root, _TABLES)
    if usual is not None:
        return usual
    found = sorted(name for name in file_names(root) if name.lower().endswith(".csv"))
    if len(found) > 1:
        listed = ", ".join(found[:10])
        raise InputError(f"'{root}' has several tables ({listed}): give the one of LFW+ itself as the path.")
    if not found:
        raise missing_files(root, _NAME, (_TABLES[0], f"{_FOLDER}/"))
    return root / found[0]


def _record(cells: list[str], path: str, *, unlabelled: bool) -> SourceRecord:
    person = _PERSON.search(path)
    return SourceRecord(
        path,
        _NAME,
        age=single_age(cell(cells, 1), unlabelled=unlabelled),
        subject_id=person[1] if person else None,
        split=Split.TEST,
    )


SOURCE = Source(
    layout="ROOT/lfw_cropped/Name_NNNN.jpg, ROOT/lfw_theirs.csv (or the table itself)",
    label_kind="apparent",
    licence="research only",
    identities="names in the file names",
    read=read,
    notes=("A test set for models trained elsewhere: all of it is in the split test.",),
)
