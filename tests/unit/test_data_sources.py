"""Readers: columns by usual names or the user's, ages as people write them, bad rows kept with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agesearch.data.dataset.records import Rejected, SourceRecord, Split
from agesearch.data.ingest.survey import survey
from agesearch.data.sources import SOURCES, SourceOptions, source_named
from agesearch.data.sources.values import BadLabel, parse_age
from agesearch.errors import InputError
from agesearch.storage import Location


def _read(path: Path, text: str | bytes, **options: object) -> list[SourceRecord | Rejected]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(SOURCES["csv"].read(SourceOptions(Location.of(path), **options)))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("37", (37.0, None, None)),
        (" 37.5 ", (37.5, None, None)),
        ("0", (0.0, None, None)),
        ("100", (100.0, None, None)),
        ("25-32", (None, 25.0, 32.0)),
        ("(25, 32)", (None, 25.0, 32.0)),
        ("[0, 2]", (None, 0.0, 2.0)),
        ("3 to 9", (None, 3.0, 9.0)),
        ("60+", (None, 60.0, 100.0)),
        ("more than 70", (None, 70.0, 100.0)),
    ],
)
def test_ages_as_people_write_them(written: str, expected: tuple) -> None:
    assert parse_age(written) == expected


@pytest.mark.parametrize(
    ("written", "reason"),
    [("", "no_age"), ("None", "no_age"), ("nan", "no_age"), ("inf", "bad_age"), ("-1", "bad_age"),
     ("101", "bad_age"), ("old", "bad_age"), ("32-25", "bad_age"), ("90-120", "bad_age"), ("1e3", "bad_age")],
)  # fmt: skip
def test_unusable_ages_have_a_reason(written: str, reason: str) -> None:
    with pytest.raises(BadLabel) as caught:
        parse_age(written)
    assert caught.value.reason == reason


def test_usual_columns_are_found(tmp_path: Path) -> None:
    text = "File,Age,Subject_ID,Gender,source,split,fold\na/1.jpg,37,anna,F,web,valid,2\n"
    (record,) = _read(tmp_path / "faces.csv", text)
    assert record == SourceRecord(
        f"{tmp_path}/a/1.jpg", "web", age=37.0, subject_id="anna", sex="female", split=Split.VAL, fold=2
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("f.csv", "file;age\n1.jpg;37\n\n2.jpg;8\n"),
        ("f.csv", "\ufefffile,age\r\n1.jpg,37\r\n2.jpg,8\r\n"),
        ("f.csv", '"file","age"\n"1.jpg","37"\n"2.jpg","8"'),
        ("f.csv", "age|file\n37|1.jpg\n8|2.jpg\n"),
        ("f.tsv", "file\tage\n1.jpg\t37\n2.jpg\t8\n"),
        ("f.jsonl", '{"file": "1.jpg", "age": 37}\n\n{"file": "2.jpg", "age": 8.0}\n'),
    ],
)
def test_separators_and_json_lines(tmp_path: Path, name: str, text: str) -> None:
    records = _read(tmp_path / name, text)
    assert [(record.path, record.age) for record in records] == [
        (f"{tmp_path}/1.jpg", 37.0),
        (f"{tmp_path}/2.jpg", 8.0),
    ]
    assert records[0].source == "f"


def test_a_long_file_is_read_whole(tmp_path: Path) -> None:
    text = "file,age\n" + "".join(f"{index:08d}.jpg,{index % 101}\n" for index in range(20_000))
    records = _read(tmp_path / "f.csv", text)
    assert [record.path[-12:-4] for record in records] == [f"{index:08d}" for index in range(20_000)]


def test_users_columns_images_and_boxes(tmp_path: Path) -> None:
    text = "who,years,f,x,y,w,h\nanna,37,1.jpg,1,2,30,40\n"
    columns = {"path": "f", "age": "years", "subject": "who"} | {f"box_{key}": key for key in "xywh"}
    (record,) = _read(tmp_path / "f.csv", text, columns=columns, images=Location.of("/images"))
    assert record.path == "/images/1.jpg"
    assert record.subject_id == "anna"
    assert record.box == (1.0, 2.0, 30.0, 40.0)


def test_age_ranges_by_two_columns(tmp_path: Path) -> None:
    rows = _read(tmp_path / "f.csv", "file,age_min,age_max\n1.jpg,20,29\n2.jpg,29,20\n3.jpg,,29\n")
    assert (rows[0].age, rows[0].age_low, rows[0].age_high) == (None, 20.0, 29.0)
    assert [row.reason for row in rows[1:]] == ["bad_age", "no_age"]


def test_bad_rows_are_kept_with_their_reason(tmp_path: Path) -> None:
    text = "file,age,split,fold\n1.jpg,old,,\n,4,,\n3.jpg,4,holdout,\n4.jpg,4,,many\n5.jpg\n6.jpg,6,test,1\n"
    rows = _read(tmp_path / "f.csv", text)
    assert [row.reason for row in rows[:-1]] == ["bad_age", "no_path", "bad_split", "bad_fold", "no_age"]
    assert "line 2" in rows[0].detail
    assert rows[-1].split is Split.TEST


def test_unlabelled_rows_only_when_wanted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column of ages"):
        _read(tmp_path / "f.csv", "file\n1.jpg\n")
    (record,) = _read(tmp_path / "f.csv", "file\n1.jpg\n", unlabelled=True)
    assert record.age is None


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", {}, "has no rows"),
        ("file,age\n", {}, "has no rows"),
        ("a,b\n1,2\n", {}, r"no column of image paths.*Columns found: a, b"),
        ("file,age\n1,2\n", {"age": "alter"}, r"no column 'alter'.*Columns found: file, age"),
        ("file,age\n1,2\n", {"agee": "age"}, "Unknown field 'agee'.*Did you mean 'age'"),
        (b"file,age\n\xff\xfe.jpg,3\n", {}, "not UTF-8"),
        ("file,age\n" + "x" * 200_000 + ",3\n", {}, "line 2"),
    ],
)
def test_unusable_files_give_one_line(tmp_path: Path, text: str, columns: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        _read(tmp_path / "f.csv", text, columns=columns)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]\n", "{broken\n", "[" * 100_000 + "\n", "9" * 5000 + "\n"])
def test_json_lines_must_be_objects(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="line 1 is not a JSON object"):
        _read(tmp_path / "f.jsonl", text)


def _folder(root: Path, **options: object) -> list[SourceRecord | Rejected]:
    return list(SOURCES["folder"].read(SourceOptions(Location.of(root), **options)))


def test_folder_names_are_ages(tmp_path: Path) -> None:
    for name in (
        "8/b.png",
        "37/deep/a.JPG",
        "25-32/c.jpg",
        "misc/d.jpg",
        "e.jpg",
        "8/notes.txt",
        "8/.hidden.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.symlink(tmp_path, tmp_path / "8" / "loop")
    found = {item.path.removeprefix(f"{tmp_path}/"): item for item in _folder(tmp_path)}
    ages = {name: (item.age, item.age_low) for name, item in found.items() if isinstance(item, SourceRecord)}
    assert ages == {"8/b.png": (8.0, None), "37/deep/a.JPG": (37.0, None), "25-32/c.jpg": (None, 25.0)}
    reasons = {name: item.reason for name, item in found.items() if isinstance(item, Rejected)}
    assert reasons == {
        "misc/d.jpg": "not_in_an_age_folder",
        "e.jpg": "not_in_an_age_folder",
        "8/notes.txt": "not_an_image_name",
        "8/.hidden.jpg": "hidden",
        "8/loop": "linked_folder",
    }
    assert len([item for item in _folder(tmp_path, unlabelled=True) if isinstance(item, SourceRecord)]) == 5


def test_unknown_sources_and_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Unknown source 'cvs'"):
        source_named("cvs")
    for name in SOURCES:
        with pytest.raises(InputError, match="absent"):
            list(SOURCES[name].read(SourceOptions(Location.of(tmp_path / "absent"))))


def test_survey_digests_labels_and_sizes_but_not_the_place(tmp_path: Path) -> None:
    def digest(folder: Path, age: int = 8, content: bytes = b"x") -> str:
        (folder / str(age)).mkdir(parents=True)
        (folder / str(age) / "a.jpg").write_bytes(content)
        found = survey(SOURCES["folder"], SourceOptions(Location.of(folder)))
        assert (found.records, found.rejected, found.only_groups, found.unlabelled) == (1, 0, False, False)
        return found.digest

    first = digest(tmp_path / "one" / "set")
    assert digest(tmp_path / "two" / "set") == first
    assert digest(tmp_path / "three" / "set", age=9) != first
    assert digest(tmp_path / "four" / "set", content=b"longer") != first


def test_survey_notices_a_wrong_image_folder(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("file,age\n1.jpg,3\n")
    with pytest.raises(InputError, match="--images"):
        survey(SOURCES["csv"], SourceOptions(Location.of(tmp_path / "f.csv")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not one image"):
        survey(SOURCES["folder"], SourceOptions(Location.of(tmp_path / "empty")))


def test_images_of_a_uri_keep_its_options() -> None:
    csv = Location.of("s3://bucket/set/faces.csv?endpoint_override=127.0.0.1:9&scheme=http&region=eu-1")
    images = SourceOptions(csv, images=csv.parent / "images").image_root
    assert str(images) == "s3://bucket/set/images?endpoint_override=127.0.0.1:9&scheme=http&region=eu-1"
    assert (images.path, images.name) == ("bucket/set/images", "images")
