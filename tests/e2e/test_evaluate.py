"""Evaluations whole: what the record says, what it warns of, the files it leaves, and the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from published_sets import CROP, adience_like, fgnet_like, lap_like, mixed, tiny_model, write_set
from typer.testing import CliRunner

import agesearch
from agesearch.ages import expected_age
from agesearch.cli.main import app
from agesearch.data.dataset.arrays import read_arrays
from agesearch.data.dataset.records import Split
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.errors import InputError
from agesearch.measure.evaluate import Evaluated, Evaluation, evaluate
from agesearch.measure.files import tidy_rows
from agesearch.measure.protocols import protocol_named
from agesearch.models.predict import open_predictor
from agesearch.reporting.evaluations import evaluation_tables, interval_text, score_text
from agesearch.specs import parse_spec
from agesearch.storage import Location

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Location]:
    folder = tmp_path_factory.mktemp("models")
    return {
        name: Location.of(tiny_model(folder / name, seed=seed)) for seed, name in enumerate(("one", "two"))
    }


def run(models: dict[str, Location], data: Path, protocol: str, **options: Any) -> Evaluated:
    return evaluate(models, str(data), protocol_named(protocol, **options), runtime="torch")


def one(models: dict[str, Location]) -> dict[str, Location]:
    return {"one": models["one"]}


def test_figures_are_those_of_the_predictions(tmp_path: Path, models: dict[str, Location]) -> None:
    rows = [{"age": 3.0 * i, "sex": "female" if i % 3 else "male"} for i in range(30)]
    write_set(tmp_path / "ds", rows, "real")
    found = run(one(models), tmp_path / "ds", "standard")
    faces = read_arrays(str(tmp_path / "ds"), Split.TEST)
    predicted = expected_age(open_predictor(models["one"], "torch").pmf(faces.images))
    wrong = np.abs(predicted - faces.age)
    (kind,) = found.record.models[0].kinds
    assert kind.scores["mae_years"].value == pytest.approx(float(wrong.mean()), rel=1e-5)
    sexes = {part.name: part.scores["mae_years"] for part in kind.slices if part.by == "sex"}
    assert sexes["male"].value == pytest.approx(float(wrong[faces.sex == "male"].mean()), rel=1e-5)
    assert (sexes["male"].faces, sexes["female"].faces) == (10, 20)
    assert [part.name for part in kind.slices if part.by == "age"][:2] == ["0-9", "10-19"]
    np.testing.assert_allclose(found.predictions["one"].predicted, predicted, rtol=1e-5)


def test_each_label_kind_has_its_own_figures_and_unlabelled_faces_are_counted(
    tmp_path: Path, models: dict[str, Location]
) -> None:
    mixed(tmp_path / "ds")
    record = run(models, tmp_path / "ds", "standard").record
    for model in record.models:
        assert {kind.kind: kind.faces for kind in model.kinds} == {"apparent": 6, "group": 4, "real": 8}
    assert record.left_out == {"without an age or an age group": 2}
    assert {(row.kind, row.score) for row in record.differences} == {
        ("apparent", "mae_years"),
        ("group", "outside_years"),
        ("real", "mae_years"),
    }


def test_every_protocol_runs_on_a_set_of_its_kind(tmp_path: Path, models: dict[str, Location]) -> None:
    adience_like(tmp_path / "adience")
    lap_like(tmp_path / "lap")
    fgnet_like(tmp_path / "fgnet")
    counted = {}
    for name, data in (("adience", "adience"), ("lap2016", "lap"), ("lopo", "fgnet"), ("lfw+", "lap")):
        record = run(one(models), tmp_path / data, name).record
        (kind,) = record.models[0].kinds
        counted[name] = (record.turns, record.faces, kind.headline, kind.resampled)
    assert counted == {
        "adience": (5, 40, "top1", "faces"),
        "lap2016": (1, 11, "eps_error", "faces"),
        "lopo": (4, 14, "mae_years", "persons"),
        "lfw+": (1, 30, "mae_years", "faces"),
    }


def test_onnx_and_torch_give_the_same_figures(tmp_path: Path, models: dict[str, Location]) -> None:
    lap_like(tmp_path / "ds")
    protocol = protocol_named("lap2016")
    ran = [evaluate(one(models), str(tmp_path / "ds"), protocol, runtime=r).record for r in ("onnx", "torch")]
    first, second = (record.models[0].kinds[0].scores["eps_error"].value for record in ran)
    assert first == pytest.approx(second, abs=1e-4)
    assert [record.runtime for record in ran] == ["onnx", "torch"]


def test_another_crop_recipe_and_enlarged_crops_are_said(tmp_path: Path) -> None:
    manifest = lap_like(tmp_path / "ds")
    other = manifest.crop.model_copy(update={"scale": 1.6, "align": False, "jpeg_quality": 80, "size": 64})
    model = Location.of(tiny_model(tmp_path / "m", crop=other))
    (note,) = run({"m": model}, tmp_path / "ds", "lap2016").record.models[0].notes
    assert "align True (the model's: False), scale 1.3 (the model's: 1.6), size 32 (the model's: 64)" in note


def test_faces_that_the_model_learned_from_are_said(tmp_path: Path) -> None:
    digest = lap_like(tmp_path / "ds").content_digest
    model = {"m": Location.of(tiny_model(tmp_path / "m", data_digest=digest))}
    assert run(model, tmp_path / "ds", "standard").record.models[0].notes == ()
    (note,) = run(model, tmp_path / "ds", "standard", split=Split.TRAIN).record.models[0].notes
    assert "was trained on 12 of the 12 faces" in note
    trained, chosen = run(model, tmp_path / "ds", "lfw+").record.models[0].notes
    assert "12 of the 30" in trained
    assert "best epoch chosen on 6 of the 30" in chosen
    stranger = {"m": Location.of(tiny_model(tmp_path / "s", data_digest="another"))}
    assert run(stranger, tmp_path / "ds", "lfw+").record.models[0].notes == ()


def test_a_set_that_cannot_serve_is_refused_before_a_model_is_opened(tmp_path: Path) -> None:
    lap_like(tmp_path / "ds")
    absent = {"m": Location.of(tmp_path / "absent")}
    with pytest.raises(InputError, match="needs the owner's folds"):
        run(absent, tmp_path / "ds", "adience")
    with pytest.raises(InputError, match="is not a model"):
        run(absent, tmp_path / "ds", "lap2016")


def test_tidy_rows_hold_every_figure(tmp_path: Path, models: dict[str, Location]) -> None:
    adience_like(tmp_path / "ds")
    record = run(models, tmp_path / "ds", "adience").record
    rows = tidy_rows(record)
    of = {row["of"] for row in rows}
    assert of == {"all", "age", "sex", "turn", "turns", "minus"}
    mine = [row for row in rows if row["model"] == "one" and row["score"] == "top1"]
    assert len([row for row in mine if row["of"] == "turn"]) == 5
    over = next(row for row in mine if row["of"] == "turns")
    assert over["value"] == record.models[0].kinds[0].over_turns["top1"].mean


def test_words_of_figures() -> None:
    assert score_text("mae_years", 6.1234) == "6.12"
    assert score_text("bias_years", -0.5) == "−0.50"
    assert score_text("cs5", 0.4567) == "45.7 %"
    assert score_text("eps_error", 0.30349) == "0.303"
    assert interval_text("top1", 0.5, 0.625) == "50.0–62.5 %"
    assert interval_text("bias_years", -0.5, 0.25) == "−0.50 to +0.25"
    assert interval_text("top1", 1.0, 1.0) == "–"


def test_tables_fit_a_terminal_of_80_columns(tmp_path: Path, models: dict[str, Location]) -> None:
    adience_like(tmp_path / "ds")
    for chosen in (one(models), models):
        for lines in evaluation_tables(run(chosen, tmp_path / "ds", "adience").record):
            rows = [lines.columns, *(row for section in lines.sections for row in section)]
            widths = [max(len(row[place]) for row in rows) for place in range(len(lines.columns))]
            assert sum(widths) + 2 * len(widths) <= 80, lines.title


def test_the_command_scores_the_pack_and_writes_its_files(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m", crop=CROP)
    files = ["--out", str(tmp_path / "e.csv"), "--predictions", str(tmp_path / "p.parquet")]
    call = ["evaluate", str(model), "--data", str(demo_pack()), "--k", "10", "--runtime", "torch"]
    result = RUNNER.invoke(app, [*call, *files, "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert parse_spec(Evaluation, record, "record").model_dump(mode="json") == record
    assert (record["protocol"], record["dataset"]["label_kind"]) == ("standard", "synthetic")
    scores = record["models"][0]["kinds"][0]["scores"]
    assert set(scores) == {"mae_years", "cs10", "bias_years"}
    table = pq.read_table(tmp_path / "p.parquet")
    wrong = np.abs(table["predicted_age"].to_numpy() - table["age"].to_numpy())
    assert float(wrong.mean()) == pytest.approx(scores["mae_years"]["value"], rel=1e-5)
    assert table.num_rows == record["faces"]
    with open(tmp_path / "e.csv", encoding="utf-8", newline="") as handle:
        first = next(csv.DictReader(handle))
    assert (first["of"], first["score"], float(first["value"])) == (
        "all",
        "mae_years",
        scores["mae_years"]["value"],
    )


def test_the_command_prints_its_tables(tmp_path: Path) -> None:
    lap_like(tmp_path / "ds")
    model = tiny_model(tmp_path / "m", crop=CROP.model_copy(update={"scale": 2.0}))
    call = [
        "evaluate",
        str(model),
        "--data",
        str(tmp_path / "ds"),
        "--protocol",
        "lap2016",
        "--runtime",
        "torch",
    ]
    result = RUNNER.invoke(app, call)
    assert result.exit_code == 0, result.output
    assert "lap2016 on ds: 11 faces, apparent labels" in result.output
    for words in ("eps-error", "MAE, years", "CS@5", "age 10-19", "1 face left out", "another recipe"):
        assert words in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "adiense"], "Did you mean 'adience'"),
        (["--protocol", "adience", "--split", "val"], "goes with 'standard' only"),
        (["--split", "tset"], "Unknown split 'tset'"),
        (["--out", "record.txt"], "must end with .json or .csv"),
        (["--predictions", "faces.csv"], "must end with .parquet"),
    ],
)
def test_wrong_options_end_before_any_work(tmp_path: Path, options: list[str], message: str) -> None:
    result = RUNNER.invoke(app, ["evaluate", "absent", "--data", str(tmp_path / "absent"), *options])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)


def test_a_model_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    model = str(tiny_model(tmp_path / "m"))
    result = RUNNER.invoke(app, ["evaluate", model, model, "--data", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert "named twice" in str(result.exception)


def test_the_python_result_gives_a_row_a_face_with_its_person(tmp_path: Path) -> None:
    fgnet_like(tmp_path / "ds")
    model = tiny_model(tmp_path / "m")
    found = agesearch.evaluate(str(model), data=tmp_path / "ds", split="train", runtime="torch")
    rows = found.predictions
    assert rows.num_rows == 14
    assert rows.column("subject_id").to_pylist().count("004") == 5
    assert set(found.scores.column("persons").to_pylist()) >= {4}
