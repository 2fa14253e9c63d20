"""Values as people write them: words for "missing", numbers, ages and age groups, splits, sexes, folds.

Every reader takes its cells through here, so that a word or a number means the same in every column of every
source. What can be read in two ways is refused with its reason, never guessed.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Sequence

from agesearch.ages import MAX_AGE
from agesearch.data.dataset.records import Split
from agesearch.data.sources.spreadsheets import groups_of_date, is_date

#: What stands for "no value" in any column of any source, in lower case: what databases, spreadsheets,
#: statistics packages and people write. A person who is really called "Null" counts as unknown.
MISSING = frozenset(
    {
        *("", "na", "n/a", "n.a.", "n.a", "<na>", "nan", "+nan", "-nan", "1.#qnan", "-1.#ind", "nat"),
        *("null", "(null)", "none", "nil", "\\n", "missing", "unknown", "undefined"),
        *("-", "--", "---", "?", "??", "."),
        *("#na", "#n/a", "#n/a n/a", "#value!", "#ref!", "#div/0!", "#num!", "#name?", "#null!"),
    }
)

Box = tuple[float, float, float, float]
Age = tuple[float | None, float | None, float | None]

#: Hyphens, dashes and minus signs that are typed, pasted or put there by an editor.
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−﹣－〜～"), "-")
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad"))
_EDGES = re.compile(r"^[\s\ufeff\u200b-\u200d\u2060\u00ad]+|[\s\ufeff\u200b-\u200d\u2060\u00ad]+$")
_APOSTROPHES = dict.fromkeys(map(ord, "’‘ʼ´"), "'")
_QUOTED = re.compile(r"""^=?(["'])(.*)\1$""", re.DOTALL)

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?\d*,\d+")
#: Groups of three digits: with one kind of mark between them, and another before the decimals.
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:(?:,\d{3})+|(?:\.\d{3}){2,}|(?:[ ']\d{3})+)")
_GROUPED_AND_DECIMALS = re.compile(
    r"([+-]?[1-9]\d{0,2}(?:(?:,\d{3})+(?=\.)|(?:\.\d{3})+(?=,)|(?:[ ']\d{3})+))([.,])(\d+)"
)

_N = r"(\d+(?:[.,]\d+)?)"
_POINTED = r"(\d+(?:\.\d+)?)"
_TO = r"\s*(?:-|;|to|until|\.{2,3})\s*"
_RANGE = re.compile(rf"{_N}{_TO}{_N}")
_BRACKETED = re.compile(rf"([\[(])\s*(?:{_POINTED}\s*,\s*{_POINTED}|{_N}{_TO}{_N})\s*([\])])")
_COMMA_AND_SPACE = re.compile(r"\d+(?:\s+,\s*|,\s+)\d+")
_OPEN = re.compile(
    rf"{_N}\s*(?:\+|plus|(?:and|or) (?:over|older|above|more|up))"
    rf"|(?:>=?|≥|over|more than|older than)\s*{_N}"
)
_ONE_IN_BRACKETS = re.compile(r"[\[(]\s*([^\[\](),;]+?)\s*[\])]")
_BEFORE = re.compile(r"^(?:aged?)\s*:?\s*(?=\d)")
_YEARS = re.compile(r"(?<=[\d+\s])\s*(?:y(?:ea)?rs?\.?(?: old| of age)?|y|y\.?/?o\.?|jahre?|ans|años|anni)$")
_MONTHS = re.compile(r"(?<=[\d+\s])\s*(?:months?(?: old)?|mos?\.?|mths?\.?)$")
_MONTHS_PER_YEAR = 12

_SPLITS = {
    **dict.fromkeys(("train", "training", "trn", "tr"), Split.TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), Split.VAL),
    **dict.fromkeys(("test", "testing", "tst", "eval"), Split.TEST),
}
_SEXES = {
    **dict.fromkeys(("m", "male", "man", "boy"), "male"),
    **dict.fromkeys(("f", "female", "woman", "girl"), "female"),
}
_LAST_FOLD = 127


class BadLabel(ValueError):  # noqa: N818 - a row's fault, counted by its reason
    """A label that cannot be used; ``reason`` is a short name for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def clean(text: str) -> str:
    """A cell without the spaces, invisible characters and quotes around it; empty where it says "missing".

    >>> clean(" 37 "), clean("NaN"), clean('="25"')
    ('37', '', '25')
    """
    stripped = _EDGES.sub("", text)
    quoted = _QUOTED.match(stripped)
    if quoted:
        stripped = quoted[2].strip()
    return "" if stripped.translate(_DASHES).lower() in MISSING else stripped


def _figure(text: str) -> str:
    """A cell that is to be a figure or a word of ours. In names a joiner between two signs is part of one."""
    return clean(text).translate(_INVISIBLE)


def parse_text(text: str) -> str | None:
    """A name or another word; None where it is missing."""
    return clean(text) or None


def parse_number(text: str, reason: str = "bad_number") -> float:
    """A finite number as people write it: a decimal point or comma, thousands apart by any mark, any minus.

    ``BadLabel`` of the given reason for what is none, and for what can be two, such as ``1,234``.

    >>> parse_number("3,75"), parse_number("1.234,5"), parse_number("−2")
    (3.75, 1234.5, -2.0)
    """
    found = _readings(_figure(text))
    if not found:
        raise BadLabel(reason, f"'{text.strip()[:40]}' is not a number")
    if len(found) > 1:
        shown = " or ".join(f"{value:.15g}" for value in found)
        raise BadLabel(reason, f"'{text.strip()[:40]}' can be {shown}: write it with a decimal point")
    return found[0]


def parse_years(text: str) -> float:
    """One age in years, 0..100; ``BadLabel`` ``no_age`` for an empty cell, ``bad_age`` otherwise."""
    age, low, _ = parse_age(text)
    if age is None or low is not None:
        raise BadLabel("bad_age", f"'{text.strip()[:40]}' is not one age")
    return age


def parse_spread(text: str) -> float | None:
    """A standard deviation in years, None for an empty cell; ``BadLabel`` ``bad_spread`` otherwise."""
    written = _figure(text)
    if not written:
        return None
    spread = parse_number(_without_unit(_unified(written))[0], "bad_spread")
    if not 0.0 <= spread <= MAX_AGE:
        raise BadLabel("bad_spread", f"'{written[:40]}' is not a spread in 0..{MAX_AGE} years")
    return spread


def parse_age(text: str, known: Collection[tuple[float, float]] = ()) -> Age:
    """``(age, low, high)`` of an age as written: ``"37"``, ``"3,75"``, ``"25 years"``, or a group
    ``"25-32"``, ``"(25, 32)"``, ``"60+"`` (then ``age`` is None).

    A comma between digits is a decimal comma unless brackets or a dash say otherwise. A group that a
    spreadsheet took for a date (``9-Mar``) is read back where only one group can be meant: one of those that
    are ``known``, if any are. ``BadLabel`` ``no_age`` for a missing one, ``bad_age`` for what is no age, can
    be read in two ways, lies outside 0..100 or is upside down.

    >>> parse_age("3,75"), parse_age("[3, 75]"), parse_age("9-Mar")
    ((3.75, None, None), (None, 3.0, 75.0), (None, 3.0, 9.0))
    """
    written = _figure(text)
    if not written:
        raise BadLabel("no_age", "no age is given")
    plain, per_year = _without_unit(_unified(written))
    alone = _ONE_IN_BRACKETS.fullmatch(plain)
    plain = alone[1] if alone else plain
    group = _group(plain)
    if group is not None:
        return None, *age_range(group[0] / per_year, group[1] / per_year, written)
    if _COMMA_AND_SPACE.fullmatch(plain):
        raise BadLabel(
            "bad_age", f"'{written[:40]}' can be an age group or a decimal comma: write 3-5 or 3.5"
        )
    found = [value / per_year for value in _readings(plain)]
    usable = [age for age in found if 0.0 <= age <= MAX_AGE]
    if len(usable) == 1:
        return usable[0], None, None
    group = groups_of_date(plain, known) if not found else None
    if group is not None:
        return None, *age_range(*group, written)
    raise BadLabel("bad_age", _why_no_age(plain, written, is_number=bool(found)))


def age_range(low: float, high: float, written: str) -> tuple[float, float]:
    """Both ends of an age group in 0..100; ``BadLabel`` where it is upside down."""
    if low > high:
        raise BadLabel("bad_age", f"the range '{written[:40]}' is upside down")
    for end in (low, high):
        if not 0.0 <= end <= MAX_AGE:
            raise BadLabel("bad_age", f"'{written[:40]}' is not an age in 0..{MAX_AGE}")
    return low, high


def parse_whole(text: str, reason: str, first: int, last: int) -> int:
    """A whole number in ``first..last``, which tables often keep as ``3.0``; ``BadLabel`` otherwise."""
    number = parse_number(text, reason)
    if number != math.floor(number) or not first <= number <= last:
        raise BadLabel(reason, f"'{text.strip()[:40]}' is not a whole number in {first}..{last}")
    return int(number)


def parse_fold(text: str) -> int | None:
    """The number of a fold, 0..127; None for an empty cell, ``BadLabel`` ``bad_fold`` for anything else."""
    return parse_whole(text, "bad_fold", 0, _LAST_FOLD) if clean(text) else None


def parse_box(written: Sequence[str]) -> Box:
    """``x, y, w, h`` in pixels from four cells; ``BadLabel`` ``bad_box`` where they are not four numbers."""
    if len(written) != 4 or not all(map(clean, written)):
        raise BadLabel("bad_box", f"'{' '.join(written)[:60].strip()}' is not a box of four numbers")
    x, y, w, h = (parse_number(text, "bad_box") for text in written)
    return x, y, w, h


def parse_split(text: str) -> Split | None:
    """The split as owners write it; None for an empty cell, ``BadLabel`` ``bad_split`` for anything else."""
    written = _figure(text).lower()
    if not written:
        return None
    if written not in _SPLITS:
        raise BadLabel("bad_split", f"'{text.strip()[:40]}' is not train, val or test")
    return _SPLITS[written]


def parse_sex(text: str) -> str | None:
    """``male``, ``female``, another word as it stands, or None for an empty cell."""
    written = _figure(text).lower()
    return _SEXES.get(written, written) or None


def _unified(written: str) -> str:
    """The text in lower case with one kind of digit, space, dash and apostrophe.

    Raised figures stay as they are: a footnote's mark in ``31²`` is no digit of the age.
    """
    if written.isascii():
        return " ".join(written.lower().split())
    plain = "".join(
        mark if unicodedata.category(mark) == "No" else unicodedata.normalize("NFKC", mark)
        for mark in written.translate(_APOSTROPHES)
    )
    return " ".join(plain.translate(_DASHES).lower().split())


def _without_unit(plain: str) -> tuple[str, int]:
    """A text without its unit, and how many of the unit make a year."""
    bare = _BEFORE.sub("", plain)
    if _MONTHS.search(bare):
        return _MONTHS.sub("", bare).rstrip(), _MONTHS_PER_YEAR
    return _YEARS.sub("", bare).rstrip(), 1


def _group(plain: str) -> tuple[float, float] | None:
    """The ends of an age group as written; None where it is no group."""
    opened = _OPEN.fullmatch(plain)
    if opened:
        return _decimal(opened[1] or opened[2]), float(MAX_AGE)
    bracketed = _BRACKETED.fullmatch(plain)
    if bracketed:
        left, *ends, right = bracketed.groups()
        low, high = (_decimal(end) for end in ends if end is not None)
        # "[20, 30)" and "(20, 30]", as pandas writes intervals, hold one end only; "(20, 30)" is Adience's.
        if (left, right) == ("[", ")") and high > low:
            high -= 1
        if (left, right) == ("(", "]") and high > low:
            low += 1
        return low, high
    between = _RANGE.fullmatch(plain)
    return (_decimal(between[1]), _decimal(between[2])) if between else None


def _decimal(written: str) -> float:
    return float(written.replace(",", "."))


def _readings(written: str) -> list[float]:
    """The numbers that a text can be; two where a comma may be a decimal one or part thousands."""
    plain = _unified(written)
    readings = []
    if _PLAIN.fullmatch(plain):
        readings.append(float(plain))
    if _COMMA.fullmatch(plain):
        readings.append(_decimal(plain))
    if _GROUPED.fullmatch(plain):
        readings.append(float(_ungrouped(plain)))
    parts = _GROUPED_AND_DECIMALS.fullmatch(plain)
    if parts:
        readings.append(float(f"{_ungrouped(parts[1])}.{parts[3]}"))
    return [number for number in dict.fromkeys(readings) if math.isfinite(number)]


def _ungrouped(written: str) -> str:
    return re.sub(r"[,. ']", "", written)


def _why_no_age(plain: str, written: str, *, is_number: bool) -> str:
    if is_number:
        return f"'{written[:40]}' is not an age in 0..{MAX_AGE}"
    if is_date(plain):
        return (
            f"'{written[:40]}' is a date, which spreadsheets make of an age group such as 3-9: take the "
            "column from the original file"
        )
    return f"'{written[:40]}' is not an age"
