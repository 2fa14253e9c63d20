"""The faces that come with the package are what its demonstration and tests take them for."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

from agesearch.data.audit.check import check_dataset
from agesearch.data.reading.demo_pack import demo_pack


def test_the_pack_that_ships_holds(tmp_path: Path) -> None:
    copytree(demo_pack().local(), tmp_path / "pack")  # the check writes its record into the folder
    record = check_dataset(tmp_path / "pack")
    assert (record.leaks, record.subject_exclusive) == ((), True)
    assert record.counts["photographs_within"] == 0
