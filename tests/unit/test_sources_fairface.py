"""FairFace: nine groups, the owner's two splits, two sizes of crop."""

from __future__ import annotations

from pathlib import Path

import pytest
from more_public_trees import fairface, put_nothing, read_tree

from agesearch.data.dataset.records import SourceRecord, Split
from agesearch.errors import InputError
from agesearch.storage import Location

CROPS = "fairface-img-margin025-trainval"


def test_groups_and_splits_are_the_owners(tmp_path: Path) -> None:
    root = fairface(tmp_path, put_nothing)
    records, reasons = read_tree("fairface", root, root / CROPS)
    labels = {
        "train/1.jpg": (50.0, 59.0, "male", "east asian", Split.TRAIN),
        "train/2.jpg": (0.0, 2.0, "female", "latino hispanic", Split.TRAIN),
        "train/3.jpg": (70.0, 100.0, "female", "middle eastern", Split.TRAIN),
        "val/1.jpg": (3.0, 9.0, "male", "east asian", Split.VAL),
        "val/2.jpg": (60.0, 69.0, "female", "black", Split.VAL),
    }
    assert records == {
        name: SourceRecord(name, "fairface", age_low=low, age_high=high, sex=sex, ethnicity=race, split=split)
        for name, (low, high, sex, race, split) in labels.items()
    }
    assert reasons == {
        "train/4.jpg": "bad_age",
        "train/5.jpg": "no_age",
        f"{root}/fairface_label_train.csv:7": "path_outside",
    }


def test_tables_that_a_spreadsheet_saved_are_read_back(tmp_path: Path) -> None:
    root = fairface(tmp_path, put_nothing)
    written = [
        "9-Mar",
        "Oct-19",
        "2024-03-09",
        "2019-10-01 00:00:00",
        "03.09.2024",
        "More than 70",
        "8-Mar",
        "NA",
    ]
    lines = [f"train/{number}.jpg;{age};Male;NA" for number, age in enumerate(written)]
    table = "\r\n".join(["File;Age;Gender;Race", *lines]).encode("utf-16")
    (root / "fairface_label_train.csv").write_bytes(table)
    records, reasons = read_tree("fairface", root, root / CROPS)
    ends = [records[f"train/{number}.jpg"].age_low for number in range(6)]
    assert ends == [3.0, 10.0, 3.0, 10.0, 3.0, 70.0]
    assert records["train/0.jpg"].ethnicity is None
    assert {reasons["train/6.jpg"], reasons["train/7.jpg"]} == {"bad_age", "no_age"}


def test_images_beside_the_tables_come_first(tmp_path: Path) -> None:
    root = fairface(tmp_path, put_nothing)
    (root / "train").mkdir()
    assert "train/1.jpg" in read_tree("fairface", root)[0]


def test_with_both_sizes_the_user_chooses(tmp_path: Path) -> None:
    root = fairface(tmp_path, put_nothing)
    other = root / "fairface-img-margin125-trainval"
    (other / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="both sizes.*--images"):
        read_tree("fairface", root)
    records, _ = read_tree("fairface", root, other, images=Location.of(other))
    assert "train/1.jpg" in records


def test_both_tables_are_needed(tmp_path: Path) -> None:
    root = fairface(tmp_path, put_nothing)
    (root / "fairface_label_val.csv").unlink()
    with pytest.raises(InputError, match="fairface_label_train.csv.*fairface_label_val.csv"):
        read_tree("fairface", root)


def test_a_table_without_a_column_is_refused(tmp_path: Path) -> None:
    root = fairface(tmp_path, put_nothing)
    (root / "fairface_label_train.csv").write_text("file,gender,race\ntrain/1.jpg,Male,White\n")
    with pytest.raises(InputError, match=r"fairface_label_train.csv' has no column 'age'"):
        read_tree("fairface", root)
