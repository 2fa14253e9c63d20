"""``agesearch report`` of models without a study: measured, kept, told; what cannot be measured is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from foreign_graphs import write_teacher
from published_sets import write_set
from typer.testing import CliRunner

import agesearch
from agesearch.cli.main import app
from agesearch.errors import InputError

LEFT_OUT = ["robustness"]  # it starts Ray: tests/ray/test_robustness.py


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose faces look two years older than they are, and two teachers that read brightness."""
    here = tmp_path_factory.mktemp("report")
    rows: list[dict[str, Any]] = []
    for index in range(160):
        age, split = 8.0 + index / 4, "test" if index % 2 else "val"
        rows.append({"age": age, "shows": age + 2.0, "subject_id": f"p{index}", "split": split})
    write_set(here / "faces", rows, "real")
    for name, scale in (("mean", 0.5), ("half", 0.45)):
        output = {"kind": "scalar", "name": "means", "scale": scale, "spread": 2.0}
        write_teacher(here / name, name=name, output=output)
    return here


def test_models_are_measured_once_and_told(folder: Path) -> None:
    page = folder / "out" / "page.html"
    network, document = (next((folder / "half").glob(f"*.{end}")) for end in ("onnx", "yaml"))
    given: dict[str, Any] = {
        "data": folder / "faces",
        "with_models": [f"{network}:{document}"],
        "faces_from": ["test"],
        "out": page,
        "skip": LEFT_OUT,
    }
    found = agesearch.report(next((folder / "mean").glob("*.yaml")), **given)
    assert "as fast as" in found.headline
    assert set(found.not_filled) & {"front", "ages", "decisions"} == set()
    assert found.not_filled["robustness"][0] == "it was left out"
    records = {file.name: file.stat().st_mtime_ns for file in (folder / "out/page-records").glob("*.json")}
    assert {"speed.json", "test.json", "validation.json", "decisions.json"} <= set(records)
    agesearch.report(next((folder / "mean").glob("*.yaml")), **given)
    for name in ("speed.json", "test.json", "decisions.json"):
        assert (folder / "out/page-records" / name).stat().st_mtime_ns == records[name]
    text = page.read_text() + page.with_suffix(".md").read_text() + page.with_suffix(".json").read_text()
    assert str(folder) not in text, "a report shows nobody's folders"


def test_what_cannot_be_decided_is_a_section_that_says_so(folder: Path) -> None:
    out = folder / "none.html"
    arguments = ["report", str(next((folder / "mean").glob("*.yaml"))), "--data", str(folder / "faces")]
    skipped = [word for name in ("speed", "validation", "robustness") for word in ("--skip", name)]
    result = CliRunner().invoke(app, [*arguments, *skipped, "--legal-age", "5", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert "has no face with an exact age below 5" in told["not_filled"]["decisions"]
    assert "--legal-age 18" in out.read_text()


def test_models_need_a_dataset(folder: Path) -> None:
    with pytest.raises(InputError, match="is no study, and models are measured on a dataset"):
        agesearch.report(next((folder / "mean").glob("*.yaml")), out=folder / "no.html")
