"""Reader of UTKFace (Zhang et al., CVPR 2017): the labels are in the names of the images,
``<age>_<sex>_<race>_<date and time>.jpg`` (photographs) or ``....jpg.chip.jpg`` (aligned crops).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.sources.base import Source, SourceOptions, check_folder, read_names
from agesearch.data.sources.values import BadLabel, parse_years

_LAYOUT = "ROOT/**/<age>_<0 male, 1 female>_<race 0-4>_<date and time>.jpg[.chip.jpg]"
_SEXES = ("male", "female")
_RACES = ("white", "black", "asian", "indian", "other")
#: Some names lack the last digits, or the dot of the suffix; their labels are whole.
_NAME = re.compile(r"^(\d{1,3})_([01])_([0-4])_\d{8,}")


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per image under the root, at any depth (``part1``.. ``part3``, ``UTKFace``, ``crop_part1``).

    A name that lacks its sex or race is ``bad_name``: three of the 23,708 crops, which the field leaves out
    too, since the two that remain cannot be told apart. Ages over 100 are ``bad_age``.
    """
    check_folder(options.root, "utkface", _LAYOUT)
    yield from read_names(options.root, "utkface", _record)


def _record(path: str, relative: str) -> SourceRecord:
    name = relative.rsplit("/", 1)[-1]
    labels = _NAME.match(name)
    if labels is None:
        raise BadLabel("bad_name", f"'{name[:80]}' is not age_sex_race_date")
    age, sex, race = labels.groups()
    return SourceRecord(
        path, "utkface", age=parse_years(age), sex=_SEXES[int(sex)], ethnicity=_RACES[int(race)]
    )


SOURCE = Source(
    layout=_LAYOUT,
    label_kind="real",
    licence="non-commercial research only; the owners of the photographs keep their copyright",
    identities="none",
    read=read,
    notes=(
        "Identities are unknown, so no split of UTKFace is known to be subject-exclusive.",
        "Ages were estimated by an algorithm and checked by a person, not taken from dates of birth.",
        "Ingest either the photographs (part1 to part3) or the crops (UTKFace): with both, one face could be "
        "in two splits.",
    ),
)
