"""The check on real portraits: they hold; a planted subject and planted copies do not go unnoticed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance, ImageOps
from typer.testing import CliRunner

from agesearch.cli.main import app

pytestmark = pytest.mark.usefixtures("ray_local")


def _rows(shared: Path) -> list[dict[str, str]]:
    with open(shared / "photos" / "portraits.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [row | {"file": str(shared / "photos" / "images" / row["file"]), "split": ""} for row in rows]


def _checked(folder: Path, rows: list[dict[str, str]]) -> tuple[int, dict[str, Any]]:
    """Ingest rows with the real detector, check them; the exit code and the record."""
    with open(folder / "faces.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    runner = CliRunner()
    done = runner.invoke(
        app, ["data", "ingest", "csv", str(folder / "faces.csv"), "--out", str(folder / "ds")]
    )
    assert done.exit_code == 0, done.stderr
    done = runner.invoke(app, ["data", "check", str(folder / "ds"), "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_the_portraits_hold(shared: Path, tmp_path: Path) -> None:
    code, record = _checked(tmp_path, _rows(shared))
    assert (code, record["leaks"], record["subject_exclusive"]) == (0, [], True)
    assert record["faces"] == 464
    assert record["counts"]["photographs_within"] == 0


def test_planted_leaks_are_found_with_their_names(shared: Path, tmp_path: Path) -> None:
    rows = _rows(shared)[::4]
    for number, row in enumerate(rows):
        row["split"] = "train" if number % 3 else "test"
    rows[0]["subject_id"] = rows[1]["subject_id"] = "planted-subject"
    changes = {
        4: lambda image: image.resize((image.width // 2, image.height // 2)),
        7: lambda image: ImageEnhance.Brightness(image).enhance(0.7),
        10: ImageOps.mirror,
    }
    for number, change in changes.items():
        name = f"planted-copy-{number}"
        change(Image.open(rows[number]["file"]).convert("RGB")).save(tmp_path / f"{name}.jpg", quality=80)
        rows.append(
            rows[number] | {"file": str(tmp_path / f"{name}.jpg"), "subject_id": name, "split": "test"}
        )
    code, record = _checked(tmp_path, rows)
    assert (code, record["verdict"], record["subject_exclusive"]) == (1, "leaks", False)
    [subject] = record["shared_subjects"]
    assert (subject["subject_id"], subject["places"]) == ("planted-subject", {"test": 1, "train": 1})
    found = {frozenset(face["subject_id"] for face in copies["faces"]) for copies in record["copies"]}
    assert found == {frozenset({rows[number]["subject_id"], f"planted-copy-{number}"}) for number in changes}
    assert all(rows[number]["subject_id"] in record["leaks"][1] for number in changes)
