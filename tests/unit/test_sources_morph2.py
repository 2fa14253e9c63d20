"""MORPH-II: rows that agree with their dates and with the person's other rows."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from more_public_trees import MORPH_HEADER, morph2, put_nothing, read_tree

from agesearch.data.dataset.records import SourceRecord
from agesearch.data.sources.morph2 import _check_age
from agesearch.data.sources.values import BadLabel
from agesearch.errors import InputError


def test_rows_that_agree_are_read_and_the_others_have_a_reason(tmp_path: Path) -> None:
    root = morph2(tmp_path, put_nothing)
    records, reasons = read_tree("morph2", root, root / "Album2")
    labels = {
        "009055_1M54.JPG": ("009055", 54.0, "male", "white"),
        "009055_2M55.JPG": ("009055", 55.0, "male", "white"),
        "012345_1F24.JPG": ("012345", 24.0, None, "black"),
        "012345_2F26.JPG": ("012345", 26.0, None, "black"),
        "020000_1F51.JPG": ("020000", 51.0, "female", "asian"),
        "020001_1M33.JPG": ("020001", 33.0, "male", "other"),
    }
    assert records == {
        name: SourceRecord(name, "morph2", age=age, subject_id=person, sex=sex, ethnicity=race)
        for name, (person, age, sex, race) in labels.items()
    }
    assert reasons == {
        "030000_1M31.JPG": "inconsistent_age",
        "040000_1M35.JPG": "inconsistent_birth",
        "040000_2M31.JPG": "inconsistent_birth",
        "050000_1M31.JPG": "bad_date",
        "050001_1M31.JPG": "no_age",
        "050002_1M31.JPG": "bad_age",
        "050003_1M31.JPG": "no_subject",
        f"{root}/morph_2008_nonCommercial.csv:15": "path_outside",
        f"{root}/morph_2008_nonCommercial.csv:16": "no_path",
    }


@pytest.mark.parametrize(("age", "fits"), [(28, False), (29, True), (30, True), (31, False)])
def test_on_a_birthday_both_ages_are_right(age: int, fits: bool) -> None:
    dates = datetime.date(1975, 6, 1), datetime.date(2005, 6, 1)
    if fits:
        _check_age(age, *dates)
    else:
        with pytest.raises(BadLabel):
            _check_age(age, *dates)


@pytest.mark.parametrize(("age", "fits"), [(29, False), (30, True), (31, False)])
def test_in_the_middle_of_a_year_one_age_is_right(age: int, fits: bool) -> None:
    dates = datetime.date(1975, 6, 1), datetime.date(2005, 12, 1)
    if fits:
        _check_age(age, *dates)
    else:
        with pytest.raises(BadLabel):
            _check_age(age, *dates)


def test_the_table_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Expected there: 'morph_2008_nonCommercial.csv', 'Album2/'"):
        read_tree("morph2", tmp_path)
    (tmp_path / "morph_2008_nonCommercial.csv").write_text(MORPH_HEADER.replace("dob,", "") + "\n")
    with pytest.raises(InputError, match="has no column 'dob'"):
        read_tree("morph2", tmp_path)
