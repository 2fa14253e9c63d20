"""The reader ``lfw+`` on a tree in the layout of the set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from public_trees import lfw_plus, small_images, write

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.sources import SOURCES, SourceOptions
from agesearch.errors import InputError
from agesearch.storage import Location


def _read(root: Path, **options: object) -> list[SourceRecord | Rejected]:
    return list(SOURCES["lfw+"].read(SourceOptions(Location.of(root), **options)))


def test_every_face_is_for_the_test(tmp_path: Path) -> None:
    lfw_plus(tmp_path, small_images())
    items = _read(tmp_path)
    assert [item for item in items if isinstance(item, SourceRecord)] == [
        SourceRecord(f"{tmp_path}/lfw_cropped/{name}", "lfw+", age=age, subject_id=person, split=Split.TEST)
        for name, age, person in [
            ("Aaron_Eckhart_0001.jpg", 41.3, "Aaron_Eckhart"),
            ("Aaron_Eckhart_0002.jpg", 43.0, "Aaron_Eckhart"),
            ("Zico_0003.jpg", 52.0, "Zico"),
            ("Smith,_Jr_0001.jpg", 30.0, "Smith,_Jr"),
            ("child 7.jpg", 7.5, None),
        ]
    ]
    assert Counter(item.reason for item in items if isinstance(item, Rejected)) == {
        "no_age": 1, "bad_age": 1, "path_outside": 1, "no_path": 1,
    }  # fmt: skip


def test_the_table_itself_may_be_given(tmp_path: Path) -> None:
    write(tmp_path / "sub" / "mine.csv", "1,30,Zico/Zico_0001.jpg")
    (record,) = _read(tmp_path / "sub" / "mine.csv")
    assert (record.path, record.subject_id) == (f"{tmp_path}/sub/Zico/Zico_0001.jpg", "Zico")
    assert _read(tmp_path / "sub") == [record]
    (elsewhere,) = _read(tmp_path / "sub", images=Location.of("/faces"))
    assert elsewhere.path == "/faces/Zico/Zico_0001.jpg"


def test_no_table_or_several(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'lfw_theirs.csv', 'lfw_cropped/'"):
        _read(tmp_path)
    write(tmp_path / "a.csv", "1,30,Zico_0001.jpg")
    write(tmp_path / "b.csv", "1,30,Zico_0001.jpg")
    with pytest.raises(InputError, match=r"several tables \(a.csv, b.csv\)"):
        _read(tmp_path)
