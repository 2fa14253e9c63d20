"""The reader ``imdb-wiki`` on trees in both layouts: aligned tables, and the owner's MATLAB files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from public_trees import datenum, imdb_wiki_csv, imdb_wiki_mat, small_images, write
from scipy.io import savemat

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources import SOURCES, SourceOptions
from agesearch.data.sources.matlab import matlab_age
from agesearch.errors import InputError
from agesearch.storage import Location

pytestmark = pytest.mark.usefixtures("matlab_here")


def _read(root: Path, **options: object) -> list[SourceRecord | Rejected]:
    return list(SOURCES["imdb-wiki"].read(SourceOptions(Location.of(root), **options)))


def _records(items: list[SourceRecord | Rejected]) -> list[SourceRecord]:
    return [item for item in items if isinstance(item, SourceRecord)]


def _reasons(items: list[SourceRecord | Rejected]) -> dict[str, int]:
    return dict(Counter(item.reason for item in items if isinstance(item, Rejected)))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    imdb_wiki_csv(root, small_images())
    return root


@pytest.fixture(scope="module")
def matlab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("matlab")
    imdb_wiki_mat(root, small_images())
    return root


def test_aligned_tables(tables: Path) -> None:
    records = _records(_read(tables))
    for index, record in enumerate(records[:9]):
        assert record == SourceRecord(
            f"{tables}/imdb/imdb_crop_aligned/0{index}/nm000000{index}_rm{index}_1960-5-4_1990.jpg",
            "imdb",
            age=30.0 + index,
            subject_id=f"Star {index}",
            split=record.split,
            box=(1.0, 2.0, 30.0, 40.0),
        )
        assert record.split in set(Split)
    (wiki,) = records[9:]
    assert (wiki.source, wiki.age, wiki.subject_id) == ("wiki", 28.0, "Sami Jauhojärvi")
    assert wiki.path == f"{tables}/wiki/wiki_crop_aligned/17/10000217_1981-05-05_2009.jpg"


def test_rows_of_aligned_tables_that_are_left_out(tables: Path) -> None:
    assert _reasons(_read(tables)) == {
        "age_not_1_to_100": 1, "bad_age": 1, "unknown_birthday": 1, "no_identity": 1, "path_outside": 1,
        "bad_box": 1, "no_age": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "sources"), [("imdb", {"imdb"}), ("wiki", {"wiki"}), ("both", {"imdb", "wiki"})]
)
def test_variants_choose_the_parts(tables: Path, variant: str, sources: set[str]) -> None:
    assert {record.source for record in _records(_read(tables, variant=variant))} == sources


def test_owners_matlab_file_of_photographs(matlab: Path) -> None:
    items = _read(matlab, variant="imdb")
    first, second = _records(items)
    # Corners 3, 5, 32, 44 counted from 1, both inside the face.
    assert first == SourceRecord(
        f"{matlab}/imdb/01/nm0000001_rm1_1960-5-4_1990.jpg",
        "imdb",
        age=30.0,
        subject_id="Fred Astaire",
        sex="male",
        split=first.split,
        box=(2.0, 4.0, 30.0, 40.0),
    )
    # Born on 3 July: 29 in the middle of 1990; the name is that of her number among the stars.
    assert (second.age, second.subject_id, second.sex) == (29.0, "Lauren Bacall", "female")
    assert _reasons(items) == {
        "no_face": 1, "second_face": 1, "age_not_1_to_100": 2, "unknown_birthday": 1, "bad_age": 2,
        "path_outside": 1,
    }  # fmt: skip


def test_owners_matlab_file_of_crops(matlab: Path) -> None:
    items = _read(matlab, variant="wiki")
    (record,) = _records(items)
    # The corners are those of the photograph, and do not fit the crop.
    assert (record.age, record.subject_id, record.sex, record.box) == (28.0, "Sami Jauhojärvi", None, None)
    assert record.path == f"{matlab}/wiki_crop/17/10000217_1981-05-05_2009.jpg"
    assert _reasons(items) == {"no_identity": 1}


def test_people_are_divided_80_10_10_by_name(tmp_path: Path) -> None:
    rows = [f"0,30,0/{n}_1960-1-1_1990.jpg,0,0,9,9,Person {n % 500}" for n in range(1000)]
    write(tmp_path / "wiki_aligned.csv", *rows)
    records = _records(_read(tmp_path, variant="wiki"))
    splits = {record.subject_id: record.split for record in records}
    assert all(record.split is splits[record.subject_id] for record in records)
    counts = Counter(splits.values())
    assert 370 <= counts[Split.TRAIN] <= 430
    assert min(counts[Split.VAL], counts[Split.TEST]) >= 30


@pytest.mark.parametrize(
    ("born", "year", "age"),
    [
        ((1960, 6, 29), 1990, 30),
        ((1960, 6, 30), 1990, 29),
        ((1900, 1, 1), 1999, 99),
        ((1990, 7, 1), 1990, -1),
    ],
)
def test_ages_are_counted_as_the_owner_does(born: tuple[int, int, int], year: int, age: int) -> None:
    assert matlab_age(datenum(*born), year) == age


@pytest.mark.parametrize(
    ("born", "year"), [(float("nan"), 1990), (float("inf"), 1990), (7e5, 0), (-4e6, 9999)]
)
def test_dates_that_are_none_give_a_reason(born: float, year: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        matlab_age(born, year)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'imdb_aligned.csv', 'imdb_crop/imdb.mat'"):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("struct", "message"),
    [
        (np.zeros(3), "has no struct 'wiki'"),
        ({"dob": np.zeros(3)}, r"wiki.mat'.*has no field 'photo_taken' of type double"),
    ],
)
def test_other_structs_give_one_line(tmp_path: Path, struct: object, message: str) -> None:
    savemat(tmp_path / "wiki.mat", {"wiki": struct})
    with pytest.raises(InputError, match=message):
        _read(tmp_path, variant="wiki")
