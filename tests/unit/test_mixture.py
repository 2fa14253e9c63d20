"""Mixtures: what a face keeps, how weights come out, and that no test face trains through another dataset."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.data.dataset.records import Split, read_manifest
from agesearch.data.dataset.shards import read_rows
from agesearch.data.dataset.writer import DatasetWriter
from agesearch.data.mixture import MixtureSpec, kinds_by_split, mix
from agesearch.errors import ConflictError, InputError
from agesearch.specs import CropSpec, parse_spec
from agesearch.storage import Location

CROP = CropSpec(detector="none", size=32)


def _dataset(
    folder: Path, faces: list[tuple[str, str, str | None]], *, kind: str = "real", crop: CropSpec = CROP
) -> str:
    """A dataset of ``(sample id, split, subject)``; no pixel of it is ever decoded here."""
    writer = DatasetWriter(
        Location.of(folder), name=folder.name, label_kind=kind, licence="CC0", crop=crop, detector="none"
    )
    writer.add(
        [
            {
                "sample_id": sample_id,
                "image": b"jpeg",
                "age": 30.0,
                "subject_id": subject,
                "source": folder.name,
                "split": split,
                "fold": 1,
            }
            for sample_id, split, subject in faces
        ]
    )
    writer.finish()
    return str(folder)


def _spec(*datasets: dict, **options: object) -> MixtureSpec:
    return parse_spec(MixtureSpec, {"datasets": list(datasets), **options}, "the mixture")


@pytest.fixture
def real(tmp_path: Path) -> str:
    return _dataset(
        tmp_path / "real",
        [("a", "train", "ann"), ("b", "train", "bob"), ("c", "val", "cat"), ("d", "test", "dan")],
    )


@pytest.fixture
def apparent(tmp_path: Path) -> str:
    return _dataset(
        tmp_path / "apparent",
        [("d", "train", "x"), ("e", "train", "dan"), ("f", "test", "ann")],
        kind="apparent",
    )


def _rows(dataset: Path) -> dict[str, dict]:
    columns = ["sample_id", "split", "subject_id", "label_kind", "weight", "fold", "source"]
    return {row["sample_id"]: row for row in read_rows(str(dataset), None, columns).to_pylist()}


def test_each_face_keeps_its_kind_of_label_and_its_split(tmp_path: Path, real: str, apparent: str) -> None:
    manifest, is_new = mix(_spec({"data": real}, {"data": apparent}), tmp_path / "mixed")
    rows = _rows(tmp_path / "mixed")
    assert is_new
    assert manifest.label_kind == "mixed"
    assert {name: row["label_kind"] for name, row in rows.items()} == {
        "a": "real", "b": "real", "c": "real", "d": "real", "e": "apparent", "f": "apparent",
    }  # fmt: skip
    assert rows["c"]["split"] == "val"
    assert rows["a"]["subject_id"] == "real/ann"
    assert rows["f"]["subject_id"] == "apparent/ann"
    assert all(row["fold"] is None for row in rows.values())
    assert kinds_by_split(str(tmp_path / "mixed"))["test"] == {"real": 1, "apparent": 1}


def test_a_test_photograph_is_not_trained_on_through_another_dataset(
    tmp_path: Path, real: str, apparent: str
) -> None:
    manifest, _ = mix(_spec({"data": apparent}, {"data": real}), tmp_path / "mixed")
    assert _rows(tmp_path / "mixed")["d"]["split"] == "test"
    assert manifest.left_out == {"duplicate": 1}


def test_a_shared_person_stays_on_the_side_of_the_test(tmp_path: Path, real: str, apparent: str) -> None:
    spec = _spec({"data": real}, {"data": apparent}, subjects="shared")
    manifest, _ = mix(spec, tmp_path / "mixed")
    rows = _rows(tmp_path / "mixed")
    # ann is tested in one dataset and dan in the other: neither may train
    assert {name: row["split"] for name, row in rows.items()} == {
        "b": "train", "c": "val", "d": "test", "f": "test",
    }  # fmt: skip
    assert manifest.left_out == {"duplicate": 1, "subject_in_other_split": 2}


@pytest.mark.parametrize(
    ("weigh", "expected"),
    [("faces", {"a": 0.6, "b": 0.6, "e": 1.8}), ("datasets", {"a": 0.375, "b": 0.375, "e": 2.25})],
)
def test_weights_average_one_over_the_training_faces(
    tmp_path: Path, real: str, weigh: str, expected: dict[str, float]
) -> None:
    other = _dataset(tmp_path / "other", [("e", "train", None)])
    spec = _spec({"data": real}, {"data": other, "weight": 3}, weigh=weigh)
    manifest, _ = mix(spec, tmp_path / "mixed")
    weights = {name: row["weight"] for name, row in _rows(tmp_path / "mixed").items() if row["weight"]}
    assert weights == pytest.approx(expected)
    assert sum(weights.values()) == pytest.approx(len(weights))
    assert [part.weight for part in manifest.parts] == pytest.approx([expected["a"], expected["e"]])


def test_another_weight_or_kind_is_another_content(tmp_path: Path, real: str) -> None:
    other = _dataset(tmp_path / "other", [("e", "train", None)])
    digests = {
        mix(_spec({"data": real}, {"data": other, **change}), tmp_path / f"mixed{index}")[0].content_digest
        for index, change in enumerate([{}, {"weight": 3}, {"label_kind": "apparent"}])
    }
    assert len(digests) == 3, "a teacher of one mixture must not pass for a teacher of another"


def test_only_the_asked_splits_are_taken(tmp_path: Path, real: str, apparent: str) -> None:
    spec = _spec({"data": real}, {"data": apparent, "splits": ["train"], "label_kind": "teacher"})
    manifest, _ = mix(spec, tmp_path / "mixed")
    assert manifest.counts == {"train": 3, "val": 1, "test": 1}
    assert kinds_by_split(str(tmp_path / "mixed"))["train"] == {"real": 2, "teacher": 1}


def test_a_second_run_does_nothing_and_another_spec_is_refused(tmp_path: Path, real: str) -> None:
    first, _ = mix(_spec({"data": real}), tmp_path / "mixed")
    again, is_new = mix(_spec({"data": real}), tmp_path / "mixed")
    assert not is_new
    assert again == first
    other = _spec({"data": real, "weight": 2, "splits": ["train"]})
    with pytest.raises(ConflictError, match="--replace"):
        mix(other, tmp_path / "mixed")
    mix(other, tmp_path / "mixed", replace=True)
    assert read_manifest(tmp_path / "mixed").counts[Split.TEST] == 0


def test_parts_that_do_not_fit_are_told(tmp_path: Path, real: str) -> None:
    wide = _dataset(tmp_path / "wide", [("z", "train", None)], crop=CropSpec(detector="none", size=64))
    with pytest.raises(InputError, match=r"cropped with size 64, but .* with 32"):
        mix(_spec({"data": real}, {"data": wide}), tmp_path / "mixed")
    with pytest.raises(InputError, match="named 'real'"):
        mix(_spec({"data": real}, {"data": real}), tmp_path / "mixed")
    with pytest.raises(InputError, match="cannot be its output"):
        mix(_spec({"data": real}), real, replace=True)
    with pytest.raises(InputError, match="'datasets.0.weight'"):
        _spec({"data": real, "weight": 0})
    assert not (tmp_path / "mixed" / "dataset.json").exists()


def test_the_command_warns_of_a_test_split_with_two_kinds(tmp_path: Path, real: str, apparent: str) -> None:
    spec = tmp_path / "mixture.yaml"
    spec.write_text(f"datasets:\n  - data: {real}\n  - data: {apparent}\n    weight: 2\n")
    done = CliRunner().invoke(app, ["data", "mix", str(spec), "--out", str(tmp_path / "mixed")])
    assert done.exit_code == 0, done.output
    assert "test: real 1, apparent 1" in done.output
    assert "mixes 2 kinds of label" in done.output
