"""Reader of IMDB-WIKI (Rothe 2015): film stars and people of Wikipedia, their ages from birth dates and the
years of photographs.

Two forms are read, for IMDb and Wikipedia each: ``{imdb,wiki}_aligned.csv``, a cleaned copy with aligned
crops, and where that is absent the owner's own ``{imdb,wiki}.mat``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.dataset.splits import split_of_key
from agesearch.data.sources.base import Source, SourceOptions, Variant
from agesearch.data.sources.matlab import mat_struct, mat_text, matlab_age
from agesearch.data.sources.tables import (
    cell,
    entry,
    find,
    missing_files,
    numbered_rows,
    single_age,
)
from agesearch.data.sources.values import BadLabel, Box, clean, parse_box
from agesearch.errors import InputError
from agesearch.specs import SplitSpec
from agesearch.storage import Location

_NAME = "imdb-wiki"
_PARTS = {"both": ("imdb", "wiki"), "imdb": ("imdb",), "wiki": ("wiki",)}
_CSV_PLACES = ("{0}_aligned.csv", "{0}/{0}_aligned.csv", "imdbwiki_aligned/{0}/{0}_aligned.csv")
_MAT_PLACES = ("{0}.mat", "{0}/{0}.mat", "{0}_crop/{0}.mat")
_CSV_IMAGES = ("{0}_crop_aligned", "{0}/{0}_crop_aligned", "{0}_aligned", "{0}", "")
_MAT_IMAGES = ("{0}_crop", "{0}", "")
_CROPPED = "_crop"
_SHARES = SplitSpec(val=0.1, test=0.1)
_YOUNGEST, _OLDEST = 1, 100
#: The owner writes month and day of an unknown birthday as zeros: ``nm0000001_rm1_1899-0-0_1968.jpg``.
_NO_BIRTHDAY = re.compile(r"\d+-0{1,2}-0{1,2}_[^_/]*$")
_FIELDS = {
    **dict.fromkeys(("dob", "photo_taken", "gender", "face_score", "second_face_score"), pa.float64()),
    **dict.fromkeys(("full_path", "name"), pa.string()),
    "face_location": pa.list_(pa.float64()),
}
_SEXES = {0.0: "female", 1.0: "male"}


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per face of the variant's parts. ``InputError`` where a part has neither form, or its file
    is none.
    """
    parts = _PARTS[options.variant or next(iter(_PARTS))]
    tables = {part: _table(options, part) for part in parts}
    for part, table in tables.items():
        if table.name.endswith(".mat"):
            yield from _from_mat(table, part, options)
        else:
            yield from _from_csv(table, part, options)


def _table(options: SourceOptions, part: str) -> Location:
    places = [place.format(part) for place in (*_CSV_PLACES, *_MAT_PLACES)]
    table = find(options.root, places)
    if table is None:
        wanted = (f"{part}_aligned.csv", f"{part}_crop/{part}.mat")
        raise missing_files(options.root, f"{_NAME} --variant {part}", wanted)
    return table


def _images(table: Location, part: str, options: SourceOptions, places: tuple[str, ...]) -> Location:
    base = options.images or table.parent
    return find(base, (place.format(part) for place in places)) or base


def _from_csv(table: Location, part: str, options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    images = _images(table, part, options, _CSV_IMAGES)
    for line, cells in numbered_rows(table, path_at=2):
        build = partial(_csv_record, part, cells, unlabelled=options.unlabelled)
        yield entry(table, line, part, images, cell(cells, 2), build)


def _csv_record(part: str, cells: list[str], path: str, *, unlabelled: bool) -> SourceRecord:
    _check_birthday(path)
    age = single_age(cell(cells, 1), unlabelled=unlabelled)
    box = parse_box([cell(cells, index) for index in range(3, 7)])
    # The identity is the rest of the row: a name with a comma takes two cells.
    return _record(path, part, age, " ".join(cells[7:]), None, box)


@dataclass(frozen=True)
class _Faces:
    """The owner's MATLAB struct of a part: one array a field."""

    fields: dict[str, Any]
    cropped: bool

    @classmethod
    def of(cls, table: Location, part: str, *, cropped: bool) -> _Faces:
        """An ``InputError`` where a field is missing or is not what the owner's is."""
        fields = mat_struct(table, part)
        for name, kind in _FIELDS.items():
            if name not in fields or fields[name].type != kind:
                raise InputError(f"'{table}': its struct '{part}' has no field '{name}' of type {kind}.")
        lengths = {name: len(fields[name]) for name in _FIELDS}
        if len(set(lengths.values())) != 1:
            raise InputError(f"'{table}': the fields of its struct '{part}' differ in length: {lengths}.")
        return cls(fields, cropped)

    def __len__(self) -> int:
        return len(self.fields["dob"])

    def number(self, name: str, index: int) -> float:
        """A number of a face, NaN where there is none."""
        return float(self.fields[name][index].as_py())

    def text(self, name: str, index: int) -> str:
        """A text of a face, empty where there is none."""
        values = self.fields.get(name, ())
        return mat_text(values[index]) if 0 <= index < len(values) else ""

    def person(self, index: int) -> str:
        """The name, which IMDb and Wikipedia share; for IMDb else by the number of the star."""
        name = self.text("name", index)
        if name or index >= len(self.fields.get("celeb_id", ())):
            return name
        number = self.number("celeb_id", index)
        return self.text("celeb_names", int(number) - 1) if math.isfinite(number) else ""

    def box(self, index: int) -> Box | None:
        """The face in the photograph, from corners counted from 1, both inside. None in the owner's crops,
        which it does not fit.
        """
        if self.cropped:
            return None
        corners = self.fields["face_location"][index].as_py()
        if len(corners) != 4:
            raise BadLabel("bad_box", f"{len(corners)} numbers are no box")
        left, top, right, bottom = corners
        return left - 1, top - 1, right - left + 1, bottom - top + 1


def _from_mat(table: Location, part: str, options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    images = _images(table, part, options, _MAT_IMAGES)
    faces = _Faces.of(table, part, cropped=images.name.endswith(_CROPPED))
    for index in range(len(faces)):
        build = partial(_mat_record, part, faces, index)
        yield entry(table, index + 1, part, images, faces.text("full_path", index), build)


def _mat_record(part: str, faces: _Faces, index: int, path: str) -> SourceRecord:
    _check_birthday(path)
    year = faces.number("photo_taken", index)
    try:
        age = matlab_age(faces.number("dob", index), int(year))
    except ValueError as error:
        raise BadLabel("bad_age", f"birth date and year give no age: {error}") from error
    if not math.isfinite(faces.number("face_score", index)):
        raise BadLabel("no_face", "the owner's detector found no face")
    if not math.isnan(faces.number("second_face_score", index)):
        raise BadLabel("second_face", "the owner's detector found a second face")
    sex = _SEXES.get(faces.number("gender", index))
    return _record(path, part, float(age), faces.person(index), sex, faces.box(index))


def _check_birthday(path: str) -> None:
    if _NO_BIRTHDAY.search(path):
        raise BadLabel("unknown_birthday", "month and day of the birth date in the file's name are zeros")


def _record(
    path: str, part: str, age: float | None, name: str, sex: str | None, box: Box | None
) -> SourceRecord:
    if age is not None and not _YOUNGEST <= age <= _OLDEST:
        raise BadLabel("age_not_1_to_100", f"the age is {age:g}")
    person = " ".join(clean(name).split())
    if not person:
        raise BadLabel("no_identity", "no name is given, and the splits go by names")
    split = split_of_key(f"subject:{person}", _SHARES)
    return SourceRecord(path, part, age=age, subject_id=person, sex=sex, split=split, box=box)


SOURCE = Source(
    layout="ROOT/{imdb,wiki}_aligned.csv and _crop_aligned/, or ROOT/{imdb,wiki}[_crop]/{imdb,wiki}.mat",
    label_kind="real",
    licence="research only",
    identities="names",
    read=read,
    variants={
        "both": Variant("film stars and people of Wikipedia"),
        "imdb": Variant("film stars only"),
        "wiki": Variant("people of Wikipedia only"),
    },
    notes=(
        "Split 80/10/10 by a hash of the person's name, whatever --val and --test say.",
        "Ages follow from birth dates and the years of photographs, taken to be from 1 July.",
    ),
)
