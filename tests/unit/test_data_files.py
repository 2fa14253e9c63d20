"""Odd names and things that are no files: found again, refused by kind, never waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hostile_files import RAW_NAMES, not_files

from agesearch.data.dataset.records import Rejected
from agesearch.data.images.decode import BadImage
from agesearch.data.images.files import on_disk, path_within, printable, read_image
from agesearch.data.sources.base import walk_images
from agesearch.storage import Location


def _reason(path: str, **options: int) -> str:
    with pytest.raises(BadImage) as caught:
        read_image(path, **options)
    return caught.value.reason


@pytest.mark.parametrize("name", RAW_NAMES)
def test_names_that_are_not_utf8_travel_as_text_and_are_found_again(tmp_path: Path, name: bytes) -> None:
    raw = os.path.join(os.fsencode(tmp_path), b"d-\xfc", name + b".jpg")
    os.mkdir(os.path.dirname(raw))
    with open(raw, "wb") as stream:
        stream.write(b"content")
    [path] = walk_images(Location.of(tmp_path))
    assert path == printable(os.fsdecode(raw))
    assert path.encode("utf-8").decode("utf-8") == path
    assert on_disk(path) == raw
    assert read_image(path) == b"content"


def test_a_name_that_another_file_spells_out_is_told_not_confused(tmp_path: Path) -> None:
    for name in (b"a\xff.jpg", b"a\\xff.jpg"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as stream:
            stream.write(name)
    plain, odd = sorted(walk_images(Location.of(tmp_path)), key=lambda item: isinstance(item, Rejected))
    assert read_image(plain) == b"a\\xff.jpg"
    assert (odd.path, odd.reason) == (plain, "ambiguous_name")


def test_lone_surrogates_become_text() -> None:
    assert printable("a\udcffb\ud800c") == "a\\xffb\\ud800c"
    assert printable("é👴\n") == "é👴\n"


def test_what_is_no_file_is_refused_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    odd = not_files(tmp_path / "images", tmp_path / "outside")
    walked = {
        item.path: item.reason for item in walk_images(Location.of(tmp_path)) if isinstance(item, Rejected)
    }
    for item in odd:
        assert walked.get(item.path) or _reason(item.path) == item.reason
        assert walked.get(item.path, item.reason) == item.reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("absent.jpg", "missing_file"),
        ("file/below.jpg", "missing_file"),
        ("x" * 300, "unreadable"),
        ("nul\0", "unreadable"),
        ("", "not_a_file"),
    ],
)
def test_paths_that_cannot_be_opened_have_a_reason(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert _reason(f"{tmp_path}/{path}") == reason


def test_unknown_schemes_are_unreadable() -> None:
    assert _reason("nosuch://host/a.jpg") == "unreadable"
    assert path_within("nosuch://host/a.jpg", "/base") == "nosuch://host/a.jpg"


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    assert len(read_image(str(tmp_path / "a"), limit=100)) == 100
    assert _reason(str(tmp_path / "a"), limit=99) == "too_many_bytes"


def test_folders_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", refusing)
    [item] = walk_images(Location.of(tmp_path))
    assert (item.path, item.reason, item.detail) == (
        f"{tmp_path}/closed",
        "unreadable_folder",
        "Permission denied",
    )


def test_folders_deeper_than_any_dataset_are_told(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    assert [item.reason for item in walk_images(Location.of(tmp_path))] == ["too_deep"]
