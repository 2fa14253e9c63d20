"""The card for machines: valid Croissant 1.1 by its own library, which then reads the faces by it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from published_sets import write_set
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.data.audit.card_data import inspect_dataset
from agesearch.data.audit.croissant import CONFORMS_TO, write_croissant
from agesearch.data.dataset.commit import STAGING, publish
from agesearch.data.dataset.records import CROISSANT, SCHEMA, read_manifest
from agesearch.storage import Location

ROWS = [
    {
        "age": 20.0 + index,
        "split": ("train", "val", "test")[index % 3],
        "subject_id": f"p{index // 2}",
        "sex": "female",
        "box": [1.0, 2.0, 30.0, 30.0],
        "landmarks": [float(number) for number in range(10)],
    }
    for index in range(6)
]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write_set(tmp_path / "faces", ROWS, "real")
    return tmp_path / "faces"


def test_the_card_names_every_column_and_no_folder(dataset: Path) -> None:
    result = CliRunner().invoke(app, ["data", "inspect", str(dataset), "--croissant"])
    assert result.exit_code == 0
    text = (dataset / CROISSANT).read_text()
    card = json.loads(text)
    assert card["conformsTo"] == CONFORMS_TO
    [faces] = [records for records in card["recordSet"] if records["@id"] == "faces"]
    assert [field["name"] for field in faces["field"]] == SCHEMA.names
    assert "6 face crops" in card["description"]
    assert str(dataset.parent) not in text


def test_the_card_goes_with_the_faces_that_it_tells_of(dataset: Path) -> None:
    folder = Location.of(dataset)
    write_croissant(inspect_dataset(dataset))
    (folder / STAGING).make_dir()
    publish(folder, read_manifest(folder), moves=[], deletes=[])  # as every update ends
    assert not (folder / CROISSANT).exists()


def test_mlcroissant_finds_no_fault_and_reads_the_faces(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="needs the optional package mlcroissant")
    caplog.set_level(logging.ERROR)
    card = mlcroissant.Dataset(str(write_croissant(inspect_dataset(dataset))))
    assert not card.metadata.issues.errors
    assert not card.metadata.issues.warnings
    records = list(card.records("faces"))
    assert sorted(record["faces/age"] for record in records) == [20, 21, 22, 23, 24, 25]
    assert records[0]["faces/image"].size == (32, 32)
    assert list(records[0]["faces/landmarks"]) == list(range(10))
    splits = [record["splits/split"] for record in card.records("splits")]
    assert [split if isinstance(split, str) else split.decode() for split in splits] == [
        "train",
        "val",
        "test",
    ]
