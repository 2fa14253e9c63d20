"""Cells as people write them: numbers, ages, groups and missing values, read the same in every column."""

from __future__ import annotations

import pytest

from agesearch.data.sources.values import (
    MISSING,
    BadLabel,
    clean,
    parse_age,
    parse_box,
    parse_fold,
    parse_number,
    parse_sex,
    parse_split,
    parse_spread,
    parse_text,
)

FAIRFACE = ((0.0, 2.0), (3.0, 9.0), (10.0, 19.0), (20.0, 29.0))


def _reason(parse: object, *arguments: object) -> str:
    with pytest.raises(BadLabel) as caught:
        parse(*arguments)  # type: ignore[operator]
    return f"{caught.value.reason}: {caught.value}"


@pytest.mark.parametrize(
    ("written", "age"),
    [
        ("3,75", 3.75),
        ("25,32", 25.32),
        ("3,750", 3.75),  # 3,750 is no age
        ("0,125", 0.125),
        ("25\u00a0", 25.0),
        ("\u202f25 years", 25.0),
        ("25 yrs. old", 25.0),
        ("25y", 25.0),
        ("25 y.o.", 25.0),
        ("6 months", 0.5),
        ("Age: 30", 30.0),
        ('"37"', 37.0),
        ('="37"', 37.0),
        ("'37'", 37.0),
        ("[37]", 37.0),
        ("３７", 37.0),
        ("1e1", 10.0),
    ],
)
def test_one_age(written: str, age: float) -> None:
    assert parse_age(written) == (age, None, None)


@pytest.mark.parametrize(
    ("written", "low", "high"),
    [
        ("(3, 75)", 3, 75),
        ("[3,75]", 3, 75),
        ("3–75", 3, 75),
        ("3 — 75", 3, 75),
        ("3−75", 3, 75),
        ("3‑75", 3, 75),
        ("3~75", 3, 75),
        ("3;75", 3, 75),
        ("25,5-30,5", 25.5, 30.5),
        ("3-5 years", 3, 5),
        ("(3,5; 4,5)", 3.5, 4.5),
        ("25+", 25, 100),
        ("60 and over", 60, 100),
        (">= 60", 60, 100),
        ("≥60", 60, 100),
        ("60+ years", 60, 100),
        ("[20, 30)", 20, 29),
        ("(20, 30]", 21, 30),
    ],
)
def test_a_group(written: str, low: float, high: float) -> None:
    if written == "3~75":
        written = "3〜75"
    assert parse_age(written) == (None, low, high)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("3, 5", "can be an age group or a decimal comma"),
        ("3 ,5", "can be an age group or a decimal comma"),
        ("−5", "not an age in 0..100"),
        ("1 000", "not an age in 0..100"),
        ("3²", "not an age"),
        ("1_0", "not an age"),
        ("25,", "not an age"),
        ("1,2,3", "not an age"),
        ("2 5", "not an age"),
    ],
)
def test_what_is_no_age_or_could_be_two_says_why(written: str, reason: str) -> None:
    assert reason in _reason(parse_age, written)


@pytest.mark.parametrize(
    ("written", "group"),
    [
        ("9-Mar", (3, 9)),
        ("09-Mar", (3, 9)),
        ("03-Sep", (3, 9)),
        ("09.Mrz", (3, 9)),
        ("9. März", (3, 9)),
        ("9-mars", (3, 9)),
        ("Mar 9", (3, 9)),
        ("Oct-19", (10, 19)),
        ("19-Oct", (10, 19)),
        ("19.Okt", (10, 19)),
        ("5-Dec", (5, 12)),
        ("12-mag", (5, 12)),
        ("9-juil.", (7, 9)),
    ],
)
def test_groups_that_a_spreadsheet_took_for_dates_are_read_back(written: str, group: tuple[int, int]) -> None:
    assert parse_age(written) == (None, *group)


@pytest.mark.parametrize(
    "written",
    [
        "2024-03-09",
        "2024-03-09 00:00:00",
        "3/9/2024",
        "09.03.2024",
        "9-Mar-24",
        "2019-10-01",
        "Oct-2019",
        "Mar-64",
    ],
)
def test_a_date_with_a_year_is_told_and_never_guessed(written: str) -> None:
    assert "is a date, which spreadsheets make of an age group" in _reason(parse_age, written)


@pytest.mark.parametrize(
    ("written", "group"),
    [
        ("2024-03-09", (3, 9)),
        ("2024-03-09T00:00:00", (3, 9)),
        ("09/03/2024", (3, 9)),
        ("2019-10-01", (10, 19)),
        ("01.10.2019", (10, 19)),
        ("Oct-2019", (10, 19)),
        ("2024-10-19", (10, 19)),
    ],
)
def test_a_date_with_a_year_tells_one_of_the_known_groups(written: str, group: tuple[int, int]) -> None:
    assert parse_age(written, FAIRFACE) == (None, *group)


def test_a_date_of_no_known_group_is_left_out() -> None:
    assert "is a date" in _reason(parse_age, "2024-03-08", FAIRFACE)
    assert "is a date" in _reason(parse_age, "8-Mar", FAIRFACE)


@pytest.mark.parametrize("word", sorted(MISSING - {""}))
def test_every_word_for_missing_is_that_in_every_column(word: str) -> None:
    for written in (word, word.upper(), f" {word}\u00a0", f'"{word}"'):
        assert clean(written) == ""
        assert (
            parse_text(written) is parse_sex(written) is parse_split(written) is parse_fold(written) is None
        )
        assert parse_spread(written) is None
        assert _reason(parse_age, written).startswith("no_age")
        assert _reason(parse_box, ["1", "2", "3", written]).startswith("bad_box")


def test_words_that_only_look_like_missing_ones_stay() -> None:
    assert [parse_text(name) for name in ("Nana", "Null, Anna", "NA-17", "-1")] == [
        "Nana",
        "Null, Anna",
        "NA-17",
        "-1",
    ]


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("12,5", 12.5),
        ("1.234,5", 1234.5),
        ("1,234.5", 1234.5),
        ("1\u00a0234", 1234.0),
        ("1\u202f234,5", 1234.5),
        ("1’234", 1234.0),
        ("1,234,567", 1234567.0),
        ("1.234.567", 1234567.0),
        ("0,500", 0.5),
        ("−2", -2.0),
        ("-3,5", -3.5),
        ("1e3", 1000.0),
    ],
)
def test_numbers_as_people_write_them(written: str, number: float) -> None:
    assert parse_number(written) == number


@pytest.mark.parametrize("written", ["inf", "-inf", "1_000", "0x10", "1,23,4", "1.234,567.8", "12 34", ""])
def test_what_is_no_number_is_refused(written: str) -> None:
    assert "is not a number" in _reason(parse_number, written)


def test_a_number_that_could_be_two_is_refused_with_both() -> None:
    assert "'1,234' can be 1.234 or 1234" in _reason(parse_number, "1,234")
    assert _reason(parse_box, ["1,234", "2", "3", "4"]).startswith("bad_box: '1,234' can be 1.234 or 1234")


def test_boxes_spreads_and_folds_are_numbers_too() -> None:
    assert parse_box(["1,5", "−2", "1 234", '"7"']) == (1.5, -2.0, 1234.0, 7.0)
    assert parse_spread("4,5 years") == 4.5
    assert parse_fold("3.0") == 3
    assert _reason(parse_fold, "2.7").startswith("bad_fold")
    assert _reason(parse_fold, "-1").startswith("bad_fold")
    assert _reason(parse_spread, "-1").startswith("bad_spread")
    assert _reason(parse_box, ["inf", "1", "2", "3"]).startswith("bad_box")
