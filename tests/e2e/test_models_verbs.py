"""``publish`` and ``models`` at the command line: what an alias pointed to, how versions compare, and the
way back.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_sets import CROP, write_set
from rich.console import Console
from typer.testing import CliRunner

from agesearch.cli import models as models_verbs
from agesearch.cli.main import app
from agesearch.cli.publish import _gate_words
from agesearch.deploy.comparison import Error, VersionComparison
from agesearch.deploy.registry import Registry, checked_alias
from agesearch.errors import InputError
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.zoo import build
from agesearch.specs import ModelSpec
from agesearch.storage import Location

SPEC = ModelSpec(arch="lcnet_035", input_size=32)


def answering(age: int, where: Path) -> Path:
    """A model folder whose network says about ``age`` whatever it sees."""
    torch.manual_seed(age)
    net = build(SPEC).eval()
    with torch.no_grad():
        for parameter in net.head.parameters():
            parameter.normal_(std=0.01)
        bias = [parameter for parameter in net.head.parameters() if parameter.dim() == 1][-1]
        bias[age] = 20.0
    manifest = ModelManifest(kind="teacher", model=SPEC, crop=CROP, metrics={"val_mae_years": abs(age - 30)})
    write_model(str(where), net.state_dict(), manifest)
    return where


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces around thirty, a model that is right about them, and one that is twenty years off."""
    house = tmp_path_factory.mktemp("house")
    rows = [{"age": 28.0 + index % 5, "split": "test", "subject_id": f"p{index // 2}"} for index in range(24)]
    write_set(house / "faces", rows, "real")
    answering(30, house / "right")
    answering(50, house / "wrong")
    return house


@pytest.fixture
def run(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a verb in a folder of its own, with the registry in ``my registry``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGESEARCH_REGISTRY", "my registry")

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, list(words), catch_exceptions=True)

    return run


@pytest.fixture(scope="module")
def two_versions(house: Path) -> Path:
    """A registry with the right model as version 0001 and the wrong one as 0002."""
    for model in ("right", "wrong"):
        words = ["publish", str(house / model), "--name", "ages", "--data", str(house / "faces")]
        CliRunner().invoke(app, [*words, "--registry", str(house / "versions")], catch_exceptions=False)
    return house / "versions"


def publish(run: Callable[..., Any], house: Path, model: str, *more: str) -> Any:
    return run("publish", str(house / model), "--name", "ages", "--data", str(house / "faces"), *more)


def test_a_worse_version_is_called_worse_and_the_way_back_can_be_pasted(
    run: Callable[..., Any], house: Path
) -> None:
    first = publish(run, house, "right")
    assert "champion is new and points to 0001" in first.output
    assert "WORSE" not in first.output
    second = publish(run, house, "wrong")
    assert "champion pointed to 0001 and now points to 0002" in second.output
    (told,) = [line for line in second.output.splitlines() if line.strip().startswith("error")]
    assert "24 test faces: WORSE" in told
    (back,) = [line for line in second.output.splitlines() if line.startswith("Back: ")]
    words = shlex.split(back.removeprefix("Back: agesearch "))
    assert words == ["models", "move", "ages", "champion", "0001", "--registry", "my registry"]
    moved = run(*words)
    assert "champion pointed to 0002 and now points to 0001" in moved.output
    assert Registry("my registry").find("ages").number == "0001"
    again = publish(run, house, "wrong", "--json")
    document = json.loads(again.stdout)
    assert (document["previous"], document["is_new"], document["version"]) == ("0001", False, "0002")
    error = document["comparison"]["error"]
    assert document["comparison"]["error_is"] == "worse"
    assert 10 < error["low"] <= error["difference"] <= error["high"] < 30
    assert document["comparison"]["latency_ms_p50"]["old"] > 0


def test_the_next_line_serves_the_alias_that_was_moved(run: Callable[..., Any], house: Path) -> None:
    told = publish(run, house, "right", "--alias", "candidate").output
    assert "Next: agesearch serve ages@candidate --registry 'my registry'" in told
    told = publish(run, house, "right").output
    assert "Next: agesearch serve ages --registry 'my registry'" in told
    assert "champion points to" not in told  # it is new, though the version is not
    told = publish(run, house, "right").output
    assert "champion points to 0001 as before" in told


def test_an_alias_is_dropped_and_remembers(run: Callable[..., Any], house: Path) -> None:
    publish(run, house, "right", "--alias", "candidate")
    assert (
        "candidate pointed to 0001 and now points to nothing"
        in run("models", "drop", "ages", "candidate").output
    )
    listing = json.loads(run("models", "ages", "--json").stdout)
    assert [(move["from"], move["to"]) for move in listing["aliases"][0]["history"]] == [
        (None, "0001"), ("0001", None),
    ]  # fmt: skip
    assert listing["versions"][0]["aliases"] == []
    assert "0001 -> nothing" in run("models", "ages").output
    gone = run("models", "drop", "ages", "candidate")
    assert isinstance(gone.exception, InputError)
    assert isinstance(run("serve", "ages@candidate").exception, InputError)
    assert (
        "candidate is new and points to 0001" in publish(run, house, "right", "--alias", "candidate").output
    )
    for words in (
        ["drop", "nobody", "champion"],
        ["move", "ages", "champion", "7"],
        ["move", "ages", "../up", "1"],
    ):
        assert isinstance(run("models", *words).exception, InputError), words
    assert {path.name for path in Path("my registry").iterdir()} <= {"ages", ".lock"}


@pytest.mark.parametrize("alias", ["0001", "1", "v1", "version-2", "1.0", "2026-01", "v_3"])
def test_what_reads_as_a_number_is_no_alias(run: Callable[..., Any], house: Path, alias: str) -> None:
    result = publish(run, house, "right", "--alias", alias)
    assert isinstance(result.exception, InputError)
    assert "reads as the number of a version" in str(result.exception)
    assert not Path("my registry").exists()


@pytest.mark.parametrize("alias", ["champion", "a1", "eu-1", "beta", "v", "night.2"])
def test_a_word_is_an_alias(alias: str) -> None:
    assert checked_alias(alias) == alias


def test_the_versions_show_error_latency_and_size_on_any_terminal(
    run: Callable[..., Any], two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(two_versions, "my registry")
    for width in (60, 80, 120):
        screen = Console(file=StringIO(), width=width)
        monkeypatch.setattr(models_verbs, "out", screen)
        run("models", "ages")
        shown = screen.file.getvalue()  # type: ignore[attr-defined]
        size = f"{Registry('my registry').find('ages:2').size_bytes / 1e6:.1f}"  # type: ignore[operator]
        assert "20.00" in shown, width
        assert "0002" in shown, width
        assert size in shown or "no room for" in shown, width
        table = [line for line in shown.splitlines() if " -> " not in line]
        assert max(map(len, table)) <= width
    assert json.loads(run("models", "ages", "--json").stdout)["versions"][1]["size_bytes"] > 100_000


def test_versions_are_compared_by_their_references(
    run: Callable[..., Any], house: Path, two_versions: Path
) -> None:
    shutil.copytree(two_versions, "my registry")
    run("models", "move", "ages", "best", "1")
    told = run("models", "compare", "ages", "ages@best", "--data", str(house / "faces")).output
    assert "ages:0001 beside ages:0002" in told
    assert "24 test faces: better" in told
    without = run("models", "compare", "ages:1", "ages:2").output
    assert "not compared: no dataset is given" in without
    assert "timed in turns" in without


def _compared(low: float, high: float, latency: float) -> VersionComparison:
    error = Error("test", 10, 5.0, 5.0, float(np.mean([low, high])), low, high)
    return VersionComparison("a:0001", "a:0002", error, "", (1.0, latency), (1.04, latency), (1, 1))


@pytest.mark.parametrize(
    ("low", "high", "latency", "expected"),
    [
        (0.1, 0.5, 1.2, ("worse", "worse")),
        (-0.1, 0.5, 1.02, ("the same within noise", "the same within noise")),
        (-0.5, -0.1, 0.8, ("better", "better")),
    ],
)
def test_noise_is_no_judgement(low: float, high: float, latency: float, expected: tuple[str, str]) -> None:
    found = _compared(low, high, latency)
    assert (found.judgement, found.speed) == expected


def test_a_model_may_be_called_as_a_verb(run: Callable[..., Any], house: Path) -> None:
    run("publish", str(house / "right"), "--name", "move", "--data", str(house / "faces"))
    assert "Versions of move" in run("models", "show", "move").output
    assert Location.of("my registry/move").exists()


def test_an_engine_is_told_by_what_its_gate_found() -> None:
    found = {"holds": True, "reason": "", "drop_years": None}
    assert _gate_words(found) == "what the others are measured against"
    assert _gate_words(found | {"drop_years": -0.003}) == "as good as fp32 (−0.003 years)"
    assert _gate_words(found | {"holds": False, "reason": "too few faces"}) == "not: too few faces"
