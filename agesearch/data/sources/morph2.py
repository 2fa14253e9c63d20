"""Reader of MORPH-II, non-commercial release (Ricanek & Tesafaye, FG 2006): 55,134 police photographs of
13,618 persons, in one table with dates of birth and of each photograph.

The table contradicts itself in places (Yip et al., "Preliminary Studies on a Large Face Database", 2018). It
is read twice: first what the rows of each person say, then the rows, judged by it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.sources.base import Source, SourceOptions
from agesearch.data.sources.tables import entry, missing_files, named_rows, single_age
from agesearch.data.sources.values import BadLabel, parse_sex
from agesearch.storage import Location

_TABLE = "morph_2008_nonCommercial.csv"
_COLUMNS = ("id_num", "dob", "doa", "race", "gender", "age", "photo")
_RACES = {"W": "white", "B": "black", "A": "asian", "H": "hispanic", "I": "indian", "O": "other"}
_DATES = ("%Y-%m-%d", "%m/%d/%Y", "%m/%d/%y")
#: The photographs were taken from 2003 to 2007; a later date has the wrong century ("54" read as 2054).
_LAST_YEAR = 2008
_DAYS_PER_YEAR = 365.25
#: Years by which whole years may be miscounted, with leap days and the day of the birthday itself.
_SLACK_YEARS = 0.02


@dataclass
class _Person:
    """What the rows of one person say: the first and last date of birth, sexes and races."""

    first_born: int
    last_born: int
    sexes: set[str] = field(default_factory=set)
    races: set[str] = field(default_factory=set)


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per row whose labels do not contradict each other.

    ``inconsistent_age``: the age is not the whole years from birth to photograph. ``inconsistent_birth``: the
    person's rows give births more than a year apart. ``no_subject``: the row has no id. Where a person's rows
    disagree on the sex or race, that field is left empty and the row kept. ``InputError`` without the table.
    """
    table = options.root / _TABLE
    if not table.exists():
        raise missing_files(options.root, "morph2", [_TABLE, "Album2/"])
    people = _people(table)
    images = options.images or options.root
    for line, row in named_rows(table, _COLUMNS):
        person = people.get(row["id_num"])
        build = partial(_record, row=row, person=person, unlabelled=options.unlabelled)
        yield entry(table, line, "morph2", images, row["photo"], build, row)


def _people(table: Location) -> dict[str, _Person]:
    """Memory grows with the persons (13,618), not with the rows."""
    people: dict[str, _Person] = {}
    for _, row in named_rows(table, _COLUMNS):
        try:
            born = _date(row["dob"])
        except BadLabel:
            born = None
        days = 0 if born is None else born.toordinal()
        person = people.setdefault(row["id_num"], _Person(days, days))
        if days:
            person.first_born = min(person.first_born or days, days)
            person.last_born = max(person.last_born, days)
        person.sexes |= {row["gender"]} - {""}
        person.races |= {row["race"]} - {""}
    return people


def _record(path: str, row: dict[str, str], person: _Person | None, unlabelled: bool) -> SourceRecord:
    if not row["id_num"] or person is None:
        raise BadLabel("no_subject", "the row has no id_num")
    age = single_age(row["age"], unlabelled=unlabelled)
    if person.last_born - person.first_born > _DAYS_PER_YEAR:
        born = [str(datetime.date.fromordinal(day)) for day in (person.first_born, person.last_born)]
        raise BadLabel("inconsistent_birth", f"id {row['id_num'][:40]} is born on {' and on '.join(born)}")
    if age is not None:
        _check_age(age, _date(row["dob"]), _date(row["doa"]))
    return SourceRecord(
        path,
        "morph2",
        age=age,
        subject_id=row["id_num"],
        sex=parse_sex(row["gender"]) if len(person.sexes) == 1 else None,
        ethnicity=_RACES.get(row["race"], row["race"].lower()) or None if len(person.races) == 1 else None,
    )


def _check_age(age: float, born: datetime.date | None, taken: datetime.date | None) -> None:
    """An age must be the whole years between two dates; without both it cannot be checked."""
    if born is None or taken is None:
        return
    years = (taken - born).days / _DAYS_PER_YEAR
    if not years - 1 - _SLACK_YEARS < age < years + _SLACK_YEARS:
        raise BadLabel("inconsistent_age", f"the age is {age:g}, but {born} to {taken} are {years:.1f} years")


@lru_cache(maxsize=8192)
def _date(written: str) -> datetime.date | None:
    """A date as ISO or American, None for an empty cell; ``BadLabel`` ``bad_date`` for anything else."""
    day = written.split(" ", 1)[0].split("T", 1)[0]  # some exports add the time
    if not day:
        return None
    for form in _DATES:
        try:
            date = datetime.datetime.strptime(day, form).date()
            return date if date.year <= _LAST_YEAR else date.replace(year=date.year - 100)
        except ValueError:
            continue
    raise BadLabel("bad_date", f"'{written[:40]}' is not a date")


SOURCE = Source(
    layout=f"ROOT/{_TABLE} and ROOT/Album2/<id>_<n><sex><age>.JPG",
    label_kind="real",
    licence="non-commercial research only, under the owner's agreement",
    identities="13,618 persons, from id_num",
    read=read,
    notes=(
        "Rows whose age is not that of their dates, and persons with births more than a year apart, are left "
        "out; where a person's rows disagree on sex or race, that field is empty.",
        "There is no official split: the column 'split' is by person. Published folds: source 'paplham'.",
    ),
)
