"""The check of a dataset on rows with known faults: each is found, named and worded; a sound one passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.data.audit.check import CheckRecord, check_dataset, read_check
from agesearch.data.dataset.arrays import FaceArrays, read_arrays
from agesearch.data.dataset.layout import row_keys
from agesearch.data.dataset.records import Split, Turn
from agesearch.data.dataset.writer import DatasetWriter
from agesearch.data.images.crop import encode_crop
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.errors import InputError
from agesearch.specs import CropSpec
from agesearch.storage import Location

CROP = CropSpec(detector="none")
_SPLITS = ("train", "train", "val", "test")


@pytest.fixture(scope="module")
def pack() -> FaceArrays:
    return read_arrays(demo_pack(), Split.TEST)


def _rows(pack: FaceArrays, count: int = 24) -> list[dict[str, Any]]:
    """Sound rows: every subject once, every split with the same decades."""
    return [
        {
            "sample_id": f"face{index:04d}",
            "image": encode_crop(pack.images[index], CROP),
            "age": 20.0 + 10 * (index // 4 % 6),
            "subject_id": f"subject{index}",
            "source": "made",
            "split": _SPLITS[index % 4],
        }
        for index in range(count)
    ]


def _dataset(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    facts = {"name": "made", "label_kind": "real", "licence": "none", "crop": CROP, "detector": "none"}
    writer = DatasetWriter(Location.of(folder), **(facts | options))
    writer.add(rows)
    writer.finish()
    return folder


def _copy(pack: FaceArrays, index: int, **fields: Any) -> dict[str, Any]:
    small = cv2.resize(pack.images[index], (60, 60), interpolation=cv2.INTER_AREA)
    image = encode_crop(cv2.resize(small, (112, 112)), CropSpec(jpeg_quality=60))
    row = {"sample_id": f"copy{index}", "image": image, "age": 20.0, "source": "made", "subject_id": "other"}
    return row | fields


def test_a_sound_set_is_ok_and_its_record_can_be_read_again(tmp_path: Path, pack: FaceArrays) -> None:
    ds = _dataset(tmp_path / "ds", _rows(pack))
    record = check_dataset(ds)
    assert (record.verdict, record.subject_exclusive, record.leaks, record.warnings) == ("ok", True, (), ())
    assert record.counts["photographs_within"] == 0
    assert read_check(ds) == record


def test_a_record_of_before_can_be_read(tmp_path: Path, pack: FaceArrays) -> None:
    ds = _dataset(tmp_path / "ds", [*_rows(pack), _copy(pack, 0, split="test")])
    record = check_dataset(ds)
    written = (ds / "check.json").read_text()
    (ds / "check.json").write_text(written.replace('"similarity"', '"likeness"'))
    assert '"likeness"' in (ds / "check.json").read_text()
    assert read_check(ds) == record


def test_a_record_of_other_content_is_not_taken(tmp_path: Path, pack: FaceArrays) -> None:
    ds = _dataset(tmp_path / "ds", _rows(pack))
    record = check_dataset(ds)
    (ds / "check.json").write_text(record.model_copy(update={"content_digest": "other"}).model_dump_json())
    assert read_check(ds) is None
    (ds / "check.json").unlink()
    assert read_check(ds) is None


def test_a_subject_in_two_splits_is_a_leak_with_names_and_counts(tmp_path: Path, pack: FaceArrays) -> None:
    rows = _rows(pack)
    rows[3]["subject_id"] = rows[4]["subject_id"] = "subject0"  # 0 and 4 train, 3 tests
    record = check_dataset(_dataset(tmp_path / "ds", rows))
    assert (record.verdict, record.subject_exclusive) == ("leaks", False)
    [shared] = record.shared_subjects
    assert (shared.subject_id, shared.places) == ("subject0", {"train": 2, "test": 1})
    assert [face.sample_id for face in shared.faces] == ["face0003", "face0000", "face0004"]
    assert "subject0 (train 2, test 1)" in record.leaks[0]


def test_a_copy_in_another_split_is_a_leak_and_in_the_same_one_information(
    tmp_path: Path, pack: FaceArrays
) -> None:
    rows = [*_rows(pack), _copy(pack, 0, split="test"), _copy(pack, 1, split="train", subject_id="third")]
    record = check_dataset(_dataset(tmp_path / "ds", rows))
    assert record.verdict == "leaks"
    assert (record.counts["photographs_across"], record.counts["photographs_within"]) == (1, 1)
    [copies] = record.copies
    assert {(face.sample_id, face.split, face.subject_id) for face in copies.faces} == {
        ("face0000", "train", "subject0"),
        ("copy0", "test", "other"),
    }
    assert "face0000" in record.leaks[0]
    assert "copy0" in record.leaks[0]


def test_unknown_identities_cannot_be_called_exclusive(tmp_path: Path, pack: FaceArrays) -> None:
    rows = _rows(pack)
    for row in rows[:7]:
        row["subject_id"] = None
    record = check_dataset(_dataset(tmp_path / "ds", rows))
    assert (record.verdict, record.subject_exclusive) == ("warnings", None)
    assert "cannot be told: 7 of 24 faces have no identity" in record.warnings[0]


@pytest.mark.parametrize(("with_turns", "verdict"), [(True, "leaks"), (False, "warnings")])
def test_folds_leak_where_a_turn_puts_them_on_two_sides(
    tmp_path: Path, pack: FaceArrays, with_turns: bool, verdict: str
) -> None:
    rows = _rows(pack)
    for index, row in enumerate(rows):
        row["fold"] = index % 3
    rows[0]["subject_id"] = rows[1]["subject_id"] = "twofold"  # both train, in folds 0 and 1
    turns = (Turn(name="1", train=(0, 2), val=(), test=(1,)),) if with_turns else ()
    record = check_dataset(_dataset(tmp_path / "ds", rows, turns=turns))
    assert record.verdict == verdict
    assert record.shared_subjects[0].places == {"fold 0": 1, "fold 1": 1}
    rows[0]["subject_id"] = "onefold"
    rows[1] |= _copy(pack, 0, split="train", fold=1)
    copied = check_dataset(_dataset(tmp_path / "copied", rows, turns=turns))
    assert copied.verdict == ("leaks" if with_turns else "ok")


def test_odd_labels_are_listed_with_their_samples(tmp_path: Path, pack: FaceArrays) -> None:
    rows = [*_rows(pack), _copy(pack, 0, split="train", age=60.0)]
    for row in rows:
        row["age"] = 40.0 + row["age"] / 20
    rows[1] |= {"subject_id": "same", "age": 1.0}
    rows[5] |= {"subject_id": "same", "age": 90.0}
    rows[0]["age"], rows[-1]["age"] = 40.0, 44.0
    record = check_dataset(_dataset(tmp_path / "ds", rows))
    found = {(item.kind, tuple(face.sample_id for face in item.faces)) for item in record.suspects}
    assert found == {
        ("differing_copies", ("face0000", "copy0")),
        ("wide_subject", ("face0001", "face0005")),
        ("far_out_age", ("face0001",)),
        ("far_out_age", ("face0005",)),
    }
    assert record.verdict == "warnings"


def test_a_model_lists_the_faces_it_disagrees_with_most(tmp_path: Path, pack: FaceArrays) -> None:
    rows = _rows(pack)
    rng = np.random.default_rng(0)
    ages = {row["sample_id"]: row["age"] for row in rows}
    rows[9]["age"] = 95.0

    def ages_of(images: np.ndarray) -> np.ndarray:
        in_shards = np.array(list(ages.values()))[np.argsort(row_keys(list(ages)))]
        return in_shards[: len(images)] + rng.normal(0, 2, len(images))

    record = check_dataset(_dataset(tmp_path / "ds", rows), ages_of=ages_of, model="models/x")
    residuals = [item for item in record.suspects if item.kind == "model_residual"]
    assert residuals[0].faces[0].sample_id == "face0009"
    assert "labelled 95, the model says" in residuals[0].detail
    assert record.model == "models/x"


def test_ages_and_splits_that_are_missing_are_told(tmp_path: Path, pack: FaceArrays) -> None:
    rows = [
        row | {"age": 30.0 if row["split"] == "train" else 5.0}
        for row in _rows(pack)
        if row["split"] != "val"
    ]
    record = check_dataset(_dataset(tmp_path / "ds", rows))
    assert record.ages.lacking == {"train": ("0-9",), "test": ("30-39",)}
    assert record.ages.empty_splits == ("val",)
    assert (record.ages.largest, record.ages.largest_share) == ("30-39", round(12 / 18, 4))
    assert any("No faces at all in: val" in warning for warning in record.warnings)
    assert any("67% of the faces are 30-39" in warning for warning in record.warnings)


def test_the_command_ends_with_1_for_leaks_0_without_and_2_for_no_dataset(
    tmp_path: Path, pack: FaceArrays
) -> None:
    sound = _dataset(tmp_path / "sound", _rows(pack))
    leaking = _dataset(tmp_path / "leaking", [*_rows(pack), _copy(pack, 0, split="test")])
    runner = CliRunner()
    done = runner.invoke(app, ["data", "check", str(sound), "--json"])
    assert done.exit_code == 0
    assert CheckRecord.model_validate(json.loads(done.stdout)).verdict == "ok"
    done = runner.invoke(app, ["data", "check", str(leaking)])
    assert done.exit_code == 1
    assert "face0000" in done.stdout
    assert "copy0" in done.stdout
    with pytest.raises(InputError, match="not a dataset"):
        runner.invoke(app, ["data", "check", str(tmp_path)], catch_exceptions=False)
