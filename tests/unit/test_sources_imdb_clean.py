"""The reader ``imdb-clean`` on a tree as the owner's script leaves it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from public_trees import imdb_clean, small_images, write

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources import SOURCES, SourceOptions
from agesearch.errors import InputError
from agesearch.storage import Location


def _read(root: Path, **options: object) -> list[SourceRecord | Rejected]:
    return list(SOURCES["imdb-clean"].read(SourceOptions(Location.of(root), **options)))


def test_rows_keep_the_owners_splits(tmp_path: Path) -> None:
    imdb_clean(tmp_path, small_images())
    images = f"{tmp_path}/data/imdb-clean-1024"
    items = _read(tmp_path)
    assert [item for item in items if isinstance(item, SourceRecord)] == [
        SourceRecord(
            f"{images}/01/nm0000001_rm1_1960-5-4_1990.jpg", "imdb-clean", age=30.0, subject_id="nm0000001",
            sex="male", split=Split.TRAIN, box=(4.0, 5.0, 26.0, 35.0),
        ),
        SourceRecord(
            f"{images}/02/nm0000002_rm1.jpg", "imdb-clean", age=44.0, subject_id="nm0000002", sex="female",
            split=Split.TRAIN, box=(1.0, 1.0, 8.0, 8.0),
        ),
        SourceRecord(
            f"{images}/01/nm0000001_rm2_1960-5-4_1995.jpg", "imdb-clean", age=35.0, subject_id="nm0000001",
            sex="male", split=Split.VAL, box=(4.0, 5.0, 26.0, 35.0),
        ),
        SourceRecord(
            f"{images}/03/nm0000003_rm1.jpg", "imdb-clean", age=7.0, subject_id="nm0000003", sex="female",
            split=Split.TEST, box=(2.0, 2.0, 18.0, 28.0),
        ),
    ]  # fmt: skip
    assert Counter(item.reason for item in items if isinstance(item, Rejected)) == {
        "no_identity": 1, "bad_age": 1, "no_age": 1, "bad_box": 1, "path_outside": 1,
    }  # fmt: skip


def test_the_photographs_are_a_variant(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        row = f"01/nm1_{part}.jpg,30,M,40,50,90,110"
        write(tmp_path / f"imdb_{part}_new.csv", "filename,age,gender,x_min,y_min,x_max,y_max", row)
    records = _read(tmp_path, variant="photographs")
    assert [record.path for record in records] == [
        f"{tmp_path}/data/imdb/01/nm1_{part}.jpg" for part in ("train", "valid", "test")
    ]
    assert records[0].box == (40.0, 50.0, 50.0, 60.0)
    (tmp_path / "imdb").mkdir()
    assert _read(tmp_path, variant="photographs")[0].path == f"{tmp_path}/imdb/01/nm1_train.jpg"


def test_the_shared_people_of_train_and_valid_are_told() -> None:
    (note,) = SOURCES["imdb-clean"].notes
    assert "train and valid splits share people" in note


def test_missing_tables_and_columns_are_named(tmp_path: Path) -> None:
    imdb_clean(tmp_path, small_images())
    (tmp_path / "csvs" / "imdb_test_new_1024.csv").unlink()
    with pytest.raises(InputError, match=r"Expected there: 'csvs/imdb_test_new_1024.csv'\."):
        _read(tmp_path)
    write(tmp_path / "csvs" / "imdb_test_new_1024.csv", "filename,age", "a.jpg,3")
    with pytest.raises(InputError, match="no column 'x_min'. Columns found: filename, age"):
        _read(tmp_path)
