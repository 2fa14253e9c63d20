"""Datasets appear whole or not at all; what they hold can be told again from the files."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phone_files import jpeg_of

from agesearch.data.audit.card_data import faces_by_decade, inspect_dataset
from agesearch.data.dataset.identity import sample_id_of
from agesearch.data.dataset.layout import row_keys
from agesearch.data.dataset.records import Manifest, Rejected, SourceRecord, read_manifest
from agesearch.data.dataset.writer import DatasetWriter, check_output
from agesearch.data.images.crop import decode_crop, encode_crop, open_detector
from agesearch.data.images.decode import decode_photograph
from agesearch.data.images.detectors import WholeImage
from agesearch.data.ingest import extract
from agesearch.data.ingest.extract import face_row, outcomes_of, record_table
from agesearch.errors import ConflictError, InputError
from agesearch.reporting.datacard import write_datacard
from agesearch.specs import CropSpec, SplitSpec
from agesearch.storage import Location

CROP = CropSpec(detector="none", size=32)


def _rows(count: int) -> list[dict[str, Any]]:
    image = encode_crop(np.full((32, 32, 3), 90, np.uint8), CROP)
    return [
        {
            "sample_id": f"{index:04d}",
            "image": image,
            "age": float(index % 101),
            "subject_id": f"s{index // 2}",
            "source": "made",
            "split": ("train", "val", "test")[index % 3],
        }
        for index in range(count)
    ]


def _writer(out: Path, **options: Any) -> DatasetWriter:
    fields = {"name": "made", "label_kind": "synthetic", "licence": "CC0", "crop": CROP, "detector": "none"}
    return DatasetWriter(Location.of(out), **(fields | options))


def _write(out: Path, rows: list[dict[str, Any]], **options: Any) -> Manifest:
    writer = _writer(out, **options)
    writer.add(rows)
    return writer.finish([Rejected("bad.jpg", "corrupt", "no image", "made")])


def test_shards_manifest_and_quarantine(tmp_path: Path) -> None:
    manifest = _write(tmp_path / "ds", _rows(10), rows_per_shard=4)
    assert sorted(path.name for path in (tmp_path / "ds").iterdir()) == [
        "dataset.json",
        "quarantine.parquet",
        "shards",
    ]
    assert (manifest.hash_shards, manifest.is_mixed) == (4, True)
    assert manifest == read_manifest(tmp_path / "ds")
    assert manifest.counts == {"train": 4, "val": 3, "test": 3}
    assert (manifest.subjects, manifest.left_out) == (5, {"corrupt": 1})
    table = Location.of(tmp_path / "ds" / "shards").read_table()
    ids = [row["sample_id"] for row in _rows(10)]
    assert table["sample_id"].to_pylist() == [ids[place] for place in np.argsort(row_keys(ids))]


def test_content_digest_tells_content_not_order(tmp_path: Path) -> None:
    rows = _rows(9)
    shuffled = random.Random(0).sample(rows, len(rows))
    first = _write(tmp_path / "a", rows).content_digest
    assert _write(tmp_path / "b", shuffled, rows_per_shard=2).content_digest == first
    rows[3] = rows[3] | {"age": 99.0}
    assert _write(tmp_path / "c", rows).content_digest != first


def test_duplicates_are_quarantined(tmp_path: Path) -> None:
    writer = _writer(tmp_path / "ds")
    writer.add(_rows(2), ["a.jpg", "b.jpg"])
    writer.add(_rows(3)[1:], ["c.jpg", "d.jpg"])
    assert writer.finish().left_out == {"duplicate": 1}
    row = Location.of(tmp_path / "ds" / "quarantine.parquet").read_table().to_pylist()[0]
    assert (row["path"], row["source"]) == ("c.jpg", "made")


def test_unfinished_runs_leave_no_dataset_and_can_be_redone(tmp_path: Path) -> None:
    writer = _writer(tmp_path / "ds", rows_per_shard=2)
    writer.add(_rows(5))  # killed here: shards are staged, no manifest
    with pytest.raises(InputError, match="not a dataset"):
        read_manifest(tmp_path / "ds")
    assert _write(tmp_path / "ds", _rows(3)).faces == 3


def test_a_failed_replacement_keeps_the_dataset(tmp_path: Path) -> None:
    _write(tmp_path / "ds", _rows(4))
    with pytest.raises(ConflictError, match="--replace"):
        _writer(tmp_path / "ds")
    with pytest.raises(InputError, match="Not one face.*corrupt 1"):
        _write(tmp_path / "ds", [], replace=True)
    assert inspect_dataset(tmp_path / "ds").manifest.faces == 4
    assert _write(tmp_path / "ds", _rows(7), replace=True, rows_per_shard=9).faces == 7
    assert inspect_dataset(tmp_path / "ds").manifest.faces == 7


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="thesis.tex"):
        check_output(Location.of(tmp_path), replace=True)
    with pytest.raises(InputError, match="is a file"):
        check_output(Location.of(tmp_path / "thesis.tex"), replace=True)


def _png(path: Path, seed: int, size: int = 40) -> str:
    from PIL import Image

    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)).save(path)
    return str(path)


def test_records_become_rows_or_rejections(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    (tmp_path / "folder").mkdir()
    records = [
        SourceRecord(_png(tmp_path / "a.png", 1), "made", age=30.0, subject_id="s", fold=2),
        SourceRecord(str(tmp_path / "bad.jpg"), "made", age=30.0),
        SourceRecord(str(tmp_path / "absent.jpg"), "made", age=30.0),
        SourceRecord(str(tmp_path / "folder"), "made", age=30.0),
        SourceRecord(str(tmp_path / "a.png"), "made", age=30.0, box=(5.0, 5.0, 20.0, 20.0)),
    ]
    outcomes = outcomes_of(record_table(records), open_detector("none"), CROP, SplitSpec())
    faces = [row for row in outcomes.to_pylist() if row["reason"] is None]
    left_out = [row for row in outcomes.to_pylist() if row["reason"] is not None]
    assert [row["path"] for row in faces] == [records[0].path, records[0].path]
    assert [row["reason"] for row in left_out] == ["not_an_image", "missing_file", "not_a_file"]
    first, boxed = faces
    data = (tmp_path / "a.png").read_bytes()
    assert (first["sample_id"], boxed["sample_id"]) == (
        sample_id_of(data),
        sample_id_of(data, (5, 5, 20, 20)),
    )
    assert (first["age"], first["fold"], first["box"]) == (30.0, 2, [0.0, 0.0, 40.0, 40.0])
    assert decode_crop(first["image"]).shape == (32, 32, 3)


def test_no_face_is_a_reason(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64), (10, 90, 30)).save(tmp_path / "lawn.png")
    record = SourceRecord(str(tmp_path / "lawn.png"), "made", age=3.0)
    assert face_row(record, open_detector("auto"), CropSpec(), SplitSpec()).reason == "no_face"


def test_inspection_and_card(tmp_path: Path) -> None:
    rows = _rows(101)
    rows[5] |= {"age": None, "age_low": 25.0, "age_high": 32.0, "sex": "<script>alert(1)</script>"}
    rows[6] |= {"age": None}
    manifest = _write(tmp_path / "ds", rows)
    found = inspect_dataset(tmp_path / "ds")
    assert found.manifest == manifest
    totals = {name: sum(counts.values()) for name, counts in found.ages.items()}
    assert totals == {"0-9": 8, "20-29": 11, "90-100": 11, "no age": 1} | {
        f"{first}-{first + 9}": 10 for first in (10, 30, 40, 50, 60, 70, 80)
    }
    assert found.left_out[0].examples == [("bad.jpg", "no image")]
    faces = faces_by_decade(tmp_path / "ds", 3)
    assert [len(group) for group in faces.values()] == [3] * 10 + [1]
    assert list(faces) == [*found.ages]
    write_datacard(tmp_path / "ds", tmp_path / "card.html", faces=2)
    page = (tmp_path / "card.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 21
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_damage_is_noticed(tmp_path: Path) -> None:
    _write(tmp_path / "ds", _rows(4), rows_per_shard=2)
    (tmp_path / "ds" / "shards" / "00001.parquet").unlink()
    with pytest.raises(InputError, match="shards hold 2 faces, its manifest says 4"):
        inspect_dataset(tmp_path / "ds")
    (tmp_path / "ds" / "shards" / "00000.parquet").write_bytes(b"torn")
    with pytest.raises(InputError, match="damaged"):
        inspect_dataset(tmp_path / "ds")


def test_places_in_a_photograph_too_large_to_hold_are_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "decode_photograph", partial(decode_photograph, max_pixels=100 * 100))
    rgb = np.full((200, 180, 3), 30, np.uint8)
    rgb[80:160, 60:140] = 200
    (tmp_path / "large.jpg").write_bytes(jpeg_of(rgb, quality=95))
    crop = CropSpec(detector="none", size=32, align=False)
    given = (60.0, 80.0, 80.0, 80.0)
    whole, boxed = (
        face_row(SourceRecord(str(tmp_path / "large.jpg"), "made", box=box), WholeImage(), crop, SplitSpec())
        for box in (None, given)
    )
    assert isinstance(whole, dict)
    assert isinstance(boxed, dict)
    assert (whole["box"], boxed["box"]) == ([0.0, 0.0, 180.0, 200.0], list(given))
    assert decode_crop(boxed["image"]).mean() > 190
