"""Age groups that a spreadsheet took for dates: ``3-9`` became ``9-Mar``, ``10-19`` became ``Oct-19``.

Which of the two numbers was the month depends on the country of the spreadsheet, but a group ascends, so the
pair tells the group. A date with a year can hide a third number, and is not guessed unless the groups of the
dataset are known.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

#: How the months begin in English, German, French, Spanish, Italian, Portuguese and Dutch, without accents.
_MONTHS = {
    **dict.fromkeys(("jan", "ene", "gen"), 1),
    **dict.fromkeys(("feb", "fev"), 2),
    **dict.fromkeys(("mar", "mrz", "mrt", "maa"), 3),
    **dict.fromkeys(("apr", "abr", "avr"), 4),
    **dict.fromkeys(("may", "mai", "mei", "mag"), 5),
    **dict.fromkeys(("jun", "jui", "giu"), 6),
    **dict.fromkeys(("jul", "lug"), 7),
    **dict.fromkeys(("aug", "ago", "aou"), 8),
    **dict.fromkeys(("sep", "set"), 9),
    **dict.fromkeys(("oct", "okt", "ott", "out"), 10),
    "nov": 11,
    **dict.fromkeys(("dec", "dez", "dic"), 12),
}
_JULY = "juil"
_LETTERS = 3

_SEPARATOR = r"[\s.,/-]*"
_DAY_MONTH = re.compile(rf"(\d{{1,2}}){_SEPARATOR}([^\W\d_]{{3,10}})(?:{_SEPARATOR}(\d{{2}}|\d{{4}}))?\.?")
_MONTH_NUMBER = re.compile(rf"([^\W\d_]{{3,10}}){_SEPARATOR}(\d{{1,2}})(?:[\s.,/-]+(\d{{4}}))?")
_MONTH_YEAR = re.compile(rf"([^\W\d_]{{3,10}}){_SEPARATOR}(\d{{4}})")
_TIME = r"(?:[t\s]+\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?z?)?"
_YEAR_FIRST = re.compile(rf"(\d{{4}})[-/.](\d{{1,2}})[-/.](\d{{1,2}}){_TIME}")
_YEAR_LAST = re.compile(rf"(\d{{1,2}})[-/.]\s?(\d{{1,2}})[-/.]\s?(\d{{2}}|\d{{4}}){_TIME}")
_LAST_DAY, _LAST_MONTH = 31, 12

Group = tuple[float, float]


def groups_of_date(written: str, known: Collection[Group] = ()) -> Group | None:
    """The age group that a date in lower case was; None where it is no date or could be several groups.

    Where the dataset's groups are ``known``, the one of them that the date can be; else only a date without a
    year tells its group.

    >>> groups_of_date("9-mar"), groups_of_date("2024-03-09"), groups_of_date("2024-03-09", [(3, 9)])
    ((3.0, 9.0), None, (3.0, 9.0))
    """
    pairs, has_year = _pairs(written)
    found = {_ascending(first, second) for first, second in pairs}
    if known:
        found &= set(known)
    elif has_year:
        return None
    return found.pop() if len(found) == 1 else None


def is_date(written: str) -> bool:
    """Whether a text in lower case is a date as spreadsheets write one."""
    return bool(_pairs(written)[0])


def _pairs(written: str) -> tuple[list[tuple[int, int]], bool]:
    """The pairs of numbers that may have been typed, and whether the date names a year."""
    named = _named(written)
    if named is not None:
        return named
    first, last = _YEAR_FIRST.fullmatch(written), _YEAR_LAST.fullmatch(written)
    if first:
        year, month, day = map(int, first.groups())
    elif last:
        month, day, year = map(int, last.groups())
    else:
        return [], False
    if max(month, day) > _LAST_DAY or not 1 <= min(month, day) <= _LAST_MONTH:
        return [], False
    pairs = [(month, day)]
    if day == 1:  # "10-19" as October 2019
        pairs.append((month, year % 100))
    if month == 1 and last:  # ... where the day comes first
        pairs.append((day, year % 100))
    return pairs, True


def _named(written: str) -> tuple[list[tuple[int, int]], bool] | None:
    """As ``_pairs``, for a date with the name of a month; None for any other text."""
    day_first, month_first = _DAY_MONTH.fullmatch(written), _MONTH_NUMBER.fullmatch(written)
    if day_first:
        number, name, year = day_first.groups()
    elif month_first:
        name, number, year = month_first.groups()
    elif (dated := _MONTH_YEAR.fullmatch(written)) and (month := _month(dated[1])):
        return [(month, int(dated[2]) % 100)], True
    else:
        return None
    month = _month(name)
    if month is None:
        return None
    pairs = [(month, int(number))]
    if year is not None and int(number) == 1:
        pairs.append((month, int(year) % 100))
    # "Mar-64" is a month and a year: a birth, as likely as the group 3-64.
    return pairs, year is not None or int(number) > _LAST_DAY


def _month(name: str) -> int | None:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return 7 if plain.startswith(_JULY) else _MONTHS.get(plain[:_LETTERS])


def _ascending(first: int, second: int) -> Group:
    return float(min(first, second)), float(max(first, second))
