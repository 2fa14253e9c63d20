"""What an installation must look like: one OpenCV, without screen libraries; versions that match the
constraints.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_opencv_needs_no_screen_library() -> None:
    """imagecorruptions asks for opencv-python, whose cv2 needs libGL.so.1: slim servers have none."""
    if shutil.which("ldd") is None:
        pytest.skip("needs ldd, which this system lacks")
    spec = importlib.util.find_spec("cv2")
    assert spec is not None
    assert spec.origin is not None
    library = next(Path(spec.origin).parent.glob("cv2*.so"))
    needed = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=True).stdout
    assert "libGL.so" not in needed


def test_constraints_pin_versions_and_nothing_else() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 100
    assert all(
        re.fullmatch(r"""[A-Za-z0-9._-]+==[A-Za-z0-9.+!-]+(; python_version (<|>=) "3\.\d+")?""", line)
        for line in lines
    )


def test_every_dependency_is_pinned() -> None:
    pinned = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = importlib.metadata.requires("agesearch") or []
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;~! ]", line)[0]).lower() for line in wanted}
    assert names <= pinned
