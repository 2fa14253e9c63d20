"""Fine-tuning by a protocol: all turns, going on after a loss, turns that fail, and the command."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from group_faces import FOLDS, adience_like, start_model
from typer.testing import CliRunner

from agesearch.cli.finetune import add_to
from agesearch.data.dataset.records import Turn
from agesearch.errors import ConflictError, InputError
from agesearch.measure.protocols import protocol_named
from agesearch.models.identity import read_model_manifest
from agesearch.progress import Progress
from agesearch.storage import Location
from agesearch.training.preflight import plan
from agesearch.training.protocols import jobs as jobs_module
from agesearch.training.protocols.finetune import Finetuning, finetune
from agesearch.training.protocols.jobs import ModelJob, run_jobs
from agesearch.training.protocols.recipes import finetune_spec, recipe_for

pytestmark = pytest.mark.usefixtures("ray_local")

ADIENCE = protocol_named("adience")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> str:
    return adience_like(tmp_path_factory.mktemp("groups") / "faces")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return start_model(tmp_path_factory.mktemp("start") / "model")


def _run(model: str, faces: str, out: Path, **changes: Any) -> Finetuning:
    listener = changes.pop("on_progress", lambda _: None)
    recipe = recipe_for("adience")
    values = {"optim.epochs": 1, "augment.strength": 0.0, **changes}
    spec = finetune_spec(recipe, Location.of(model), read_model_manifest(model), values)
    return finetune(model, faces, ADIENCE, recipe, spec, str(out), on_progress=listener)


@pytest.fixture(scope="module")
def tuned(model: str, faces: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finetuning]:
    """All five folds, fine-tuned once."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    seen: list[Progress] = []
    record = _run(model, faces, out, on_progress=seen.append)
    assert (seen[-1].done, seen[-1].total, seen[-1].failed) == (10, 10, 0)
    return out, record


def test_every_fold_is_tested_by_a_model_that_did_not_learn_from_it(
    tuned: tuple[Path, Finetuning], model: str
) -> None:
    out, record = tuned
    (kind,) = record.kinds
    assert (record.failed, kind.kind, kind.faces) == (0, "group", 56)
    assert [turn.turn for turn in kind.turns] == [f"fold {fold}" for fold in range(5)]
    assert sum(turn.faces_tested for turn in record.turns) == 56
    shares = [turn.scores["top1"].value for turn in kind.turns]
    assert kind.over_turns["top1"].mean == pytest.approx(np.mean(shares))
    assert kind.over_turns["top1"].sd == pytest.approx(np.std(shares, ddof=1))
    assert kind.scores["top1"].low <= kind.scores["top1"].value <= kind.scores["top1"].high
    written = json.loads((out / "result.json").read_text())
    assert written == json.loads(record.model_dump_json())
    assert Finetuning.model_validate(written).kinds == record.kinds


def test_each_turn_is_a_model_folder_that_tells_what_it_started_from(
    tuned: tuple[Path, Finetuning], model: str
) -> None:
    out, record = tuned
    assert (record.start.head, record.start.tensors > 50) == (False, True)
    for turn in record.turns:
        manifest = read_model_manifest(str(out / turn.folder))
        assert (manifest.model.head, manifest.model.dropout) == ("groups", 0.5)
        assert manifest.provenance["started_from"]["weights"] == Path(model).name
        (seen,) = manifest.trained_on
        fold = FOLDS[int(turn.name.removeprefix("fold "))]
        assert (seen.train, seen.val) == (fold.train, fold.val)
        assert turn.faces_seen == 0
        assert manifest.metrics["val_top1"] == turn.validation["val_top1"]
    assert sorted(path.name for path in (out / "turns").iterdir()) == sorted(
        Path(turn.folder).name for turn in record.turns
    )


def test_what_is_finished_is_not_done_again(
    tuned: tuple[Path, Finetuning], model: str, faces: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, record = tuned
    lost = out / record.turns[3].folder
    (lost / "manifest.json").unlink()
    (out / record.turns[1].folder / "tests" / "test.parquet").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.glob("turns/*/manifest.json")}
    again = _run(model, faces, out)
    assert again.kinds == record.kinds
    assert (lost / "manifest.json").exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before

    def refuse(*_: Any) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(jobs_module, "_faces", refuse)
    assert _run(model, faces, out).kinds == record.kinds
    with pytest.raises(ConflictError, match="a fine-tuning with other settings or data"):
        _run(model, faces, out, **{"optim.learning_rate": 1e-3})


def test_a_turn_that_fails_says_why_and_the_others_count(model: str, tmp_path: Path) -> None:
    empty = Turn(name="no such fold", train=(0, 1), val=(9,), test=(2,))
    blind = Turn(name="unlabelled", train=(0, 1), val=(5,), test=(3,))
    faces = adience_like(tmp_path / "faces", turns=[FOLDS[0], empty, blind])
    record = _run(model, faces, tmp_path / "out")
    failures = {turn.name: turn.failure for turn in record.turns}
    assert failures["fold 0"] == ""
    assert "has no faces in folds 9" in failures["no such fold"]
    assert "No validation face has an age or an age group" in failures["unlabelled"]
    assert record.failed == 2
    assert record.kinds[0].faces == record.turns[0].faces_tested > 0


def test_a_job_whose_process_dies_is_taken_up_once_more_and_then_told(model: str, tmp_path: Path) -> None:
    class Deadly(Mapping[str, Any]):  # a local class travels to the worker whole
        def __iter__(self) -> Iterator[str]:
            return iter(["test"])

        def __len__(self) -> int:
            return 1

        def __getitem__(self, name: str) -> Any:
            return None

        def values(self) -> Any:  # what a job reads first
            with open(tmp_path / "attempts", "a") as file:
                file.write("x")
            os._exit(7)

    job = ModelJob("deadly", Location.of(tmp_path / "job"), Location.of(model), None, Deadly())
    failures = run_jobs([job], plan(2, 0), lambda _: None)
    assert (tmp_path / "attempts").read_text() == "xx"
    assert failures["deadly"].startswith("its process died twice: ")


def test_wrong_inputs_are_told_before_a_turn_starts(model: str, faces: str, tmp_path: Path) -> None:
    spec = finetune_spec(recipe_for("adience"), Location.of(model), read_model_manifest(model), {})
    options: Any = {"recipe": recipe_for("adience"), "spec": spec, "out": str(tmp_path / "out")}
    with pytest.raises(InputError, match="'lfw.' needs faces with an apparent age"):
        finetune(model, faces, protocol_named("lfw+"), **options)
    with pytest.raises(InputError, match="3000 turns at once need 3000 CPUs"):
        finetune(model, faces, ADIENCE, concurrency=3000, **options)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ConflictError, match="holds other things .*and not a fine-tuning"):
        finetune(model, faces, ADIENCE, **{**options, "out": str(tmp_path / "full")})
    assert not (tmp_path / "out").exists()


def test_the_command_prints_each_turn_and_the_spread(
    tuned: tuple[Path, Finetuning], model: str, faces: str
) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    add_to(app)
    where = ["finetune", model, "--data", faces, "--protocol", "adience", "--out", str(tuned[0])]
    options = ["--epochs", "1", "--set", "augment.strength=0.0"]
    result = CliRunner().invoke(app, [*where, *options])
    assert result.exit_code == 0, result.output
    assert "5 of 5 turns, group labels" in result.output
    assert "mean ± sd" in result.output
    assert "and a new head" in result.output
    found = json.loads(CliRunner().invoke(app, [*where, *options, "--json"]).stdout)
    assert found["kinds"] == json.loads((tuned[0] / "result.json").read_text())["kinds"]
