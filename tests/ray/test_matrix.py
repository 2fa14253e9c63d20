"""The cross-dataset matrix: one model a dataset tested on all, given models, and the command."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from group_faces import adience_like, start_model, with_ages
from typer.testing import CliRunner

from agesearch.cli.matrix import add_to
from agesearch.data.dataset.records import MANIFEST
from agesearch.errors import InputError
from agesearch.models.identity import read_model_manifest
from agesearch.specs import AugmentSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.protocols import jobs as jobs_module
from agesearch.training.protocols.matrix import MODELS, Matrix, train_matrix

pytestmark = pytest.mark.usefixtures("ray_local")

SPEC = TrainSpec(
    model=ModelSpec(arch="lcnet_035", input_size=48),
    optim=OptimSpec(epochs=1),
    augment=AugmentSpec(strength=0.0),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    where = tmp_path_factory.mktemp("pair")
    return [with_ages(where / "one"), with_ages(where / "two", start=40)]


@pytest.fixture(scope="module")
def trained(pair: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Matrix]:
    out = tmp_path_factory.mktemp("matrix") / "out"
    return out, train_matrix(pair, str(out), spec=SPEC)


def test_each_model_is_tested_on_every_dataset(trained: tuple[Path, Matrix], pair: list[str]) -> None:
    out, record = trained
    assert (record.columns, record.failed, record.notes) == (("one", "two"), 0, ())
    cells = record.values()
    assert all(
        cell is not None and cell.low <= cell.value <= cell.high and cell.faces == 10
        for cell in sum(cells, [])
    )
    assert cells[0][0] != cells[1][0]
    manifests = [read_model_manifest(str(out / MODELS / row.model)) for row in record.rows]
    assert [manifest.data_digest for manifest in manifests] == ["one40", "two40"]
    assert [manifest.trained_on[0].data for manifest in manifests] == ["one", "two"]
    written = json.loads((out / "result.json").read_text())
    assert written == json.loads(record.model_dump_json())
    assert Matrix.model_validate(written).rows == record.rows


def test_a_second_run_trains_nothing(
    trained: tuple[Path, Matrix], pair: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(jobs_module, "_faces", refuse)
    assert train_matrix(pair, str(trained[0]), spec=SPEC).rows == trained[1].rows


def test_given_models_are_tested_as_they_are(
    trained: tuple[Path, Matrix], pair: list[str], tmp_path: Path
) -> None:
    models = [str(trained[0] / MODELS / row.model) for row in trained[1].rows]
    record = train_matrix(pair, str(tmp_path / "given"), models=models)
    assert record.values() == trained[1].values()
    assert [row.trained_on for row in record.rows] == ["one", "two"]
    with pytest.raises(InputError, match="was trained on 'two', but the dataset in its place .1. is 'one'"):
        train_matrix(pair, str(tmp_path / "turned"), models=models[::-1])
    with pytest.raises(InputError, match="2 datasets need as many models"):
        train_matrix(pair, str(tmp_path / "few"), models=models[:1])


def test_label_kinds_that_differ_are_said_and_groups_have_no_error_in_years(
    pair: list[str], tmp_path: Path
) -> None:
    model = start_model(tmp_path / "m")
    groups = adience_like(tmp_path / "groups", 24)
    manifest = Location.of(groups) / MANIFEST
    with pytest.raises(InputError, match="has no faces in its split 'val', which a matrix needs"):
        train_matrix([pair[0], groups], str(tmp_path / "out"), models=[model, model])
    document = manifest.read_json()
    manifest.write_json(document | {"crop": document["crop"] | {"scale": 1.9}})
    with pytest.raises(
        InputError, match="not cropped alike: crop scale is 1.3 in 'one' and 1.9 in 'adience'"
    ):
        train_matrix([pair[0], groups], str(tmp_path / "out"), models=[model, model])
    with pytest.raises(InputError, match="at least two datasets"):
        train_matrix([groups], str(tmp_path / "out"), models=[model])


def test_the_command_writes_the_table_and_the_heat_map(trained: tuple[Path, Matrix], pair: list[str]) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    add_to(app)
    options = ["--arch", "lcnet_035", "--input-size", "48", "--epochs", "1", "--set", "augment.strength=0.0"]
    where = ["matrix", "--data", pair[0], "--data", pair[1], "--out", str(trained[0])]
    result = CliRunner().invoke(app, [*where, *options])
    assert result.exit_code == 0, result.output
    assert "Across datasets" in result.output
    svg, page = (trained[0] / name for name in ("matrix.svg", "matrix.html"))
    error = trained[1].values()[0][1]
    assert error is not None
    assert f"{error.value:.2f}" in svg.read_text()
    assert f"{error.value:.2f}" in result.output
    assert '<svg class="matrix"' in page.read_text()  # drawn for pages, and for files of its own
    assert f"{error.value:.2f}" in page.read_text()
    assert "src=" not in page.read_text()
