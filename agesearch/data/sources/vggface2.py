"""Reader of VGGFace2 (Cao 2018) with the ages of VMAGE: what a large network predicts for each face (Greco
2021), to distil from. ``ROOT/{train,test}/nXXXXXX/NNNN_NN.jpg`` and two tables a part, in ROOT or in
``annotations/``, whose columns are known by number.

Three million rows: the ages of a part are held as sorted hashes of their paths, 12 bytes a face, so the two
tables may be in any order.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.dataset.splits import split_of_key
from agesearch.data.sources.base import Source, SourceOptions, inside
from agesearch.data.sources.tables import (
    cell,
    cell_rows,
    entry,
    find,
    missing_files,
    numbered_rows,
    single_age,
)
from agesearch.data.sources.values import BadLabel, parse_box, parse_number, parse_sex
from agesearch.errors import InputError
from agesearch.specs import SplitSpec
from agesearch.storage import Location

_NAME = "vggface2"
_PARTS = ("train", "test")
_FACES, _AGES, _PEOPLE = "{part}.detected.csv", "{part}.age_detected.csv", "identity_meta.csv"
_FOLDERS = ("", "annotations/")
#: Of the official training part, by identity, as Greco 2021 does; the test part is the owner's.
_SHARES = SplitSpec(val=0.2, test=0.0)
_UNKNOWN = np.float32(np.nan)


@dataclass(frozen=True)
class _Part:
    """What one part's rows are read with."""

    name: str
    images: Location
    ages: _Ages
    sexes: dict[str, str | None]
    unlabelled: bool


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per row of ``<part>.detected.csv``; ages that no row asks for are ``no_face_box``.

    ``InputError`` where not one part has both tables, or one lacks the other.
    """
    parts = {part: _tables(options.root, part) for part in _PARTS}
    found = {part: tables for part, tables in parts.items() if tables is not None}
    if not found:
        names = [form.format(part=part) for part in _PARTS for form in (_FACES, _AGES)]
        raise missing_files(options.root, _NAME, names)
    sexes = _sexes(find(options.root, (folder + _PEOPLE for folder in _FOLDERS)))
    for name, (faces, ages) in found.items():
        images = (options.images or options.root) / name
        part = _Part(name, images, _Ages.of(ages), sexes, options.unlabelled)
        for line, cells in numbered_rows(faces, path_at=2):
            yield entry(faces, line, _NAME, images, cell(cells, 2), partial(_record, part, cells))
        yield from _unused(ages, part)


def _tables(root: Location, part: str) -> tuple[Location, Location] | None:
    faces, ages = (
        find(root, (folder + form.format(part=part) for folder in _FOLDERS)) for form in (_FACES, _AGES)
    )
    if faces is None and ages is None:
        return None
    if faces is None or ages is None:
        raise missing_files(root, _NAME, [form.format(part=part) for form in (_FACES, _AGES)])
    return faces, ages


def _record(part: _Part, cells: list[str], path: str) -> SourceRecord:
    written, number = cell(cells, 2), cell(cells, 3)
    if not number.removeprefix("n").isdecimal() or len(number) > 12:
        raise BadLabel("no_identity", f"'{number[:40]}' is not the number of a person")
    subject = f"n{int(number.removeprefix('n')):06d}"
    age = single_age(part.ages.take(written), unlabelled=part.unlabelled)
    is_test = part.name == "test"
    return SourceRecord(
        path,
        _NAME,
        age=age,
        subject_id=subject,
        sex=part.sexes.get(subject),
        split=Split.TEST if is_test else split_of_key(f"subject:{subject}", _SHARES),
        box=parse_box([cell(cells, index) for index in range(4, 8)]),
    )


def _unused(ages: Location, part: _Part) -> Iterator[Rejected]:
    """The faces with an age that have no row among the detected ones."""
    if part.ages.all_taken:
        return
    for line, cells in numbered_rows(ages, path_at=0):
        written = cell(cells, 0)
        try:
            if not part.ages.was_taken(written):
                detail = f"{ages.name}, line {line}: it has an age, but no face in {part.name}.detected.csv"
                yield Rejected(inside(written, part.images), "no_face_box", detail, _NAME)
        except BadLabel as error:
            yield Rejected(str(ages.parent / f"{ages.name}:{line}"), error.reason, str(error), _NAME)


def _sexes(people: Location | None) -> dict[str, str | None]:
    """Subject -> sex by the owner's ``Class_ID, Name, Sample_Num, Flag, Gender``, where the file is there."""
    rows = cell_rows(people) if people is not None else iter(())
    return {cells[0]: parse_sex(cell(cells, 4)) for _, cells in rows if cell(cells, 4) in ("m", "f")}


@dataclass(frozen=True)
class _Ages:
    """The ages of a part by the hash of the image's path, each given out once. A path that is listed twice
    has the later age, as in the owners' own reader.
    """

    keys: npt.NDArray[np.uint64]
    ages: npt.NDArray[np.float32]
    taken: npt.NDArray[np.bool_] = field(repr=False)

    @classmethod
    def of(cls, table: Location) -> _Ages:
        """Read ``<part>.age_detected.csv``: the path in column 0, the age in the last one."""
        keys, ages = array("Q"), array("f")
        for _, cells in numbered_rows(table, path_at=0):
            keys.append(_key(cells[0]))
            ages.append(_number(cells[-1]))
        if not keys:
            raise InputError(f"'{table}' has no rows.")
        order = np.argsort(np.frombuffer(keys, np.uint64), kind="stable")
        ordered = np.frombuffer(keys, np.uint64)[order]
        last = np.append(ordered[1:] != ordered[:-1], True)
        taken = np.zeros(int(last.sum()), bool)
        return cls(ordered[last], np.frombuffer(ages, np.float32)[order[last]], taken)

    @property
    def all_taken(self) -> bool:
        """Whether every age was asked for."""
        return bool(self.taken.all())

    def take(self, path: str) -> str:
        """The age of an image as text, empty where there is none; ``BadLabel`` ``repeated`` when it is asked
        for again, since one age cannot be that of two faces.
        """
        index = self._index(path)
        if index is None:
            return ""
        if self.taken[index]:
            raise BadLabel("repeated", "an earlier row has this image already")
        self.taken[index] = True
        age = self.ages[index]
        return "not a number" if np.isnan(age) else f"{age:.4f}"

    def was_taken(self, path: str) -> bool:
        """Whether the age of an image was asked for."""
        index = self._index(path)
        return index is not None and bool(self.taken[index])

    def _index(self, path: str) -> int | None:
        key = np.uint64(_key(path))
        index = int(np.searchsorted(self.keys, key))
        return index if index < len(self.keys) and self.keys[index] == key else None


def _key(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(path.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _number(written: str) -> float:
    try:
        return parse_number(written)
    except BadLabel:
        return float(_UNKNOWN)


SOURCE = Source(
    layout="ROOT/{train,test}/nXXXXXX/NNNN_NN.jpg, {train,test}.detected.csv, {train,test}.age_detected.csv",
    label_kind="teacher",
    licence="research only; VMAGE ages: University of Salerno",
    identities="from the table",
    read=read,
    notes=(
        "The ages are what a network predicts (VMAGE), not what people said or documents show.",
        "The test split is the owner's; of the training part one identity in five validates, by its hash, "
        "whatever --val and --test say.",
    ),
)
