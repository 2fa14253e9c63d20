"""AFAD: age and sex from folders; its numbers are no persons."""

from __future__ import annotations

from pathlib import Path

import pytest
from more_public_trees import afad, put_nothing, read_tree

from agesearch.data.dataset.records import SourceRecord


@pytest.mark.parametrize("below", ["", "AFAD-Full"])
def test_age_and_sex_come_from_the_folders(tmp_path: Path, below: str) -> None:
    root = afad(tmp_path, put_nothing)
    records, reasons = read_tree("afad", root / below, root / "AFAD-Full")
    labels = {
        "15/111/58945-0.jpg": (15.0, "male"),
        "15/112/58945-2.jpg": (15.0, "female"),
        "72/112/671487-0.jpg": (72.0, "female"),
    }
    assert records == {
        name: SourceRecord(name, "afad", age=age, sex=sex) for name, (age, sex) in labels.items()
    }
    assert reasons == {
        "40/113/1-0.jpg": "not_in_an_age_folder",
        "old/111/1-0.jpg": "not_in_an_age_folder",
        "loose.jpg": "not_in_an_age_folder",
        "AFAD-Full.txt": "not_an_image_name",
        "15/111/Thumbs.db": "not_an_image_name",
    }
