"""Tables as people have them: separators, encodings, headers, columns whose names tell the kind of label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.sources import SOURCES, SourceOptions
from agesearch.data.sources.base import Findings
from agesearch.errors import InputError
from agesearch.storage import Location


def _options(path: Path, content: str | bytes, **options: Any) -> SourceOptions:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return SourceOptions(Location.of(path), **options)


def _read(path: Path, content: str | bytes, **options: Any) -> list[SourceRecord | Rejected]:
    return list(SOURCES["csv"].read(_options(path, content, **options)))


def _findings(path: Path, content: str, **options: Any) -> Findings:
    return SOURCES["csv"].findings(_options(path, content, **options))


@pytest.mark.parametrize(
    "content",
    [
        "file;age;box_x;box_y;box_w;box_h\na.jpg;3,75;1,5;2;30;40\n",
        'file,age,box_x,box_y,box_w,box_h\na.jpg,"3,75","1,5",2,30,40\n',
        "file\tage\tbox_x\tbox_y\tbox_w\tbox_h\r\na.jpg\t3,75\t1,5\t2\t30\t40\r\n",
        "file|age|box_x|box_y|box_w|box_h|\na.jpg|3,75|1,5|2|30|40|\n",
        "sep=;\r\nFILE; Age ;Box X;Box-Y;BOX_W;box_h\r\na.jpg;3,75;1,5;2;30;40\r\n",
        "'file';'age';'box_x';'box_y';'box_w';'box_h'\n'a.jpg';'3,75';'1,5';'2';'30';'40'\n",
        "\ufefffile;age;box_x;box_y;box_w;box_h\na.jpg;3,75;1,5;2;30;40\n",
        "file;age;box_x;box_y;box_w;box_h\na.jpg;3,75;1,5;2;30;40\n".encode("utf-16"),
        "file;age;box_x;box_y;box_w;box_h\ra.jpg;3,75;1,5;2;30;40\r",
    ],
)
def test_one_face_in_many_tables(tmp_path: Path, content: str | bytes) -> None:
    (record,) = _read(tmp_path / "f.csv", content)
    expected = SourceRecord(f"{tmp_path}/a.jpg", "f", age=3.75, box=(1.5, 2.0, 30.0, 40.0))
    assert record == expected


def test_json_lines_are_read_alike(tmp_path: Path) -> None:
    rows = [
        {"File": "a.jpg", "age": "3,75"},
        {"File": "b.jpg", "age": [25, 32], "age_std": float("nan"), "person": None},
        {"File": "c.jpg", "age": 41.5, "person": "NA", "age_std": "-"},
        {"File": "d.jpg", "age": "NaN"},
        {"File": "e.jpg", "age": 7, "person": "anna", "unknown": {"deep": 1}},
    ]
    found = _read(tmp_path / "f.jsonl", "\n".join(map(json.dumps, rows)))
    assert [getattr(row, "age", "left out") for row in found] == [3.75, None, 41.5, "left out", 7.0]
    assert (found[1].age_low, found[1].age_high) == (25.0, 32.0)
    assert [getattr(row, "subject_id", None) for row in found] == [None, None, None, None, "anna"]


@pytest.mark.parametrize("word", ["NA", "nan", "NULL", "None", "-", "?", "", "N/A", "#N/A"])
def test_a_missing_word_costs_nothing_in_optional_columns(tmp_path: Path, word: str) -> None:
    header = "file,age,age_std,subject_id,sex,race,dataset,split,fold,box_x,box_y,box_w,box_h"
    (record,) = _read(tmp_path / "f.csv", f"{header}\na.jpg,30{f',{word}' * 11}\n")
    assert record == SourceRecord(f"{tmp_path}/a.jpg", "f", age=30.0)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("photos\\a b\\1.jpg", "{}/photos/a b/1.jpg"),
        (".\\1.jpg", "{}/1.jpg"),
        ("caf\\xe9.jpg", "{}/caf\\xe9.jpg"),  # how quarantine.parquet writes a name that is not UTF-8
        ("/data/1.jpg", "/data/1.jpg"),
    ],
)
def test_paths_of_windows_are_paths_here(tmp_path: Path, written: str, expected: str) -> None:
    (record,) = _read(tmp_path / "f.csv", f"file;age\n{written};3\n")
    assert record.path == expected.format(tmp_path)


def test_a_file_whose_very_name_has_a_backslash_or_a_joiner_is_found(tmp_path: Path) -> None:
    for name in ("back\\slash.png", "👩🏽‍🦳 👴.png"):
        (tmp_path / name).touch()
        (record,) = _read(tmp_path / "f.csv", f"file;age\n\u200b {name};3\u200d1\n")
        assert (record.path, record.age) == (f"{tmp_path}/{name}", 31.0)


@pytest.mark.parametrize("written", ["C:\\faces\\1.jpg", "d:/faces/1.jpg", "\\\\server\\faces\\1.jpg"])
def test_a_path_of_another_machine_is_left_out_with_its_reason(tmp_path: Path, written: str) -> None:
    (row,) = _read(tmp_path / "f.csv", f"file;age\n{written};3\n")
    assert (row.reason, "--images" in row.detail) == ("path_outside", True)


def test_a_row_with_more_cells_than_columns_is_no_guess(tmp_path: Path) -> None:
    rows = _read(tmp_path / "f.csv", "file,age\na.jpg,3,75\nb.jpg,4\nc.jpg,5,\nd.jpg,(25, 32)\n")
    assert [getattr(row, "reason", row.path[-5:]) for row in rows] == [
        "too_many_cells",
        "b.jpg",
        "c.jpg",
        "too_many_cells",
    ]
    assert "75" in rows[0].detail


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.jpg,25\nb.jpg,30\n", "has no header: its first row is 'a.jpg, 25'"),
        ("file,age,Age\na.jpg,1,2\n", "has the column 'Age' more than once"),
        (
            "file,real_age,apparent_age_avg\na.jpg,1,2\n",
            "choose with --column age=real_age or --column age=app",
        ),
        (
            "file,Person Id,identity,age\na.jpg,1,2,3\n",
            "choose with --column 'subject=Person Id' or --column sub",
        ),
        ("file,img,age\na.jpg,b.jpg,3\n", "has 2 columns for 'path'"),
        (b"PK\x03\x04\x14\x00", "not UTF-8 text but a workbook"),
        (b"\x1f\x8b\x08\x00", "not UTF-8 text but compressed"),
        (b"f\x00i\x00l\x00e\x00", "not UTF-8 text but a binary file"),
        ("file,age\njosé.jpg,3\n".encode("latin-1"), "iconv -f WINDOWS-1252 -t UTF-8 "),
    ],
)
def test_a_table_that_leaves_a_choice_or_is_none_is_refused(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        _read(tmp_path / "f.csv", content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_users_choice_settles_two_columns(tmp_path: Path) -> None:
    content = "file,real_age,apparent_age_avg,apparent_age_std\na.jpg,30,33.5,4\n"
    (real,) = _read(tmp_path / "f.csv", content, columns={"age": "real_age"})
    (apparent,) = _read(tmp_path / "f.csv", content, columns={"age": "apparent_age_avg"})
    assert (real.age, real.age_std) == (30.0, None)
    assert (apparent.age, apparent.age_std) == (33.5, 4.0)


@pytest.mark.parametrize(
    ("header", "columns", "kind", "spread"),
    [
        ("age,age_std", {}, None, 4.0),
        ("real_age,age_std", {}, "real", 4.0),
        ("real_age,apparent_age_std", {}, "real", None),
        ("age,apparent_age_std", {}, None, None),
        ("Apparent Age,apparent_age_std", {}, "apparent", 4.0),
        ("apparent_age_avg,age_std", {}, "apparent", 4.0),
        ("predicted_age,age_std", {"age": "predicted_age"}, "teacher", 4.0),
        ("perceived_age,sd", {"age": "perceived_age", "age_std": "sd"}, "apparent", 4.0),
        ("real_age,apparent_age_std", {"age_std": "apparent_age_std"}, "real", 4.0),
    ],
)
def test_the_kind_of_label_and_its_spread_follow_the_column(
    tmp_path: Path, header: str, columns: dict[str, str], kind: str | None, spread: float | None
) -> None:
    content = f"file,{header}\na.jpg,30,4\n"
    found = _findings(tmp_path / "f.csv", content, columns=columns)
    (record,) = _read(tmp_path / "f.csv", content, columns=columns)
    assert (found.label_kind, record.age, record.age_std) == (kind, 30.0, spread)
    assert bool(found.notes) == (spread is None)
    assert all("--column age_std=apparent_age_std" in note for note in found.notes)


def test_an_age_outside_its_own_group_is_told(tmp_path: Path) -> None:
    rows = _read(
        tmp_path / "f.csv", "file,age,age_low,age_high\na.jpg,35,30,39\nb.jpg,45,30,39\nc.jpg,NA,30,39\n"
    )
    assert (rows[0].age, rows[1].reason, rows[2].age_low) == (35.0, "two_ages", 30.0)


def test_one_cell_with_a_nul_costs_its_row_alone(tmp_path: Path) -> None:
    content = b"file,age\n" + b"a.jpg,30\n" * 3 + b"nul\0.jpg,31\n"
    paths = [Path(row.path).name for row in _read(tmp_path / "f.csv", content)]
    assert paths == ["a.jpg", "a.jpg", "a.jpg", "nul\0.jpg"]
