"""Methods x seeds on a few synthetic faces: paired, resumable, and honest about what failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from group_faces import with_ages
from typer.testing import CliRunner

from agesearch.cli.compare import add_to
from agesearch.errors import ConflictError
from agesearch.models.identity import read_model_manifest
from agesearch.training.comparison.methods import load_methods
from agesearch.training.comparison.records import MethodComparison
from agesearch.training.comparison.run import compare
from agesearch.training.protocols import jobs as jobs_module

pytestmark = pytest.mark.usefixtures("ray_local")

METHODS = """
student:
  model: {arch: lcnet_035, input_size: 32}
  optim: {epochs: 1, batch_size: 8}
  augment: {strength: 0.0}
teachers:
  same: {model: {arch: lcnet_035, input_size: 32}, optim: {epochs: 1, batch_size: 8}, seed: 9}
methods:
  labels: {about: labels only}
  kd: {about: Hinton 2015, teacher: same, values: {distill.kd_weight: 1.0}}
"""
WILD = "  wild: {values: {distill.mse_weight: 1.0e+300}}\n"


def methods_file(where: Path, more: str = "") -> str:
    path = where / "methods.yaml"
    path.write_text(METHODS + more)
    return str(path)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> str:
    return with_ages(tmp_path_factory.mktemp("data") / "faces")


@pytest.fixture(scope="module")
def compared(faces: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, MethodComparison]:
    where = tmp_path_factory.mktemp("compare")
    path = methods_file(where)
    return where / "out", path, compare(load_methods([path]), faces, str(where / "out"), seeds=2)


def test_each_method_is_trained_with_every_seed_and_paired_by_it(
    compared: tuple[Path, str, MethodComparison],
) -> None:
    out, _, record = compared
    labels, kd = record.methods
    assert (record.seeds, record.faces, record.failed, record.reference) == ((0, 1), 10, 0, "labels")
    assert labels.difference is None
    assert kd.difference is not None
    assert kd.difference.seeds == (0, 1)
    for method in record.methods:
        errors = [run.scores["mae_years"] for run in method.trainings]
        assert method.scores["mae_years"].value == pytest.approx(sum(errors) / 2)
        assert errors[0] != errors[1]
    found = kd.difference.difference
    assert found.value == pytest.approx(kd.scores["mae_years"].value - labels.scores["mae_years"].value)
    assert found.low <= found.value <= found.high
    teacher = record.teachers[0]
    assert teacher.trained
    assert teacher.mae_years is not None
    manifests = [read_model_manifest(str(out / run.folder)) for run in kd.trainings]
    assert [manifest.teacher_digest for manifest in manifests] == [teacher.model_digest] * 2
    assert MethodComparison.model_validate_json((out / "result.json").read_text()) == record


def test_a_second_run_trains_only_what_is_new(
    compared: tuple[Path, str, MethodComparison], faces: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, path, record = compared
    trained: list[str] = []
    decoded = jobs_module._faces

    def noted(job: Any) -> Any:
        if job.training is not None and not job.trained:
            trained.append(job.name)
        return decoded(job)

    monkeypatch.setattr(jobs_module, "_faces", noted)
    again = compare(load_methods([path]), faces, str(out), seeds=2)
    assert (again.methods, trained) == (record.methods, [])
    more = compare(load_methods([path], reference="kd"), faces, str(out), seeds=2)
    assert (more.methods[0].name, trained) == ("kd", [])


def test_other_faces_are_refused_in_the_same_folder(
    compared: tuple[Path, str, MethodComparison], tmp_path: Path
) -> None:
    out, path, _ = compared
    with pytest.raises(ConflictError, match="holds a comparison with other settings or data"):
        compare(load_methods([path]), with_ages(tmp_path / "others", start=40), str(out))


def test_the_command_tells_what_failed_and_compares_the_rest(
    compared: tuple[Path, str, MethodComparison], faces: str, tmp_path: Path
) -> None:
    out, _, _ = compared
    app = typer.Typer()
    app.callback()(lambda: None)
    add_to(app)
    asked = ["compare", methods_file(tmp_path, WILD), "--data", faces, "--out", str(out), "--seeds", "2"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 1, result.output
    assert "wild, seed 0: " in result.output
    assert "lower the learning rate" in result.output
    record = MethodComparison.model_validate_json((out / "result.json").read_text())
    assert record.failed == 2
    assert record.methods[1].difference is not None
    page, svg = (out / "comparison.html").read_text(), (out / "comparison.svg").read_text()
    assert all('<svg class="comparison"' in text for text in (page, svg))  # drawn for pages, and for files
    assert f"{record.methods[0].scores['mae_years'].value:.2f}" in page
    assert "Trainings that failed" in page
