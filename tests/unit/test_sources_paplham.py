"""The benchmark of Paplham & Franc: published folds, turns, squares that become boxes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from more_public_trees import PAPLHAM, TURNS, benchmark_yaml, paplham, put_nothing, read_tree

from agesearch.data.dataset.records import SourceRecord, Split, Turn
from agesearch.data.sources import SOURCES, SourceOptions
from agesearch.errors import InputError
from agesearch.storage import Location

TURNS_OF_AGEDB = (
    Turn(name="AgeDB/0", train=(0, 1), val=(2,), test=(3,)),
    Turn(name="AgeDB/1", train=(1, 2), val=(3,), test=(0,)),
)
BOX = (12.8, 12.8, 14.4, 14.4)  # 0.72 of a square of 20 about (20, 20), counted from 0


def _turns(root: Path) -> tuple[Turn, ...]:
    return SOURCES["paplham"].turns(SourceOptions(Location.of(root)))


def _read(root: Path, **options: object) -> tuple[dict, dict]:
    faces = root.parent.parent / "Faces" if root.parent.name == "benchmarks" else root.parents[2] / "Faces"
    return read_tree("paplham", root, faces / "AgeDB" / "AgeDB", images=Location.of(faces), **options)


def test_entries_keep_their_folds_and_the_first_turn_is_the_split(tmp_path: Path) -> None:
    root = paplham(tmp_path, put_nothing)
    records, reasons = _read(root)
    turned = records.pop("1.jpg")
    assert records == {
        "0.jpg": SourceRecord(
            "0.jpg", "AgeDB", age=15.0, subject_id="638660", sex="male", split=Split.TRAIN, fold=0,
            box=pytest.approx(BOX),
        ),
        "2.jpg": SourceRecord(
            "2.jpg", "AgeDB", age=30.0, age_std=4.5, subject_id="JoanCusack", sex="female", ethnicity="black",
            split=Split.TEST, fold=3, box=pytest.approx(BOX),
        ),
        "3.jpg": SourceRecord(
            "3.jpg", "AgeDB", age_low=25.0, age_high=32.0, subject_id="JoanCusack", split=Split.TEST, fold=3,
            box=pytest.approx(BOX),
        ),
    }  # fmt: skip
    side = 0.72 * math.hypot(20, 10)
    assert (turned.subject_id, turned.split, turned.fold) == ("WillSmith", Split.VAL, 2)
    assert turned.box == pytest.approx((25 - side / 2, 25 - side / 2, side, side))
    database = root.parent / "databases" / "AgeDB_aligned.json"
    assert reasons == {
        "4.jpg": "no_age",
        "5.jpg": "no_age",
        "6.jpg": "no_box",
        "7.jpg": "bad_box",
        "8.jpg": "bad_box",
        "9.jpg": "not_in_a_turn",
        "10.jpg": "bad_fold",
        "11.jpg": "bad_age",
        f"{database}:13": "path_outside",
        f"{database}:14": "no_path",
    }


def test_unknown_ages_are_kept_when_wanted(tmp_path: Path) -> None:
    records, reasons = _read(paplham(tmp_path, put_nothing), unlabelled=True)
    assert [records[name].age for name in ("4.jpg", "5.jpg")] == [None, None]
    assert reasons["6.jpg"] == "no_box"


def test_turns_are_the_benchmarks(tmp_path: Path) -> None:
    root = paplham(tmp_path, put_nothing)
    assert _turns(root) == TURNS_OF_AGEDB


def test_a_database_finds_the_benchmark_that_trains_on_it(tmp_path: Path) -> None:
    root = paplham(tmp_path, put_nothing)
    (root.parent / "MORPH.yaml").write_text("- {database: databases/AgeDB_aligned.json, split: [{tst: [0]}]}")
    (root.parent / "compose.yaml").write_text("services: {}\n")
    (root.parent / "broken.yaml").write_bytes(b"\x00\xff: [")
    database = root.parent / "databases" / "AgeDB_aligned.json"
    assert _turns(database) == TURNS_OF_AGEDB
    assert _read(database) == _read(root)


def test_a_database_without_a_benchmark_has_folds_but_no_turns(tmp_path: Path) -> None:
    root = paplham(tmp_path, put_nothing)
    root.unlink()
    records, reasons = _read(root.parent / "databases" / "AgeDB_aligned.json")
    assert _turns(root.parent / "databases" / "AgeDB_aligned.json") == ()
    assert (records["0.jpg"].fold, records["0.jpg"].split) == (0, None)
    assert "9.jpg" not in reasons


def test_a_folder_holds_benchmark_and_database_by_their_usual_names(tmp_path: Path) -> None:
    (tmp_path / "database.json").write_text(json.dumps(PAPLHAM[:2]))
    assert len(read_tree("paplham", tmp_path)[0]) == 2
    text = benchmark_yaml().replace("databases/AgeDB_aligned.json", "./database.json")
    (tmp_path / "benchmark.yaml").write_text(text)
    assert _turns(tmp_path) == TURNS_OF_AGEDB
    assert len(read_tree("paplham", tmp_path)[0]) == 2


def test_boxes_of_a_database_without_alignment_are_not_shrunk(tmp_path: Path) -> None:
    entry = {"img_path": "a.jpg", "age": 3, "folder": 1, "bbox": [11, 11, 31, 11, 31, 31, 11, 31]}
    plain = {"img_path": "b.jpg", "age": 3, "folder": 1}
    (tmp_path / "database.json").write_text(json.dumps([entry, plain]))
    records, _ = read_tree("paplham", tmp_path)
    assert records["a.jpg"].box == pytest.approx((10.0, 10.0, 20.0, 20.0))
    assert (records["b.jpg"].box, records["b.jpg"].source) == (None, "paplham")


def test_the_numbers_of_afad_are_not_taken_for_persons(tmp_path: Path) -> None:
    entry = {"img_path": "AFAD/AFAD-Full/15/111/638660-1.jpg", "id_num": 638660, "age": 15, "folder": 0}
    (tmp_path / "database.json").write_text(json.dumps([{**entry, "database": "AFAD-Full"}]))
    (record,) = read_tree("paplham", tmp_path)[0].values()
    assert (record.source, record.subject_id) == ("AFAD-Full", None)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (None, "Expected there: 'benchmark.yaml', 'database.json'"),
        ("", "parts"),
        ("- {split: []}", "parts.0.database"),
        ("a: [", "not valid YAML"),
        ("- {database: ../x.json, split: [{trn: [0]}]}", "outside its folder"),
        ("- {database: x.json, split: [{trn: [0]}]}", "There is no file .*x.json"),
        ("- {database: x.json, split: [{tst: [0]}]}", "trains on: none. Give a database"),
        ("- &a {database: x.json, split: [{trn: [0]}]}\n- *a", r"trains on: x.json, x.json. Give a database"),
        ("- {database: x.json, split: [{trn: [a]}]}", "parts.0.split.0.trn.0"),
    ],
)
def test_an_unusable_benchmark_gives_one_line(tmp_path: Path, yaml: str | None, message: str) -> None:
    if yaml is not None:
        (tmp_path / "benchmark.yaml").write_text(yaml)
    with pytest.raises(InputError, match=message) as caught:
        read_tree("paplham", tmp_path)
    assert "\n" not in str(caught.value)


def test_two_benchmarks_that_differ_must_be_told_apart(tmp_path: Path) -> None:
    root = paplham(tmp_path, put_nothing)
    (root.parent / "Other.yaml").write_text(root.read_text().replace(str(TURNS[0]["trn"]), "[0]"))
    with pytest.raises(InputError, match=r"Several benchmarks.*AgeDB.yaml, Other.yaml.*as PATH"):
        _turns(root.parent / "databases" / "AgeDB_aligned.json")
