"""``import agesearch`` from photographs to an age: the README's ten lines as they stand there, and the
examples that train and search.
"""

from __future__ import annotations

import doctest
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import agesearch
from agesearch.data.reading.demo_pack import demo_pack

_EXAMPLES = ["teach", "tune", "resume", "measure_speed", "measure_robustness"]
_EXAMPLES += ["measure_counterfactual"] if find_spec("anny") else []
README = Path(__file__).resolve().parents[2] / "README.md"
FACES = 64
SPACE = {
    "trials": 2,
    "student": {
        "model": {"arch": "lcnet_050", "input_size": 48},
        "optim": {"epochs": 1, "batch_size": 16, "learning_rate": 0.004},
        "distill": {"label_sigma": 3.0},
    },
    "space": {"distill.kd_weight": {"low": 0.3, "high": 3.0, "log": True}},
}


@pytest.fixture
def here(tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples name: portraits with ages, a space, and a photograph."""
    rows = (demo_pack() / "shards").read_table(columns=["age", "image"]).slice(0, FACES).to_pylist()
    (tmp_path / "photos").mkdir()
    lines = ["file,age,subject"]
    for index, row in enumerate(rows):
        (tmp_path / "photos" / f"{index}.jpg").write_bytes(row["image"])
        lines.append(f"{index}.jpg,{row['age']:.2f},person-{index}")
    (tmp_path / "portraits.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "photo.jpg").write_bytes(rows[0]["image"])
    (tmp_path / "search_spaces").mkdir()
    for space in ("search_spaces/quick.yaml", "space.yaml"):
        (tmp_path / space).write_text(yaml.safe_dump(SPACE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_ten_lines_of_the_readme(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    *front, face = capsys.readouterr().out.splitlines()
    assert front[0].split() == ["name", "val_mae_years", "latency_ms_p50"]
    assert len(front) >= 2
    assert 0 <= float(face.split()[0]) <= 100
    study = names["study"]
    assert isinstance(study, agesearch.Study)
    student = study.load_model("best").predict("photo.jpg")
    assert len(student.faces) == 1


def test_examples_that_train_search_and_measure(here: Path) -> None:
    heard: list[agesearch.Progress] = []
    agesearch.ingest("csv", "portraits.csv", images="photos", out="faces", on_progress=heard.append)
    assert {update.stage for update in heard} >= {"survey", "ingest"}
    for name in _EXAMPLES:
        text = inspect.getdoc(getattr(agesearch, name)) or ""
        test = doctest.DocTestParser().get_doctest(text, {"agesearch": agesearch}, name, None, None)
        told: list[str] = []
        failed, tried = doctest.DocTestRunner().run(test, out=told.append)
        assert tried
        assert not failed, "".join(told)
