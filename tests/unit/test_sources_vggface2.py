"""The reader ``vggface2`` on a tree in the owners' layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from public_trees import small_images, vggface2, write

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources import SOURCES, SourceOptions
from agesearch.errors import InputError
from agesearch.storage import Location


def _read(root: Path, **options: object) -> list[SourceRecord | Rejected]:
    return list(SOURCES["vggface2"].read(SourceOptions(Location.of(root), **options)))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vggface2")
    vggface2(root, small_images())
    return root


def test_faces_have_the_age_of_their_path_whatever_the_order(tree: Path) -> None:
    records = [item for item in _read(tree) if isinstance(item, SourceRecord)]
    assert len(records) == 23
    for row, record in enumerate(records[:20]):
        name = f"n{2 + row // 2:06d}/{1 + row % 2:04d}_01.jpg"
        assert record == SourceRecord(
            f"{tree}/train/{name}",
            "vggface2",
            age=20.125 + row,
            subject_id=name[:7],
            sex="female" if name[:7] == "n000002" else None,
            split=record.split,
            box=(2.0, 3.0, 30.0, 36.0),
        )
    assert records[20] == SourceRecord(
        f"{tree}/test/n000001/0001_01.jpg",
        "vggface2",
        age=50.0,
        subject_id="n000001",
        sex="male",
        split=Split.TEST,
        box=(0.0, 0.0, 40.0, 48.0),
    )
    assert [record.split for record in records[20:]] == [Split.TEST] * 3


def test_training_people_are_divided_80_20_and_none_goes_to_the_test(tmp_path: Path) -> None:
    names = [f"n{person:06d}/0001_01.jpg" for person in range(1000)]
    write(tmp_path / "train.detected.csv", *(f"0,1,{name},{name[1:7]},0,0,9,9" for name in names))
    write(tmp_path / "train.age_detected.csv", *(f"{name},30" for name in names))
    counts = Counter(record.split for record in _read(tmp_path))
    assert counts[Split.TEST] == 0
    assert 160 <= counts[Split.VAL] <= 240
    assert counts[Split.TRAIN] == 1000 - counts[Split.VAL]


def test_all_faces_of_a_person_are_in_one_split(tree: Path) -> None:
    by_person: dict[str, set[Split]] = {}
    for item in _read(tree):
        if isinstance(item, SourceRecord):
            by_person.setdefault(item.subject_id, set()).add(item.split)
    assert all(len(splits) == 1 for splits in by_person.values())


def test_what_is_left_out_has_a_reason(tree: Path) -> None:
    rejected = [item for item in _read(tree) if isinstance(item, Rejected)]
    assert Counter(item.reason for item in rejected) == {
        "repeated": 1, "no_age": 1, "path_outside": 1, "bad_box": 1, "no_identity": 1, "bad_age": 2,
        "no_path": 1, "no_face_box": 1,
    }  # fmt: skip
    by_reason = {item.reason: item for item in rejected}
    assert by_reason["no_face_box"].path == f"{tree}/train/n000004/0099_01.jpg"
    assert by_reason["repeated"].path == f"{tree}/train/n000002/0001_01.jpg"
    assert by_reason["path_outside"].path == f"{tree}/annotations/train.detected.csv:23"
    assert {item.source for item in rejected} == {"vggface2"}


def test_faces_without_an_age_can_be_wanted(tree: Path) -> None:
    items = _read(tree, unlabelled=True)
    (record,) = [item for item in items if isinstance(item, SourceRecord) and item.age is None]
    assert record.path == f"{tree}/train/n000003/0009_01.jpg"


def test_a_later_age_of_the_same_path_holds_and_a_header_is_skipped(tmp_path: Path) -> None:
    write(tmp_path / "test.detected.csv", "a,b,path,id,x,y,w,h", "0,1,n000001/0001_01.jpg,1,0,0,9,9")
    write(tmp_path / "test.age_detected.csv", "path,age", "n000001/0001_01.jpg,30", "n000001/0001_01.jpg,31")
    (record,) = _read(tmp_path)
    assert (record.age, record.split) == (31.0, Split.TEST)


def test_missing_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="'train.detected.csv', 'train.age_detected.csv', 'test.detected.csv'"
    ):
        _read(tmp_path)
    write(tmp_path / "train.detected.csv", "0,1,n000001/0001_01.jpg,1,0,0,9,9")
    with pytest.raises(InputError, match="'train.age_detected.csv'"):
        _read(tmp_path)
    write(tmp_path / "train.age_detected.csv", "")
    with pytest.raises(InputError, match="has no rows"):
        _read(tmp_path)
