"""``data reshard``: rows in the order of a source are mixed; what names shards or lies by them follows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingest_helpers import Source, content, lay_in_order, small_source, without_ray
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.data.dataset import commit, layout
from agesearch.data.dataset.records import Manifest, read_manifest
from agesearch.data.ingest import workers
from agesearch.data.ingest.record_index import Changes
from agesearch.data.ingest.run import ingest
from agesearch.data.reading.teacher_outputs import (
    AnswersWriter,
    StoredAnswers,
    answered,
    answers_table,
    grouped_otherwise,
    regroup,
    stored_key,
)
from agesearch.data.reshard import reshard
from agesearch.distill.target_store import stored_targets
from agesearch.errors import ConflictError, InputError
from agesearch.storage import Location, exclusive

TARGETS = ("targets/0123456789abcdef", "targets/0123456789abcdef/fedcba9876543210")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Its dataset ``ds`` is as it was made before rows were mixed, with targets; ``fresh`` is a new one."""
    without_ray(monkeypatch)
    monkeypatch.setattr(layout, "ROWS_PER_SHARD", 4)
    source = small_source(tmp_path)
    ingest(source.spec(), tmp_path / "fresh")
    shutil.copytree(tmp_path / "fresh", tmp_path / "ds")
    lay_in_order(tmp_path / "ds")
    for number, place in enumerate(TARGETS):
        _store(tmp_path / "ds", f"{place}/view.parquet", number)
    return source


def _answers(ids: list[str], shift: int) -> np.ndarray:
    values = np.array([[int(name[:3], 16) % 1000 + shift] for name in ids], np.float32)
    return np.repeat(values, 4, axis=1)


def _store(dataset: Path, place: str, shift: int) -> None:
    folder, manifest = Location.of(dataset), read_manifest(dataset)
    with AnswersWriter(folder / place) as out:
        for shard in (folder / "shards").children():
            ids = shard.read_table()["sample_id"].to_pylist()
            out.write(shard.name, answers_table(ids, "pmf", _answers(ids, shift)))
        out.finish(stored_key(manifest), {"teacher": "t", "answers": "pmf"})


def _check_targets(dataset: Path, manifest: Manifest) -> None:
    for number, place in enumerate(TARGETS):
        file = Location.of(dataset) / place / "view.parquet"
        assert answered(file, stored_key(manifest), manifest.faces)
        stored = StoredAnswers(file, "pmf")
        for shard in (Location.of(dataset) / "shards").children():
            ids = shard.read_table()["sample_id"].to_pylist()
            assert np.array_equal(stored.of(shard.name, np.array(ids)), _answers(ids, number))
    assert {row.state for row in stored_targets(str(dataset))} == {"whole"}


@pytest.mark.parametrize("copied", [False, True])
def test_it_is_what_a_fresh_ingest_makes_and_targets_follow(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "ds").rglob("*.parquet")}
    out = tmp_path / "out" if copied else tmp_path / "ds"
    manifest, is_new = reshard(str(tmp_path / "ds"), str(out) if copied else None)
    assert is_new
    assert content(out) == content(tmp_path / "fresh")
    _check_targets(out, manifest)
    assert not (out / ".staging").exists()
    if copied:
        assert {path: path.read_bytes() for path in (tmp_path / "ds").rglob("*.parquet")} == before
    assert reshard(str(tmp_path / "ds"), str(out) if copied else None) == (manifest, False)
    monkeypatch.setattr(workers, "results", lambda *_: pytest.fail("nothing is new"))
    assert not ingest(source.spec(), out).is_new
    without_ray(monkeypatch)
    source.add("more.png", 50, shade=100)
    source.write()
    assert ingest(source.spec(), out).changes == Changes(kept=15, new=1)


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("step", [0, 3, 4, 6, 9, 11])
def test_a_run_that_is_killed_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    left = [step]

    def killed(act: Any) -> Any:
        def wrapper(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return act(*arguments)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(Location, "write_table", killed(Location.write_table))
        patch.setattr(commit, "_move", killed(commit._move))
        with pytest.raises(KeyboardInterrupt):
            reshard(str(tmp_path / "ds"))
    manifest, _ = reshard(str(tmp_path / "ds"))
    assert content(tmp_path / "ds") == content(tmp_path / "fresh")
    _check_targets(tmp_path / "ds", manifest)


@pytest.mark.usefixtures("source")
def test_targets_of_an_ingest_that_mixed_the_rows_are_regrouped_at_their_next_use(tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "ds" / "targets", tmp_path / "fresh" / "targets")
    manifest = read_manifest(tmp_path / "fresh")
    assert {row.state for row in stored_targets(str(tmp_path / "fresh"))} == {"other shards"}
    for place in TARGETS:
        file = Location.of(tmp_path / "fresh") / place / "view.parquet"
        assert grouped_otherwise(file, manifest)
        regroup(file, manifest, file, file.parent)
        assert not grouped_otherwise(file, manifest)
    _check_targets(tmp_path / "fresh", manifest)


@pytest.mark.usefixtures("source")
def test_what_cannot_be_resharded_is_told_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "ds"
    with pytest.raises(InputError, match="no.* dataset"):
        reshard(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
    for place in (folder, folder / TARGETS[1]):
        with exclusive(Location.of(place), "Something"), pytest.raises(ConflictError, match="in use by"):
            reshard(str(folder))
    (folder / ".staging" / "ledgers").mkdir(parents=True)
    with pytest.raises(ConflictError, match="cut short"):
        reshard(str(folder))
    shutil.rmtree(folder / ".staging")
    other = json.loads((tmp_path / "fresh" / "dataset.json").read_text()) | {"content_digest": "other"}
    (tmp_path / "fresh" / "dataset.json").write_text(json.dumps(other))
    with pytest.raises(ConflictError, match="--replace"):
        reshard(str(folder), str(tmp_path / "fresh"))
    (folder / "shards" / "00001.parquet").unlink()
    with pytest.raises(InputError, match="damaged: its shards hold"):
        reshard(str(folder))
    assert not read_manifest(folder).is_mixed


@pytest.mark.usefixtures("source")
def test_verbs_tell_where_rows_are_not_mixed_and_how_to_mix_them(tmp_path: Path) -> None:
    folder = str(tmp_path / "ds")
    note = f"agesearch data reshard {folder}"
    runner = CliRunner()
    for verb in (
        ["data", "inspect", folder],
        ["data", "check", folder],
        ["data", "inspect", folder, "--json"],
    ):
        assert note in runner.invoke(app, verb).stderr
    told = runner.invoke(app, ["data", "reshard", folder])
    assert told.exit_code == 0
    assert "is mixed now: 12 faces in 4 shards" in told.stderr
    again = runner.invoke(app, ["data", "reshard", folder, "--json"])
    assert json.loads(again.stdout)["is_new"] is False
    assert note not in runner.invoke(app, ["data", "inspect", folder]).stderr
    assert isinstance(runner.invoke(app, ["data", "reshard", folder, "--replace"]).exception, InputError)
