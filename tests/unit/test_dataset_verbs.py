"""The end of the verbs that make a dataset: splits without faces, notes, and commands that can be pasted; and
what a search and a teacher refuse of a dataset before they start.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from ingest_helpers import Source, small_source, without_ray
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.data.dataset import arrays
from agesearch.data.dataset.records import read_manifest
from agesearch.data.dataset.shards import Labelled, labelled
from agesearch.data.dataset.writer import DatasetWriter
from agesearch.data.ingest.run import ingest
from agesearch.errors import InputError
from agesearch.search.run.setup import refuse_empty
from agesearch.specs import CropSpec, ModelSpec, OrderTrainSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.teach import teach
from agesearch.training.teach_order import teach_order

RUNNER = CliRunner()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    without_ray(monkeypatch)
    return small_source(tmp_path / "my source")


def _ingest(source: Source, out: Path, *more: str) -> str:
    table, images = source.root / "faces.csv", source.root / "images"
    arguments = ["data", "ingest", "csv", str(table), "--images", str(images), "--detector", "none"]
    result = RUNNER.invoke(app, [*arguments, "--out", str(out), *more])
    assert result.exit_code == 0, result.exception
    return result.stderr


def _next(told: str) -> list[list[str]]:
    lines = told[told.index("Next:") :].removeprefix("Next:").strip().splitlines()
    return [shlex.split(line) for line in lines]


def test_ingest_ends_with_commands_that_can_be_pasted(source: Source, tmp_path: Path) -> None:
    out = tmp_path / "my faces"
    commands = _next(_ingest(source, out, "--val", "0.3", "--test", "0.3"))
    assert commands[0] == ["agesearch", "data", "check", str(out)]
    assert commands[1][:4] == ["agesearch", "data", "inspect", str(out)]
    assert commands[2][:4] == ["agesearch", "teach", "--data", str(out)]
    checked = RUNNER.invoke(app, commands[0][1:])
    assert checked.exit_code in (0, 1)
    assert "verdict" in checked.stdout


def test_a_split_without_faces_is_warned_of(source: Source, tmp_path: Path) -> None:
    told = _ingest(source, tmp_path / "ds", "--val", "0", "--test", "0")
    assert "the split 'val' has no faces" in told
    assert "the split 'test' has no faces" in told
    assert "the split 'train'" not in told
    assert "agesearch teach" not in told
    assert "the split 'val' has no faces" in _ingest(
        source, tmp_path / "ds", "--val", "0", "--test", "0", "--json"
    )
    assert "has no faces" not in _ingest(source, tmp_path / "all", "--val", "0.3", "--test", "0.3")


def test_mix_warns_too(source: Source, tmp_path: Path) -> None:
    ingest(source.spec(), tmp_path / "ds")
    (tmp_path / "mix.yaml").write_text(f"datasets: [{{data: {tmp_path}/ds, splits: [train]}}]\n")
    result = RUNNER.invoke(app, ["data", "mix", str(tmp_path / "mix.yaml"), "--out", str(tmp_path / "mixed")])
    assert result.exit_code == 0, result.exception
    assert "the split 'val' has no faces" in result.stderr


def test_notes_of_the_columns_are_told(source: Source, tmp_path: Path) -> None:
    table = source.root / "faces.csv"
    table.write_text(table.read_text().replace("file,age,subject", "file,real_age,apparent_age_std"))
    told = _ingest(source, tmp_path / "ds")
    assert "Note: The column 'apparent_age_std' was not taken for the spread of 'real_age'" in told
    assert "labels: real" in told


def _dataset(folder: Path, labels: dict[str, tuple[float | None, float | None, float | None]]) -> Location:
    writer = DatasetWriter(
        Location.of(folder),
        name=folder.name,
        label_kind="group",
        licence="CC0",
        crop=CropSpec(detector="none", size=32),
        detector="none",
    )
    writer.add(
        [
            {
                "sample_id": f"{split}{index}",
                "image": b"jpeg",
                "age": age,
                "age_low": low,
                "age_high": high,
                "source": "test",
                "split": split,
            }
            for split, (age, low, high) in labels.items()
            for index in range(3)
        ]
    )
    writer.finish()
    return Location.of(folder)


GROUP, AGE, NOTHING = (None, 3.0, 9.0), (4.0, None, None), (None, None, None)


def test_a_search_needs_exact_ages_to_compare_by(tmp_path: Path) -> None:
    groups = _dataset(tmp_path / "my groups", {"train": GROUP, "val": GROUP})
    with pytest.raises(InputError, match="have age groups and no exact ages") as caught:
        refuse_empty(groups, read_manifest(groups))
    command = str(caught.value).split("with: ")[1]
    assert shlex.split(command)[:2] == ["agesearch", "annotate"]
    assert shlex.split(command)[-2:] == ["--labelled", "replace"]
    assert str(groups) in shlex.split(command)
    none = _dataset(tmp_path / "none", {"train": AGE, "val": NOTHING})
    with pytest.raises(InputError, match="have no ages"):
        refuse_empty(none, read_manifest(none))
    good = _dataset(tmp_path / "good", {"train": GROUP, "val": AGE})
    refuse_empty(good, read_manifest(good))
    assert (labelled(good, None), labelled(none, None)) == (Labelled(3, 3), Labelled(3, 0))


def test_a_teacher_needs_labels_and_leaves_nothing_where_there_are_none(tmp_path: Path) -> None:
    none = _dataset(tmp_path / "none", {"train": NOTHING, "val": NOTHING})
    model = ModelSpec(arch="lcnet_035", input_size=32)
    with pytest.raises(InputError, match="has an age or an age group"):
        teach(TrainSpec(model=model), none, tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()


def test_an_order_teacher_needs_exact_ages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "decode_crop", lambda _: np.zeros((32, 32, 3), np.uint8))
    groups = _dataset(tmp_path / "groups", {"train": GROUP, "val": GROUP})
    with pytest.raises(InputError, match="cannot learn from age groups"):
        teach_order(OrderTrainSpec(model=ModelSpec(arch="lcnet_035")), groups, tmp_path / "order")
    assert not (tmp_path / "order").exists()
