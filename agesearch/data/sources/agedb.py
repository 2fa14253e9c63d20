"""Reader of AgeDB (Moschoglou et al., CVPR Workshops 2017): 16,488 images of 568 persons, named
``<number>_<person>_<age>_<m or f>.jpg``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.sources.base import Source, SourceOptions, check_folder, read_names
from agesearch.data.sources.values import BadLabel, parse_sex, parse_text, parse_years

_LAYOUT = "ROOT/[AgeDB/]<number>_<person>_<age>_<m or f>.jpg"
_NAME = re.compile(r"^\d+_(.*\S.*)_(\d{1,3})_([mf])\.[a-z]+$", re.IGNORECASE)


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per image; names that are not of that form are ``bad_name``."""
    check_folder(options.root, "agedb", _LAYOUT)
    yield from read_names(options.root, "agedb", _record)


def _record(path: str, relative: str) -> SourceRecord:
    name = relative.rsplit("/", 1)[-1]
    labels = _NAME.match(name)
    if labels is None:
        raise BadLabel("bad_name", f"'{name[:80]}' is not number_person_age_sex, such as 12_AnnaKarina_31_f")
    # One person is written with a stray space ("WillSmith _45"), and accents come composed or not.
    person = unicodedata.normalize("NFC", labels[1]).strip()
    return SourceRecord(
        path, "agedb", age=parse_years(labels[2]), sex=parse_sex(labels[3]), subject_id=parse_text(person)
    )


SOURCE = Source(
    layout=_LAYOUT,
    label_kind="real",
    licence="non-commercial research only",
    identities="568 persons, from the names of the images",
    read=read,
    notes=(
        "A person is the name in the file name: two spellings of one name would count as two persons.",
        "The sex in some names is wrong (Leslie Caron as m, Roy Scheider as f).",
    ),
)
