"""The reader ``appa-real`` on a tree in the owner's layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from public_trees import appa_real, small_images, write

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources import SOURCES, SourceOptions
from agesearch.errors import InputError
from agesearch.storage import Location


def _read(root: Path, **options: object) -> list[SourceRecord | Rejected]:
    return list(SOURCES["appa-real"].read(SourceOptions(Location.of(root), **options)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    appa_real(tmp_path, small_images())
    return tmp_path


def test_apparent_ages_with_their_spread(tree: Path) -> None:
    items = _read(tree, variant="apparent")
    assert items[:5] == [
        SourceRecord(
            f"{tree}/train/000000.jpg_face.jpg", "appa-real", age=5.1111, age_std=0.8123, sex="female",
            ethnicity="caucasian", split=Split.TRAIN,
        ),
        SourceRecord(
            f"{tree}/train/000001.jpg_face.jpg", "appa-real", age=21.5, age_std=2.5, sex="male",
            ethnicity="asian", split=Split.TRAIN,
        ),
        # No crop: the photograph.
        SourceRecord(f"{tree}/valid/004113.jpg", "appa-real", age=51.25, age_std=4.75, split=Split.VAL),
        SourceRecord(
            f"{tree}/test/005613.jpg_face.jpg", "appa-real", age=33.0, age_std=0.0, split=Split.TEST
        ),
        Rejected(
            f"{tree}/test/005614.jpg_face.jpg", "no_age", "gt_avg_test.csv, line 3: no age is given",
            "appa-real",
        ),
    ]  # fmt: skip
    assert (items[5].age, items[5].age_std) == (40.0, 4.0)


def test_real_ages_are_a_variant(tree: Path) -> None:
    items = _read(tree, variant="real")
    assert [(item.age, item.age_std) for item in items[:5]] == [
        (4.0, None),
        (18.0, None),
        (55.0, None),
        (30.0, None),
        (31.0, None),
    ]
    assert items[5].reason == "bad_age"
    source = SOURCES["appa-real"]
    assert [source.kind_of(name) for name in ("apparent", "real")] == ["apparent", "real"]
    assert source.variant(None) == "apparent"


def test_the_release_folder_may_lie_below(tmp_path: Path) -> None:
    appa_real(tmp_path / "appa-real-release", small_images())
    assert _read(tmp_path)[0].path == f"{tmp_path}/appa-real-release/train/000000.jpg_face.jpg"


def test_paths_that_leave_the_set_are_left_out(tree: Path) -> None:
    write(
        tree / "gt_avg_test.csv",
        "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age",
        "../a.jpg,3,4,1,4",
    )
    assert _read(tree)[-1].reason == "path_outside"


def test_missing_tables_and_columns_are_named(tree: Path) -> None:
    write(tree / "gt_avg_test.csv", "file_name,real_age", "1.jpg,4")
    assert len(_read(tree, variant="real")) == 4
    with pytest.raises(InputError, match="no column 'apparent_age_avg'"):
        _read(tree, variant="apparent")
    (tree / "gt_avg_valid.csv").unlink()
    with pytest.raises(InputError, match=r"Expected there: 'gt_avg_valid.csv'\."):
        _read(tree)
