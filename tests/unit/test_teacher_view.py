"""``agesearch teacher show``: what a teacher is, and how good it is by decade of age."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer
import yaml
from foreign_graphs import write_teacher
from typer.testing import CliRunner

from agesearch.cli.teacher import add_to
from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest, Split
from agesearch.data.images.crop import encode_crop
from agesearch.deploy.registry import model_folder
from agesearch.distill.targets import teacher_targets
from agesearch.errors import InputError
from agesearch.measure.teachers import describe_teacher
from agesearch.models.identity import model_digest
from agesearch.models.predict import open_predictor
from agesearch.specs import CropSpec
from agesearch.storage import Location

CROP = CropSpec(size=32, scale=1.3)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Grey faces whose brightness is their age: 12, 14 (told as 18) and 40 years."""
    rows = [
        {
            "sample_id": str(index),
            "image": encode_crop(np.full((32, 32, 3), grey, dtype=np.uint8), CROP),
            "age": age,
            "source": "s",
            "split": "val",
        }
        for index, (grey, age) in enumerate([(12, 12.0), (18, 14.0), (40, 40.0), (90, None)])
    ]
    folder = Location.of(tmp_path / "faces")
    (folder / SHARDS / "0.parquet").write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    manifest = Manifest(name="grey", label_kind="real", crop=CROP, counts={"val": 4}, content_digest="c" * 16)
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))
    return tmp_path / "faces"


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return write_teacher(tmp_path)


def test_the_error_is_told_by_decade(faces: Path, teacher: Path) -> None:
    found = describe_teacher(str(teacher), str(faces)).accuracy
    assert found is not None
    assert found.mae_years.faces == 3
    assert found.mae_years.value == pytest.approx(4 / 3, abs=0.05)
    by_decade = {row.first: (row.mae_years.value, row.bias_years) for row in found.decades}
    assert by_decade[10] == pytest.approx((2.0, 2.0), abs=0.05)
    assert by_decade[40] == pytest.approx((0.0, 0.0), abs=0.05)
    assert found.spread_years == pytest.approx(3.0, abs=0.1)


def test_an_ensemble_tells_its_members_and_their_shares(tmp_path: Path, teacher: Path) -> None:
    members = [{"teacher": "mean.yaml", "weight": 3}, {"teacher": "mean.yaml", "weight": 1}]
    where = tmp_path / "both.yaml"
    where.write_text(yaml.safe_dump({"kind": "ensemble", "name": "both", "members": members}))
    facts = describe_teacher(str(where))
    assert [member.share for member in facts.members] == [0.75, 0.25]
    assert facts.licences == {"mean": "CC0-1.0"}
    assert facts.accuracy is None
    assert facts.speed is not None


def test_a_split_without_ages_is_told(faces: Path, teacher: Path) -> None:
    with pytest.raises(InputError, match="no faces with an age in its split 'test'"):
        describe_teacher(str(teacher), str(faces), Split.TEST)


def test_the_command_prints_a_page_or_json(faces: Path, teacher: Path) -> None:
    app = typer.Typer()
    add_to(app)
    words = ["teacher", "show", str(teacher), "--data", str(faces)]
    page = CliRunner().invoke(app, words)
    assert page.exit_code == 0, page.output
    assert all(
        text in page.output for text in ("foreign ONNX", "mean: CC0-1.0", "10–19", "1 x the face's box")
    )
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert document["accuracy"]["mae_years"]["faces"] == 3


def test_its_targets_are_kept_by_its_digest_for_the_crops_it_wants(faces: Path, teacher: Path) -> None:
    (targets,) = teacher_targets(str(teacher), str(faces))
    assert targets.parent.name == model_digest(str(teacher))
    kept = {row["sample_id"]: row["pmf"] for row in targets.read_table().to_pylist()}
    images = [np.full((32, 32, 3), grey, dtype=np.uint8) for grey in (12, 18, 40, 90)]
    expected = open_predictor(str(teacher), crop=CROP).pmf(images)
    np.testing.assert_allclose([kept[str(index)] for index in range(4)], expected, atol=2e-3)
    narrow = write_teacher(teacher.parent / "narrow", crop={"scale": 1.6})
    with pytest.raises(InputError, match="wants crops of 1.6 x"):
        teacher_targets(str(narrow), str(faces))


def test_a_model_is_named_by_its_document(teacher: Path) -> None:
    assert model_folder(str(teacher)) == Location.of(teacher)
    with pytest.raises(InputError, match=r"gone\.yaml"):
        model_folder(str(teacher.parent / "gone.yaml"))
