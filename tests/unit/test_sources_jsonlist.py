"""Long JSON lists: the same objects whatever the size of a piece, and the place where one breaks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from agesearch.data.sources import jsonlist
from agesearch.data.sources.jsonlist import json_objects
from agesearch.errors import InputError
from agesearch.storage import Location


def _read(path: Path, text: str) -> list[tuple[int, dict]]:
    path.write_text(text, encoding="utf-8")
    return list(json_objects(Location.of(path)))


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 1_000_000])
@pytest.mark.parametrize("indent", [None, 4])
def test_objects_do_not_depend_on_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, indent: int | None
) -> None:
    monkeypatch.setattr(jsonlist, "_PIECE_CHARACTERS", piece)
    objects = [{"a": -1.5e3, "b": 'x]},{"\\ \u00e9\U0001f600', "c": [1, {"d": None}]}, {}, {"e": True}]
    found = _read(tmp_path / "a.json", " \n" + json.dumps(objects, indent=indent) + "\n")
    assert found == list(enumerate(objects, 1))


def test_missing_values_of_pandas_are_read(tmp_path: Path) -> None:
    ((_, found),) = _read(tmp_path / "a.json", json.dumps([{"age": math.nan}]))
    assert math.isnan(found["age"])


def test_an_empty_list_has_no_objects(tmp_path: Path) -> None:
    assert _read(tmp_path / "a.json", "[ ]") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"character 0: the list of entries must begin"),
        ('{"a": 1}', r"character 0: the list of entries must begin"),
        ('[{"a": 1}', r"character 9: after entry 1 a comma or the list's end must follow"),
        ('[{"a": 1} {"a": 2}]', r"character 10: after entry 1 a comma"),
        ('[{"a": 1}, 5]', r"character 11: entry 2 must be an object"),
        ('[{"a": 1}, ]', r"character 11: entry 2 must be an object"),
        ('[{"a": 1}, {"a" 2}]', r"character 16: entry 2 is broken"),
        ('[{"a": 1}, {"a": "x', r"character 17: entry 2 is broken"),
        ('[{"a": ' + "9" * 5000 + "}]", r"entry 1 cannot be read"),
        ('[{"a": ' + "[" * 200_000, r"entry 1 cannot be read"),
    ],
)
@pytest.mark.parametrize("piece", [5, 1_000_000])
def test_a_broken_list_names_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str, piece: int
) -> None:
    monkeypatch.setattr(jsonlist, "_PIECE_CHARACTERS", max(piece, len(text) // 50))
    with pytest.raises(InputError, match=message) as caught:
        _read(tmp_path / "a.json", text)
    assert "\n" not in str(caught.value)


def test_an_endless_object_ends_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlist, "_PIECE_CHARACTERS", 1000)
    monkeypatch.setattr(jsonlist, "_MAX_OBJECT_CHARACTERS", 5000)
    with pytest.raises(InputError, match="entry 1 is broken"):
        _read(tmp_path / "a.json", '[{"a": "' + "x" * 100_000 + '"}]')
