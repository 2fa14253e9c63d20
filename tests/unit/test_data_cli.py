"""``agesearch data``: wrong inputs end before Ray starts, with one line; options agree with the specs."""

from __future__ import annotations

import inspect as python_inspect
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from agesearch.cli import data
from agesearch.cli.common import harmless, table
from agesearch.data.sources import SOURCES
from agesearch.errors import InputError
from agesearch.specs import CropSpec, SplitSpec

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer()
    data.add_to(app)
    return app


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "cvs", "{}/f.csv", "--out", "{}/ds"], "Unknown source 'cvs'"),
        (["ingest", "csv", "{}/absent.csv", "--out", "{}/ds"], "absent.csv"),
        (["ingest", "csv", "{}/empty.csv", "--out", "{}/ds"], "has no rows"),
        (["ingest", "csv", "{}/f.csv", "--out", "{}"], "holds other things"),
        (["ingest", "csv", "{}/f.csv", "--out", "{}/ds", "--column", "age"], "FIELD=NAME"),
        (
            ["ingest", "csv", "{}/f.csv", "--out", "{}/ds", "--column", "age=alter"],
            "Columns found: file, age",
        ),
        (["ingest", "csv", "{}/f.csv", "--out", "{}/ds", "--scale", "9"], "crop.scale"),
        (["ingest", "csv", "{}/f.csv", "--out", "{}/ds", "--detector", "yolo"], "Unknown detector 'yolo'"),
        (["ingest", "csv", "{}/f.csv", "--out", "{}/ds", "--detector", "none"], "--images"),
        (["ingest", "csv", "{}/f.csv", "--out", "{}/f.csv", "--detector", "none"], "is a file"),
        (["inspect", "{}"], "is not a dataset"),
    ],
)
def test_wrong_input_is_one_line(
    app: typer.Typer, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "f.csv").write_text("file,age\na.jpg,30\n")
    (tmp_path / "empty.csv").write_text("")
    result = RUNNER.invoke(app, ["data", *(part.format(tmp_path) for part in arguments)])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "ds").exists()


def test_list_names_every_reader(app: typer.Typer) -> None:
    listed = json.loads(RUNNER.invoke(app, ["data", "list", "--json"]).stdout)
    assert listed.keys() == SOURCES.keys()
    assert set(listed["csv"]) == {"layout", "label_kind", "licence", "identities", "variants", "notes"}
    assert listed["appa-real"]["variants"]["real"] == {
        "about": "the age that the person had",
        "label_kind": "real",
    }


def test_the_list_fits_a_pipe(app: typer.Typer) -> None:
    lines = RUNNER.invoke(app, ["data", "list"]).stdout.splitlines()
    assert max(map(len, lines)) <= 120
    assert all(any(name in line for line in lines) for name in SOURCES)
    assert any("frontal-aligned" in line for line in lines)


def test_list_of_one_tells_its_layout_variants_and_notes(app: typer.Typer) -> None:
    told = RUNNER.invoke(app, ["data", "list", "imdb-clean"]).stdout
    assert "ROOT/csvs/imdb_{train,valid,test}_new_1024.csv" in told
    assert "--variant photographs" in told
    assert "train and valid splits share people" in told
    result = RUNNER.invoke(app, ["data", "list", "imdb"])
    assert isinstance(result.exception, InputError)
    assert "Unknown source 'imdb'" in str(result.exception)


def test_defaults_are_those_of_the_specs() -> None:
    given = {name: value.default for name, value in python_inspect.signature(data.ingest).parameters.items()}
    for spec in (CropSpec(), SplitSpec()):
        for name, value in spec.model_dump().items():
            assert given.get(name, value) == value


def test_a_file_name_cannot_command_the_terminal(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "30").mkdir()
    (tmp_path / "30" / "\x1b[2J\x1b]0;owned\x07.txt").write_text("no image")
    done = CliRunner().invoke(app, ["data", "ingest", "folder", str(tmp_path), "--out", str(tmp_path / "ds")])
    message = harmless(str(done.exception))
    assert "\\x1b[2J" in message
    assert "\x1b" not in message
    assert "\x1b" not in "".join(cell for row in table("t", ["name"], [["\x1b[2J"]]).rows for cell in row)
