"""The demo, whole, on a few faces and with specs that train for seconds; a second run repeats nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import agesearch.demo
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.demo import QUERIES, run_demo
from agesearch.progress import Listener, silent
from agesearch.search.front.measurements import MEDIAN
from agesearch.search.store.events import EventListener, unheard
from agesearch.storage import Location

FACES = 130
TEACHER = {"model": {"arch": "mobilenetv3_small_050", "input_size": 48}, "optim": {"epochs": 1}}
STUDENT = {"model": {"arch": "lcnet_050", "input_size": 48}, "optim": {"epochs": 1}}
STUDY = {
    "trials": 2,
    "startup_trials": 1,
    "student": STUDENT,
    "space": {"distill.kd_weight": {"low": 0.3, "high": 3.0}},
}


class _View:
    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, title: str, explanation: str) -> None:
        self.stages.append(title)

    @contextmanager
    def progress(self) -> Iterator[Listener]:
        yield silent

    @contextmanager
    def study(self) -> Iterator[EventListener]:
        yield unheard


def _few_faces(folder: Path) -> Location:
    """The pack's first faces as a dataset."""
    out = Location.of(folder)
    table = (demo_pack() / "shards").read_table().slice(0, FACES)
    (out / "shards" / "00000.parquet").write_table(table)
    document: dict[str, Any] = json.loads((demo_pack() / "dataset.json").read_text())
    document["counts"] = dict(Counter(table.column("split").to_pylist()))
    (out / "dataset.json").write_json(document)
    return out


@pytest.mark.usefixtures("ray_local")
def test_the_demo_goes_the_whole_way_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = _few_faces(tmp_path / "pack")
    for name, document in (("demo-teacher.yaml", TEACHER), ("demo.yaml", STUDY)):
        (tmp_path / name).write_text(yaml.safe_dump(document))
    monkeypatch.setattr(agesearch.demo, "demo_pack", lambda: pack)
    monkeypatch.setattr(agesearch.demo, "_spec_file", lambda name: str(tmp_path / name))

    view = _View()
    result = run_demo(tmp_path / "run", view)
    assert view.stages == ["faces", "teacher", "search", "report", "service"]
    assert result.report.read_text().startswith("<!")
    assert "calibrated, 80%" in result.report.read_text()
    assert len(result.answers) == QUERIES
    assert all(answer.interval[0] <= answer.interval[1] for answer in result.answers)
    assert all(answer.interval_level == 0.8 for answer in result.answers)
    assert result.findings.mae(MEDIAN).value > 0

    curve = (result.teacher / "curve.jsonl").stat().st_mtime_ns
    again = run_demo(tmp_path / "run", _View())
    assert again.findings.picked == result.findings.picked
    assert (result.teacher / "curve.jsonl").stat().st_mtime_ns == curve
    assert [path.name for path in (result.registry / "demo" / "versions").iterdir()] == ["0001"]
