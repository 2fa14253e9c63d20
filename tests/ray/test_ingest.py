"""The ingest on a real local Ray: outcomes, repetition, refusal, and what a failed run leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agesearch.data.audit.card_data import inspect_dataset
from agesearch.data.dataset.layout import row_keys
from agesearch.data.images.crop import decode_crop
from agesearch.data.ingest.run import IngestSpec, ingest
from agesearch.errors import ConflictError, InputError
from agesearch.progress import Progress
from agesearch.specs import CropSpec, SplitSpec
from agesearch.storage import Location, exclusive

pytestmark = pytest.mark.usefixtures("ray_local")

FACES = 40


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A CSV of 40 sound images (4 subjects of 10 each) and four that are not."""
    lines = ["file,age,subject"]
    (tmp_path / "images").mkdir()
    for index in range(FACES):
        shade = np.full((48, 40, 3), index * 5, np.uint8)
        Image.fromarray(shade).save(tmp_path / "images" / f"{index}.png")
        lines.append(f"{index}.png,{20 + index},subject{index // 10}")
    (tmp_path / "images" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    (tmp_path / "images" / "again.png").write_bytes((tmp_path / "images" / "3.png").read_bytes())
    lines += ["torn.jpg,30,a", "absent.jpg,30,b", "5.png,-4,c", "again.png,23,subject0"]
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def _spec(source: Path, **options: object) -> IngestSpec:
    fields = {
        "source": "csv",
        "root": str(source / "faces.csv"),
        "images": str(source / "images"),
        "crop": CropSpec(detector="none", size=32),
        "split": SplitSpec(val=0.3, test=0.3),
    }
    return IngestSpec(**(fields | options))


def test_every_row_is_a_face_or_has_a_reason(source: Path) -> None:
    seen: list[Progress] = []
    done = ingest(_spec(source), source / "ds", on_progress=seen.append)
    manifest = done.manifest
    assert done.is_new
    assert manifest.faces == FACES
    assert manifest.left_out == {"bad_age": 1, "duplicate": 1, "missing_file": 1, "not_an_image": 1}
    assert (manifest.name, manifest.label_kind, manifest.detector) == ("faces", "real", "none")
    assert (seen[-1].done, seen[-1].total, seen[-1].failed) == (FACES + 4, FACES + 4, 4)
    rows = Location.of(source / "ds" / "shards").read_table().to_pylist()
    for row in rows:
        shade = decode_crop(row["image"])
        assert abs(float(shade.mean()) - (row["age"] - 20) * 5) < 3
    by_subject: dict[str, set[str]] = {}
    for row in rows:
        by_subject.setdefault(row["subject_id"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_subject.values())
    assert [row["age"] for row in rows] != sorted(row["age"] for row in rows)
    keys = row_keys([row["sample_id"] for row in rows])
    assert keys.tolist() == sorted(keys.tolist())
    examples = {item.reason: item.examples[0][0] for item in inspect_dataset(source / "ds").left_out}
    assert examples["duplicate"] == f"{source}/images/again.png"


def test_a_second_run_does_nothing_and_a_changed_one_asks(source: Path) -> None:
    first = ingest(_spec(source), source / "ds")
    again = ingest(_spec(source), source / "ds")
    assert not again.is_new
    assert again.manifest == first.manifest
    other = _spec(source, crop=CropSpec(detector="none", size=64))
    with pytest.raises(ConflictError, match="--replace"):
        ingest(other, source / "ds")
    replaced = ingest(other, source / "ds", replace=True)
    assert replaced.manifest.crop.size == 64
    assert replaced.manifest.content_digest == first.manifest.content_digest


def test_two_at_once_refuse_each_other(source: Path) -> None:
    with (
        exclusive(Location.of(source / "ds"), "The dataset"),
        pytest.raises(ConflictError, match="in use by process"),
    ):
        ingest(_spec(source), source / "ds")
    assert ingest(_spec(source), source / "ds").is_new


def test_a_source_without_a_face_is_one_clear_error(source: Path) -> None:
    for path in (source / "images").iterdir():
        path.write_bytes(b"nothing here")
    with pytest.raises(InputError, match="Not one face was found.*not_an_image 42"):
        ingest(_spec(source), source / "ds")
    assert not (source / "ds" / "dataset.json").exists()
    assert not (source / "ds" / ".staging").exists()
