"""UTKFace: labels from names, and the names that lack one."""

from __future__ import annotations

from pathlib import Path

import pytest
from more_public_trees import put_nothing, read_tree, utkface

from agesearch.data.dataset.records import SourceRecord
from agesearch.data.sources import SOURCES
from agesearch.errors import InputError


def test_labels_come_from_the_names(tmp_path: Path) -> None:
    records, reasons = read_tree("utkface", utkface(tmp_path, put_nothing))
    labels = {
        "UTKFace/100_0_0_20170112213500903.jpg.chip.jpg": (100.0, "male", "white"),
        "UTKFace/26_1_1_20170116184024662.jpg.chip.jpg": (26.0, "female", "black"),
        "UTKFace/24_0_1_20170116220224657 .jpg.chip.jpg": (24.0, "male", "black"),
        "UTKFace/55_0_0_20170116232725357jpg.chip.jpg": (55.0, "male", "white"),
        "UTKFace/44_1_4_20170116235150272.pg.chip.jpg": (44.0, "female", "other"),
        "UTKFace/1_0_2_20161219140530307.jpg.chip.jpg": (1.0, "male", "asian"),
        "UTKFace/8_1_3_20161220222308131.jpg.chip.jpg": (8.0, "female", "indian"),
        "part1/34_1_0_20170109004755204.jpg": (34.0, "female", "white"),
    }
    assert records == {
        name: SourceRecord(name, "utkface", age=age, sex=sex, ethnicity=race)
        for name, (age, sex, race) in labels.items()
    }
    assert reasons == {
        "UTKFace/39_1_20170116174525125.jpg.chip.jpg": "bad_name",
        "UTKFace/61_1_20170109142408075.jpg.chip.jpg": "bad_name",
        "UTKFace/116_1_0_20170120134921760.jpg.chip.jpg": "bad_age",
        "UTKFace/landmark_list_part1.txt": "not_an_image_name",
        "part1/61_3_20170109150557335.jpg": "bad_name",
        "part2/53__0_20170116184028385.jpg": "bad_name",
    }


def test_a_part_alone_can_be_read(tmp_path: Path) -> None:
    utkface(tmp_path, put_nothing)
    records, _ = read_tree("utkface", tmp_path / "part1")
    assert [record.age for record in records.values()] == [34.0]


def test_a_file_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "UTKFace.tar.gz").write_bytes(b"x")
    with pytest.raises(InputError, match="not a folder.*age.*race"):
        read_tree("utkface", tmp_path / "UTKFace.tar.gz")


def test_its_users_are_told_that_identities_are_unknown() -> None:
    assert SOURCES["utkface"].identities == "none"
    assert any("subject-exclusive" in note for note in SOURCES["utkface"].notes)
