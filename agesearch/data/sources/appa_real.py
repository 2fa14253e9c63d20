"""Reader of APPA-REAL (Agustsson 2017), the set of the ChaLearn LAP 2016 contest: each face has the mean and
spread of about 38 people's guesses, and the real age.

``ROOT/{train,valid,test}/X.jpg`` are photographs; ``X.jpg_face.jpg`` beside them, turned upright and with a
margin of 40 %, show the one face that was judged and are taken where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources.base import Source, SourceOptions, Variant
from agesearch.data.sources.tables import entry, file_names, find, missing_files, named_rows, single_age
from agesearch.data.sources.values import parse_sex, parse_spread
from agesearch.storage import Location

_NAME = "appa-real"
_SPLITS = {"train": Split.TRAIN, "valid": Split.VAL, "test": Split.TEST}
_FOLDERS = ("", "appa-real-release/")
_FACE = "_face.jpg"
_APPARENT = ("apparent_age_avg", "apparent_age_std")
_REAL = "real_age"


@dataclass(frozen=True)
class _People:
    """Sex and race by file name, from the owner's later ``allcategories_*.csv``, where that is there."""

    rows: dict[str, dict[str, str]]

    @classmethod
    def of(cls, table: Location) -> _People:
        """An absent table knows nobody."""
        rows = named_rows(table, ("file",)) if table.exists() else iter(())
        return cls({row["file"]: row for _, row in rows})

    def cell(self, name: str, column: str) -> str:
        """A cell of the row of an image, or the empty text."""
        return self.rows.get(name, {}).get(column, "")


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per row of the three tables. ``InputError`` where one is missing or lacks a column."""
    folder = find(options.root, (f"{place}gt_avg_train.csv" for place in _FOLDERS))
    base = folder.parent if folder is not None else options.root
    names = {part: f"gt_avg_{part}.csv" for part in _SPLITS}
    lacking = [name for name in names.values() if not (base / name).exists()]
    if lacking:
        raise missing_files(options.root, _NAME, lacking)
    needed = (_REAL,) if options.variant == "real" else _APPARENT
    for part, name in names.items():
        images = (options.images or base) / part
        crops = {crop for crop in file_names(images) if crop.endswith(_FACE)}
        people = _People.of(base / f"allcategories_{part}.csv")
        for line, row in named_rows(base / name, ("file_name", *needed)):
            written = row["file_name"]
            image = written + _FACE if written + _FACE in crops else written
            build = partial(_record, row, people, options, _SPLITS[part])
            yield entry(base / name, line, _NAME, images, image, build, row)


def _record(
    row: dict[str, str], people: _People, options: SourceOptions, split: Split, path: str
) -> SourceRecord:
    name = row["file_name"]
    mean, spread = (_REAL, "") if options.variant == "real" else _APPARENT
    return SourceRecord(
        path,
        _NAME,
        age=single_age(row[mean], unlabelled=options.unlabelled),
        age_std=parse_spread(row.get(spread, "")),
        sex=parse_sex(people.cell(name, "gender")),
        ethnicity=people.cell(name, "race") or None,
        split=split,
    )


SOURCE = Source(
    layout="ROOT/{train,valid,test}/X.jpg (and X.jpg_face.jpg), ROOT/gt_avg_{train,valid,test}.csv",
    label_kind="apparent",
    licence="research only",
    identities="none",
    read=read,
    variants={
        "apparent": Variant("mean and spread of people's guesses (ChaLearn LAP 2016)"),
        "real": Variant("the age that the person had", label_kind="real"),
    },
    notes=(
        "The splits are the owner's. Who is shown is unknown, so they cannot be checked for shared people.",
    ),
)
