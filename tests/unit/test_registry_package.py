"""The model that comes with the package: found by its name, never written to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agesearch.cli.main import app
from agesearch.deploy.integrity import verify
from agesearch.deploy.registry import CHAMPION, SHIPPED, Registry
from agesearch.serving.rollout.models import served_models
from agesearch.serving.rollout.promotion import promote, rollback

NAME = "portraits"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


@pytest.fixture(autouse=True)
def installed() -> object:
    """What is installed stays as it is, whatever a test does."""

    def content() -> dict[str, str]:
        files = [file for file in Path(SHIPPED).rglob("*") if file.is_file()]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    before = content()
    yield
    assert content() == before


def models(registry: Registry, *words: str) -> Result:
    return CliRunner().invoke(app, ["models", *words, "--registry", str(registry.root)])


def test_it_is_listed_and_shown_where_the_registry_has_none_such(registry: Registry) -> None:
    (row,) = json.loads(models(registry, "show", "--json").stdout)
    assert (row["name"], row["versions"], row["place"]) == (NAME, 1, "package")
    assert json.loads(models(registry, NAME, "--json").stdout)["versions"][0]["aliases"] == [CHAMPION]


def test_to_change_it_is_to_copy_it_first(registry: Registry) -> None:
    theirs = registry.find(NAME)
    change = promote(registry, NAME, theirs.number, "candidate")
    assert (change.before, change.version) == (None, theirs.number)
    own = registry.find(f"{NAME}@candidate")
    assert own.folder.parent.parent.parent == registry.root
    assert own.aliases == ("candidate", CHAMPION)
    verify(own.folder)
    assert {file.name: file.read_bytes() for file in own.folder.children()} == {
        file.name: file.read_bytes() for file in theirs.folder.children()
    }
    assert registry.own(registry.find(NAME)).folder == own.folder
    assert json.loads(models(registry, "show", "--json").stdout)[0]["place"] == "registry"


def test_an_alias_may_be_moved_at_once(registry: Registry) -> None:
    number = registry.find(NAME).number
    assert models(registry, "move", NAME, "phone", number).exit_code == 0
    assert registry.find(f"{NAME}@phone").number == number
    with pytest.raises(Exception, match="no version before"):
        rollback(registry, NAME, "phone")


def test_a_model_of_the_package_is_served_whole_and_follows_no_alias(registry: Registry) -> None:
    (model,) = served_models([NAME], str(registry.root))
    assert (model.name, model.version, model.alias) == (NAME, Registry(SHIPPED).find(NAME).number, None)
    assert sum(file.size_bytes or 0 for file in model.folder.children()) < 10e6
