"""An ingest cut while it publishes, or by a full disk, leaves what was there and is finished later."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingest_helpers import content, small_source, without_ray

from agesearch.data.dataset import commit as publishing
from agesearch.data.dataset.commit import finish_publishing
from agesearch.data.dataset.records import MANIFEST
from agesearch.data.ingest import run as ingest_module
from agesearch.data.ingest.run import ingest
from agesearch.errors import AgeSearchError, InputError
from agesearch.storage import Location


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


@pytest.mark.parametrize("step", range(8))
def test_a_run_killed_while_it_publishes_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    source = small_source(tmp_path)
    ingest(source.spec(), tmp_path / "ds")
    source.rows = [row for row in source.rows if row[0] != "3.png"]
    source.add("new.png", 50, shade=70)
    source.write()
    calls = [0]

    def killed(act: object) -> object:
        def wrapper(*arguments: object) -> object:
            if calls[0] == step:
                raise KeyboardInterrupt
            calls[0] += 1
            return act(*arguments)  # type: ignore[operator]

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_move", killed(publishing._move))
        patch.setattr(publishing.Location, "delete", killed(publishing.Location.delete))
        with pytest.raises(AgeSearchError, match="Stopped"):
            ingest(source.spec(), tmp_path / "ds")
    ingest(source.spec(), tmp_path / "ds")
    ingest(source.spec(), tmp_path / "fresh")
    assert content(tmp_path / "ds") == content(tmp_path / "fresh")
    assert not finish_publishing(Location.of(tmp_path / "ds"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_one_line_and_the_run_can_be_repeated(tmp_path: Path, small_disk: Path) -> None:
    source = small_source(tmp_path)
    out = small_disk / "ds"
    before = ingest(source.spec(), out).manifest
    for index in range(300):
        source.add(f"big{index}.png", 40, f"b{index}", shade=1000 + index)
    source.write()
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 150_000))
    with pytest.raises(AgeSearchError, match="No space left on device") as caught:
        ingest(source.spec(), out)
    assert caught.value.exit_code == 1
    assert not isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    assert json.loads((out / MANIFEST).read_text())["content_digest"] == before.content_digest
    assert len((Location.of(out) / "shards").read_table()) == before.faces
    ballast.unlink()
    done = ingest(source.spec(), out)
    assert done.manifest.faces == before.faces + 300
    assert done.changes.kept == 15


def test_the_index_tells_a_full_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> object:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(ingest_module, "survey", full)
    source = small_source(tmp_path)
    with pytest.raises(AgeSearchError, match="disk is full.*SQLITE_TMPDIR"):
        ingest(source.spec(), tmp_path / "ds")
