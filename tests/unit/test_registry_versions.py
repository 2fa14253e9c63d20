"""The registry: versions are immutable and checked, aliases move and remember, names cannot escape."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from agesearch.cli.main import app
from agesearch.deploy.integrity import SUMS
from agesearch.deploy.registry import CHAMPION, Registry, Version, checked_name, model_folder, resolve
from agesearch.errors import ConflictError, InputError
from agesearch.models.manifest import ModelManifest
from agesearch.specs import CropSpec, ModelSpec


def add(registry: Registry, name: str, content_digest: str = "d") -> Version:
    with registry.locked(name):
        number = registry.next_number(name)
        manifest = ModelManifest(
            kind="version",
            model=ModelSpec(arch="lcnet_035"),
            crop=CropSpec(),
            name=name,
            version=number,
            provenance={"content_digest": content_digest},
        )
        files = {"model.onnx": b"graph", "manifest.json": manifest.model_dump_json().encode()}
        return registry.add(name, number, files)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


def test_versions_count_up_and_aliases_remember_their_moves(registry: Registry) -> None:
    first, second = add(registry, "ages"), add(registry, "ages", "other")
    registry.move_alias(first, CHAMPION)
    registry.move_alias(second, CHAMPION)
    registry.move_alias(second, CHAMPION)  # where it points already: no move
    registry.move_alias(first, "candidate")
    (candidate, champion) = registry.aliases("ages")
    assert (candidate.version, champion.version) == ("0001", "0002")
    assert [(move.source, move.target) for move in champion.history] == [(None, "0001"), ("0001", "0002")]
    assert all(move.who and move.when for move in champion.history)
    assert registry.find("ages").number == "0002"
    assert registry.find("ages@candidate").number == registry.find("ages:1").number == "0001"
    assert registry.find("ages:0002").aliases == (CHAMPION,)
    assert registry.names() == ["ages"]


def test_versions_beyond_four_digits_stay_in_order(registry: Registry) -> None:
    version = add(registry, "ages")
    for number in (9999, 10000):
        registry.add("ages", number, {"manifest.json": (version.folder / "manifest.json").read_bytes()})
    assert [version.number for version in registry.versions("ages")] == ["0001", "9999", "10000"]
    assert registry.next_number("ages") == 10001


def test_a_version_is_never_overwritten(registry: Registry) -> None:
    add(registry, "ages")
    with pytest.raises(InputError, match="never overwritten"):
        registry.add("ages", 1, {"manifest.json": b"{}"})


def test_the_same_content_is_found_again(registry: Registry) -> None:
    add(registry, "ages", "one")
    add(registry, "ages", "two")
    found = registry.with_digest("ages", "one")
    assert found is not None
    assert found.number == "0001"
    assert registry.with_digest("ages", "three") is None
    assert registry.with_digest("unknown", "one") is None


@pytest.mark.parametrize("file", ["model.onnx", "manifest.json"])
def test_a_changed_file_is_named(registry: Registry, file: str) -> None:
    version = add(registry, "ages")
    registry.move_alias(version, CHAMPION)
    assert resolve(registry.root, "ages") == version.folder
    path = version.folder.local() / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InputError, match=f"{file}' was changed"):
        resolve(registry.root, "ages")
    path.unlink()
    with pytest.raises(InputError, match=f"{file}' is missing"):
        resolve(registry.root, "ages:1")


def test_what_cannot_be_read_hides_nothing_else(registry: Registry) -> None:
    for digest in ("a", "b", "c"):
        registry.move_alias(add(registry, "ages", digest), CHAMPION)
    place = registry.folder("ages")
    (place / "versions" / "0002" / "manifest.json").write_text("{")
    (place / "aliases" / "candidate.json").write_text("[]")
    add(registry, "other")
    (registry.folder("torn") / "versions" / "0001").make_dir()
    assert registry.find("ages").number == "0003"
    with pytest.raises(InputError, match=r"candidate\.json"):
        registry.find("ages@candidate")
    found = registry.with_digest("ages", "a")
    assert found is not None
    assert found.number == "0001"

    def models(*words: str) -> Result:
        return CliRunner().invoke(app, ["models", *words, "--registry", str(registry.root)])

    listed = models("ages", "--json")
    shown = json.loads(listed.stdout)
    assert [one["version"] for one in shown["versions"] if one["manifest"]] == ["0001", "0003"]
    assert "manifest.json" in shown["versions"][1]["fault"]
    assert [alias["alias"] for alias in shown["aliases"]] == [CHAMPION]
    assert isinstance(listed.exception, InputError)
    assert "unreadable" in models("ages").stdout
    names = models("--json")
    here = [row["name"] for row in json.loads(names.stdout) if row["place"] == "registry"]
    assert here == ["ages", "other"]
    assert "2 more like it" in str(names.exception)
    assert models("other").exit_code == 0


def test_sums_that_leave_the_folder_or_the_manifest_out_are_refused(registry: Registry) -> None:
    version = add(registry, "ages")
    sums = version.folder.local() / SUMS
    sums.write_text("0" * 64 + "  ../../secret\n" + sums.read_text())
    with pytest.raises(InputError, match="damaged"):
        resolve(registry.root, "ages:1")
    sums.write_text("")
    with pytest.raises(InputError, match="damaged"):
        resolve(registry.root, "ages:1")


def _copied(folder: Path) -> str:
    shutil.copytree(folder, folder.parent / "0002")
    return "ages:2"


def _renamed(folder: Path) -> str:
    folder.parent.parent.rename(folder.parent.parent.parent / "faces")
    return "faces:1"


def _with_a_stranger(folder: Path) -> str:
    (folder / "model.int8.onnx").write_bytes(b"not listed")
    return "ages:1"


def _with_a_linked_file(folder: Path) -> str:
    (folder / "model.onnx").rename(folder.parent / "model.onnx")
    (folder / "model.onnx").symlink_to(folder.parent / "model.onnx")
    return "ages:1"


def _linked(folder: Path) -> str:
    (folder.parent / "0002").symlink_to(folder)
    return "ages:2"


def _without_sums(folder: Path) -> str:
    (folder / SUMS).unlink()
    shutil.copytree(folder, folder.parent / "0002")
    (folder / SUMS).write_text("")
    return "ages:2"


def _with_another_manifest(folder: Path) -> str:
    """A manifest that tells another digest of the network than the sums, which were made to fit it."""
    manifest = ModelManifest.model_validate_json((folder / "manifest.json").read_text())
    text = manifest.model_copy(update={"files": {"model.onnx": "0" * 64}}).model_dump_json()
    old = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(text)
    sums = (folder / SUMS).read_text()
    (folder / SUMS).write_text(sums.replace(old, hashlib.sha256(text.encode()).hexdigest()))
    return "ages:1"


@pytest.mark.parametrize(
    ("tampered", "cause"),
    [
        (_copied, "holds the version ages:0001 in the place of ages:0002"),
        (_renamed, "holds the version ages:0001 in the place of faces:0001"),
        (_with_a_stranger, "'.*model.int8.onnx' is none of the version's files"),
        (_with_a_linked_file, "'.*model.onnx' is a symbolic link"),
        (_linked, "'.*0002' is a symbolic link"),
        (_without_sums, "ages:0002 is not whole: '.*0002' has no SHA256SUMS"),
        (_with_another_manifest, "manifest.json and SHA256SUMS differ on 'model.onnx'"),
    ],
)
def test_a_version_that_is_not_what_its_folder_says_is_refused(
    registry: Registry, tampered: Callable[[Path], str], cause: str
) -> None:
    version = add(registry, "ages")
    resolve(registry.root, "ages:1")
    reference = tampered(version.folder.local())
    with pytest.raises(InputError, match=cause):
        resolve(registry.root, reference)


def test_a_half_written_version_does_not_exist_and_is_cleared_away(registry: Registry) -> None:
    version = add(registry, "ages")
    leftover = version.folder.local().parent / ".0002.abcd.tmp"
    leftover.mkdir()
    (version.folder.local().parent / "0003").mkdir()  # as on an object store, where the sums come last
    assert [known.number for known in registry.versions("ages")] == ["0001"]
    assert add(registry, "ages").number == "0002"
    assert not leftover.exists()


def test_two_writers_exclude_each_other(registry: Registry) -> None:
    with registry.locked("ages"), pytest.raises(ConflictError, match="in use"), registry.locked("ages"):
        pass


def test_what_is_not_there_is_said_with_what_is(registry: Registry) -> None:
    with pytest.raises(InputError, match="has no model yet"):
        registry.find("ages")
    add(registry, "ages")
    with pytest.raises(InputError, match="Did you mean 'ages'"):
        registry.find("age")
    with pytest.raises(InputError, match="alias of ages 'champion'"):
        registry.find("ages")
    with pytest.raises(InputError, match="version of ages '0007'"):
        registry.find("ages:7")


def test_a_model_of_the_package_answers_to_its_name_unless_there_is_one_here(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Registry(tmp_path / "shipped")
    monkeypatch.setattr("agesearch.deploy.registry.SHIPPED", str(tmp_path / "shipped"))
    theirs = add(shipped, "portraits")
    shipped.move_alias(theirs, "champion")
    assert registry.find("portraits").folder == registry.find("portraits:1").folder == theirs.folder
    mine = add(registry, "portraits", "other")
    registry.move_alias(mine, "champion")
    assert registry.find("portraits").folder == mine.folder
    with pytest.raises(InputError):
        registry.find("nobody")


@pytest.mark.parametrize(
    "reference", ["", "a:b", "a@b:1", "a:1@b", "a:-1", "a::1", "a:²", "../a", "a/b", "A"]
)
def test_a_malformed_reference_is_refused(registry: Registry, reference: str) -> None:
    with pytest.raises(InputError):
        registry.find(reference)


@given(st.text(max_size=80))
def test_no_name_leaves_the_registry(name: str) -> None:
    try:
        assert checked_name(name) == name
    except InputError:
        return
    assert name.isascii()
    assert "/" not in name
    assert ".." not in name
    assert not name.startswith((".", "-"))


def test_a_model_is_a_folder_first_and_a_registry_name_next(registry: Registry, tmp_path: Path) -> None:
    version = add(registry, "ages")
    registry.move_alias(version, CHAMPION)
    assert model_folder("ages", registry.root) == model_folder("ages:1", registry.root) == version.folder
    assert model_folder(str(version.folder), registry.root) == version.folder
    with pytest.raises(InputError, match=r"no manifest\.json"):
        model_folder(str(tmp_path / "absent"), registry.root)
    with pytest.raises(InputError, match="no folder 'agse', and as a registry name: .*Did you mean 'ages'"):
        model_folder("agse", registry.root)
