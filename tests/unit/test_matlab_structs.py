"""MATLAB files from outside: what SciPy cannot read, or dies of, is one clear error here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.io import savemat

from agesearch.data.sources import matlab
from agesearch.data.sources.matlab import mat_struct, mat_text
from agesearch.errors import InputError
from agesearch.storage import Location


def test_fields_come_as_flat_arrays_whatever_their_shape(tmp_path: Path) -> None:
    cells = np.empty((3, 1), object)
    cells[:, 0] = ["Zoë", [], 7]
    boxes = np.empty((1, 2), object)
    boxes[0, :] = [np.array([[1.0, 2.0]]), np.array([[3.0]])]
    struct = {"age": np.array([[14], [15]], np.uint8), "name": cells, "box": boxes, "year": 2004}
    savemat(tmp_path / "set.mat", {"faces": struct, "other": 1})
    fields = mat_struct(Location.of(tmp_path / "set.mat"), "faces")
    assert fields["age"].to_pylist() == [14.0, 15.0]
    assert [mat_text(value) for value in fields["name"]] == ["Zoë", "", "7"]
    assert fields["box"].to_pylist() == [[1.0, 2.0], [3.0]]
    assert [mat_text(value) for value in fields["year"]] == ["2004"]


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB 5.0 MAT-file" + b"\0" * 200, b"\0" * 10_000, b"hello " * 100], ids=len
)
def test_files_of_another_kind_give_one_line(tmp_path: Path, content: bytes, matlab_here: None) -> None:
    (tmp_path / "set.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"set\.mat' (cannot be read|has no struct|is damaged)") as caught:
        mat_struct(Location.of(tmp_path / "set.mat"), "faces")
    assert "\n" not in str(caught.value)


def test_a_reader_apart_tells_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "set.mat").write_bytes(b"hello " * 100)
    with pytest.raises(InputError, match=r"set\.mat' cannot be read"):
        mat_struct(Location.of(tmp_path / "set.mat"), "faces")


def test_a_reader_that_dies_is_an_error_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set.mat").write_bytes(b"x")
    monkeypatch.setattr(matlab, "_CHILD", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(InputError, match=r"set\.mat' is damaged"):
        mat_struct(Location.of(tmp_path / "set.mat"), "faces")


def test_a_reader_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set.mat").write_bytes(b"x")
    monkeypatch.setattr(matlab, "_CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(matlab, "_MAX_CHILD_SECONDS", 0.1)
    with pytest.raises(InputError, match=r"took more than 0.1 s"):
        mat_struct(Location.of(tmp_path / "set.mat"), "faces")


@pytest.mark.parametrize(("held", "text"), [(14.0, "14"), (0.5, "0.5"), (" a ", "a"), (None, "")])
def test_entries_as_text(held: object, text: str) -> None:
    assert mat_text(pa.scalar(held)) == text
