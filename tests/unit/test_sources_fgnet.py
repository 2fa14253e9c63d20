"""FG-NET: person and age from names in any case."""

from __future__ import annotations

from pathlib import Path

from more_public_trees import fgnet, put_nothing, read_tree

from agesearch.data.dataset.records import SourceRecord
from agesearch.data.sources import SOURCES

LABELS = {
    "001A02.JPG": ("001", 2.0),
    "001A43a.JPG": ("001", 43.0),
    "001a43b.jpg": ("001", 43.0),
    "009A00.jpg": ("009", 0.0),
    "082A18.JPG": ("082", 18.0),
}


def test_person_and_age_come_from_the_names(tmp_path: Path) -> None:
    root = fgnet(tmp_path, put_nothing)
    records, reasons = read_tree("fgnet", root, root / "images")
    assert records == {
        name: SourceRecord(name, "fgnet", age=age, subject_id=person)
        for name, (person, age) in LABELS.items()
    }
    assert reasons == {"notes.jpg": "bad_name", "Thumbs.db": "not_an_image_name"}


def test_a_flat_folder_reads_the_same(tmp_path: Path) -> None:
    flat = fgnet(tmp_path, put_nothing) / "images"
    assert read_tree("fgnet", flat) == read_tree("fgnet", tmp_path, flat)


def test_its_users_are_told_the_protocol() -> None:
    assert "leave one person out" in SOURCES["fgnet"].notes[0]
