"""Storage: atomic writes, clear errors, one holder of a folder at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from agesearch.errors import ConflictError, InputError
from agesearch.storage import Location, beside, exclusive, is_denied


def test_writes_and_reads_back(tmp_path: Path) -> None:
    folder = Location.of(tmp_path) / "a" / "b"
    (folder / "x.json").write_json({"age": 3})
    assert (folder / "x.json").read_json() == {"age": 3}
    table = pa.table({"age": [1.0, 2.0]})
    (folder / "t.parquet").write_table(table)
    assert (folder / "t.parquet").read_table().equals(table)
    assert [child.name for child in folder.children()] == ["t.parquet", "x.json"]


def test_uri_and_path_are_the_same_place(tmp_path: Path) -> None:
    (Location.of(tmp_path) / "x.txt").write_text("young")
    by_uri = Location.of(f"file://{tmp_path}") / "x.txt"
    assert by_uri.read_text() == "young"
    assert by_uri.local() == tmp_path / "x.txt"


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("faces", "faces-ages"),
        ("runs/faces/", "runs/faces-ages"),
        ("s3://b/faces", "s3://b/faces-ages"),
        ("s3://b/x/?region=a&scheme=http", "s3://b/x-ages?region=a&scheme=http"),
        ("s3://b/is this?", "s3://b/is this?-ages"),
    ],
)
def test_what_lies_beside_a_place_keeps_the_options_of_its_uri(place: str, expected: str) -> None:
    assert beside(place, "-ages") == expected


@pytest.mark.parametrize(
    ("error", "denied"),
    [
        (PermissionError(13, "Permission denied"), True),
        (OSError("When getting information for key 'a': AWS Error ACCESS_DENIED during HeadObject"), True),
        (
            InputError("AWS Error UNKNOWN (HTTP status 400): Unable to parse ExceptionName: ExpiredToken"),
            True,
        ),
        (OSError(28, "No space left on device"), False),
        (OSError("AWS Error NETWORK_CONNECTION during PutObject operation: timed out"), False),
    ],
)
def test_missing_credentials_are_told_from_what_passes(error: Exception, denied: bool) -> None:
    assert is_denied(error) == denied


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    target = Location.of(tmp_path) / "x.txt"
    target.write_text("old")

    def fail_while_writing() -> None:
        with target.staged() as temporary:
            Path(temporary.path).write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail_while_writing()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        (Location.of(tmp_path) / "x.json").write_json(float("nan"))
    assert os.listdir(tmp_path) == []


def test_errors_name_the_place(tmp_path: Path) -> None:
    folder = Location.of(tmp_path)
    with pytest.raises(InputError, match="There is no file"):
        (folder / "none.json").read_json()
    (folder / "bad.json").write_text('{"a":\n1,}')
    with pytest.raises(InputError, match=r"bad\.json' is not valid JSON: line 2"):
        (folder / "bad.json").read_json()
    (folder / "big").write_text("x" * 100)
    with pytest.raises(InputError, match="100 bytes, more than the 10 allowed"):
        (folder / "big").read_bytes(limit=10)
    with pytest.raises(InputError, match="not a path or URI"):
        Location.of("gopher://x/y")
    with pytest.raises(InputError, match="not readable Parquet"):
        (folder / "big").read_table()


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made: File exists"):
        (Location.of(tmp_path) / "file" / "x.txt").write_text("x")


def test_a_second_process_is_refused_and_a_dead_one_leaves_no_lock(tmp_path: Path) -> None:
    script = (
        "from agesearch.storage import *\n"
        f"with exclusive(Location.of({str(tmp_path)!r}), 'Study'): print('held', flush=True); input()"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(ConflictError, match=f"in use by process {holder.pid}"),
        exclusive(Location.of(tmp_path), "Study"),
    ):
        pass
    holder.kill()
    holder.wait()
    with exclusive(Location.of(tmp_path), "Study"):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
