"""What lies at a place, and what is said where it is another thing than was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agesearch.artefacts import (
    DATASET,
    MIXTURE,
    MODEL,
    ORDER_TEACHER,
    REGISTRY,
    SEARCH_SPACE,
    STUDY,
    TABLE,
    Artefact,
    artefact_at,
)
from agesearch.artefacts import TEACHER_DOCUMENT as DOCUMENT
from agesearch.data.dataset.records import read_manifest
from agesearch.errors import InputError
from agesearch.models.identity import read_model_manifest
from agesearch.models.order_net import read_order_manifest
from agesearch.storage import Location

#: Name -> the files that make it, with their content.
PLACES: dict[str, dict[str, str]] = {
    "faces": {"dataset.json": "{}"},
    "teacher": {"manifest.json": "{}", "run.json": "{}"},
    "order": {"order.json": "{}"},
    "study": {"study.yaml": "", "trials/0001/manifest.json": "{}"},
    "registry": {"student/versions/0001/manifest.json": "{}"},
    "photos": {"a.jpg": ""},
    "faces.csv": {"": "file,age\n"},
    "other.yaml": {"": "kind: onnx\nfile: a.onnx\n"},
    "space.yaml": {"": "student: {}\nspace: {}\n"},
    "mixture.yaml": {"": "datasets: []\n"},
    "broken.yaml": {"": "a: [\n"},
    "photo.jpg": {"": ""},
}


@pytest.fixture
def places(tmp_path: Path) -> Path:
    for name, files in PLACES.items():
        for file, text in files.items():
            path = tmp_path / name / file if file else tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("faces", DATASET),
        ("teacher", MODEL),
        ("order", ORDER_TEACHER),
        ("study", STUDY),
        ("registry", REGISTRY),
        ("photos", None),
        ("faces.csv", TABLE),
        ("other.yaml", DOCUMENT),
        ("space.yaml", SEARCH_SPACE),
        ("mixture.yaml", MIXTURE),
        ("broken.yaml", None),
        ("photo.jpg", None),
        ("nothing", None),
    ],
)
def test_each_kind_is_known_by_its_file(places: Path, name: str, kind: Artefact | None) -> None:
    assert artefact_at(Location.of(places / name)) is kind


@pytest.mark.parametrize(
    ("reader", "name", "told"),
    [
        (read_manifest, "teacher", "is not a dataset: it is a model. Give that with --teacher"),
        (read_manifest, "order", "is not a dataset: it is an order teacher. Give that with --order-teacher"),
        (read_manifest, "study", "is not a dataset: it is a study. Give that as STUDY"),
        (read_manifest, "registry", "is not a dataset: it is a registry. Give that with --registry"),
        (
            read_manifest,
            "faces.csv",
            "is not a dataset: it is a table of labels. Give that to 'agesearch data in",
        ),
        (
            read_manifest,
            "other.yaml",
            "is not a dataset: it is a foreign teacher or an ensemble. Give that with",
        ),
        (read_manifest, "photos", "has no dataset.json. Make one with: agesearch data ingest csv"),
        (read_manifest, "photo.jpg", "is not a dataset: it is some file."),
        (
            read_manifest,
            "nothing",
            "it has no dataset.json, for nothing is there. Make one with: agesearch",
        ),
        (read_model_manifest, "faces", "is not a model: it is a dataset. Give that with --data"),
        (read_model_manifest, "order", "is not a model: it is an order teacher."),
        (read_model_manifest, "study", "is not a model: it is a study."),
        (read_model_manifest, "photos", "has no manifest.json. Make one with: agesearch teach"),
        (read_order_manifest, "teacher", "is not an order teacher: it is a model."),
        (read_order_manifest, "faces", "is not an order teacher: it is a dataset."),
    ],
)
def test_a_place_of_another_kind_is_told_with_where_it_belongs(
    places: Path, reader: Callable[[str], object], name: str, told: str
) -> None:
    with pytest.raises(InputError) as caught:
        reader(str(places / name))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
