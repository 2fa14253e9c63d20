"""``agesearch annotate``: faces get a teacher's ages; what is not kept has its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from foreign_graphs import write_teacher

from agesearch.data.dataset import layout
from agesearch.data.dataset.records import MANIFEST, QUARANTINE, SCHEMA, SHARDS, Manifest, read_manifest
from agesearch.data.images.crop import encode_crop
from agesearch.data.reading.teacher_outputs import StoredAnswers
from agesearch.distill import annotate as module
from agesearch.distill.annotate import AnnotateSpec, annotate
from agesearch.distill.stored_answers import age_teacher
from agesearch.distill.targets import compute
from agesearch.errors import ConflictError, InputError
from agesearch.specs import CropSpec
from agesearch.storage import Location

CROP = CropSpec(size=32, scale=1.3)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """Two teachers, who read the age off red and off green: where these differ, the mixture is wide."""
    for column, name in enumerate(("red", "green")):
        output = {"kind": "scalar", "name": "means", "column": column, "spread": 2.0}
        write_teacher(tmp_path, name=name, output=output)
    members = [{"teacher": "red.yaml"}, {"teacher": "green.yaml"}]
    where = tmp_path / "both.yaml"
    where.write_text(yaml.safe_dump({"kind": "ensemble", "name": "both", "members": members}))
    return where


def _faces(where: Path, rows: list[dict[str, Any]]) -> str:
    """Faces ``red`` and ``green`` years old, in two shards."""
    folder = Location.of(where)
    known = []
    for number, row in enumerate(rows):
        colours = np.array([row.pop("red"), row.pop("green"), 0], dtype=np.uint8)
        image = encode_crop(np.tile(colours, (32, 32, 1)), CROP)
        known.append({"sample_id": f"f{number}", "image": image, "source": "s", "split": "train"} | row)
    for shard in range(2):
        table = pa.Table.from_pylist(known[shard::2], schema=SCHEMA)
        (folder / SHARDS / f"{shard}.parquet").write_table(table)
    counts = {split: sum(row["split"] == split for row in known) for split in ("train", "val", "test")}
    manifest = Manifest(
        name="grey", label_kind="real", licence="CC0", crop=CROP, counts=counts, content_digest="c" * 16
    )
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))
    return str(where)


def _kept(where: Path) -> dict[str, dict[str, Any]]:
    rows = (Location.of(where) / SHARDS).read_table().drop_columns(["image"]).to_pylist()
    return {row["sample_id"]: row for row in rows}


def _reasons(where: Path) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in (Location.of(where) / QUARANTINE).read_table().to_pylist()}


def test_unlabelled_faces_become_a_dataset_of_the_teachers_ages(tmp_path: Path, teacher: Path) -> None:
    data = _faces(
        tmp_path / "faces",
        [
            {"red": 30, "green": 30, "subject_id": "p", "fold": 2},
            {"red": 50, "green": 51, "split": "val"},
            {"red": 20, "green": 60},
        ],
    )
    out = tmp_path / "out"
    manifest, is_new = annotate(str(teacher), data, str(out), AnnotateSpec(max_spread=5.0))
    assert is_new
    assert (manifest.label_kind, manifest.counts) == ("teacher", {"train": 1, "val": 1, "test": 0})
    kept = _kept(out)
    assert kept["f0"]["age"] == pytest.approx(30, abs=1)
    assert kept["f0"]["age_std"] == pytest.approx(2.0, abs=0.5)
    assert (kept["f0"]["subject_id"], kept["f0"]["fold"], kept["f1"]["split"]) == ("p", 2, "val")
    assert _reasons(out) == {"f2": "too_wide"}
    assert manifest.left_out == {"too_wide": 1}
    facts = manifest.annotation
    assert facts is not None
    assert (facts.faces, facts.data, facts.options["max_spread"]) == (2, "grey", 5.0)
    assert facts.licences == {"red": "CC0-1.0", "green": "CC0-1.0"}
    assert "red: CC0-1.0" in manifest.licence
    assert annotate(str(teacher), data, str(out), AnnotateSpec(max_spread=5.0)) == (manifest, False)
    with pytest.raises(ConflictError, match="--replace"):
        annotate(str(teacher), data, str(out), AnnotateSpec(max_spread=50.0))
    assert annotate(str(teacher), data, str(out), AnnotateSpec(max_spread=50.0), replace=True)[0].faces == 3


def test_its_targets_are_there_already(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "ROWS_PER_SHARD", 2)
    data = _faces(tmp_path / "faces", [{"red": age, "green": age} for age in range(20, 70, 10)])
    out = tmp_path / "out"
    annotate(str(teacher), data, str(out))
    found = compute(age_teacher(str(teacher), str(out)), str(out), None)
    assert found.answers == 0
    stored = StoredAnswers(found.files[0], "pmf")
    shards = sorted((out / SHARDS).iterdir())
    ids = np.array(Location.of(shards[0]).read_table(["sample_id"])["sample_id"].to_pylist(), dtype=str)
    assert len(shards) > 1
    ages = [row["age"] for row in (_kept(out)[name] for name in ids)]
    np.testing.assert_allclose(stored.of(shards[0].name, ids).astype(float) @ np.arange(101), ages, atol=0.05)


def test_faces_with_labels_keep_them_lose_them_or_stay_away(tmp_path: Path, teacher: Path) -> None:
    rows = [
        {"red": 30, "green": 30, "age": 33.0, "age_std": 1.0},
        {"red": 30, "green": 30, "age_low": 25.0, "age_high": 32.0},
        {"red": 40, "green": 40},
    ]
    data = _faces(tmp_path / "faces", rows)
    manifest, _ = annotate(str(teacher), data, str(tmp_path / "keep"))
    kept = _kept(tmp_path / "keep")
    assert manifest.label_kind == "mixed"
    assert [kept[f"f{n}"]["label_kind"] for n in range(3)] == ["real", "real", "teacher"]
    assert (kept["f0"]["age"], kept["f0"]["age_std"]) == (33.0, 1.0)
    assert (kept["f1"]["age"], kept["f1"]["age_low"]) == (None, 25.0)
    manifest, _ = annotate(str(teacher), data, str(tmp_path / "new"), AnnotateSpec(labelled="replace"))
    replaced = _kept(tmp_path / "new")
    assert manifest.label_kind == "teacher"
    assert [round(replaced[f"f{n}"]["age"]) for n in range(3)] == [30, 30, 40]
    assert replaced["f1"]["age_low"] is None
    annotate(str(teacher), data, str(tmp_path / "without"), AnnotateSpec(labelled="leave-out"))
    assert _reasons(tmp_path / "without") == {"f0": "has_label", "f1": "has_label"}
    own = _faces(tmp_path / "labelled", [{"red": 9, "green": 9, "age": 9.0}])
    with pytest.raises(InputError, match="No face .* would be annotated"):
        annotate(str(teacher), own, str(tmp_path / "nothing"))


def test_full_decades_are_thinned_by_seed_but_not_of_labels_and_not_in_tests(
    tmp_path: Path, teacher: Path
) -> None:
    rows = [{"red": 25, "green": 25} for _ in range(8)]
    rows += [
        {"red": 25, "green": 25, "age": 25.0},
        {"red": 45, "green": 45},
        {"red": 25, "green": 25, "split": "val"},
    ]
    data = _faces(tmp_path / "faces", rows)
    chosen = []
    for seed in (0, 1):
        spec = AnnotateSpec(per_decade=3, seed=seed)
        manifest, _ = annotate(str(teacher), data, str(tmp_path / f"out{seed}"), spec)
        kept = _kept(tmp_path / f"out{seed}")
        assert {"f8", "f9", "f10"} <= set(kept)
        assert len(kept) == 5
        assert manifest.annotation is not None
        assert manifest.annotation.faces == 4
        assert set(_reasons(tmp_path / f"out{seed}").values()) == {"decade_full"}
        chosen.append(set(kept))
    assert chosen[0] != chosen[1]


def test_confidence_is_the_mass_within_five_years(tmp_path: Path, teacher: Path) -> None:
    data = _faces(tmp_path / "faces", [{"red": 30, "green": 30}, {"red": 26, "green": 36}])
    annotate(str(teacher), data, str(tmp_path / "out"), AnnotateSpec(min_confidence=0.9))
    assert _reasons(tmp_path / "out") == {"f1": "low_confidence"}
    assert read_manifest(str(tmp_path / "out")).faces == 1
    with pytest.raises(InputError, match="cannot be its output"):
        annotate(str(teacher), data, data)


def test_of_many_draws_the_lowest_are_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DRAWS_AT_ONCE", 7)
    draws = np.random.default_rng(0).integers(0, 2**63, 100).tolist()
    lowest = module._Lowest(20)
    for draw in draws:
        lowest.add(draw)
    assert [lowest.of_rank(rank) for rank in (1, 13, 20)] == [sorted(draws)[rank - 1] for rank in (1, 13, 20)]
    assert len(lowest._kept) == 20
