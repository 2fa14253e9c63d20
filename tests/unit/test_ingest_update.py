"""A source that changed: only what is new is worked on, and the dataset equals that of a fresh ingest."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from ingest_helpers import Source, content, later, lay_in_order, small_source, without_ray

from agesearch.data.dataset import layout
from agesearch.data.ingest import workers
from agesearch.data.ingest.record_index import Changes
from agesearch.data.ingest.run import Ingested, ingest
from agesearch.data.sources import SOURCES
from agesearch.errors import ConflictError, InputError
from agesearch.specs import CropSpec
from agesearch.storage import Location

USUAL_NOTES = len(SOURCES["csv"].notes)


@pytest.fixture(autouse=True)
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the records that were worked on."""
    without_ray(monkeypatch)
    seen: list[str] = []
    results = workers.results

    def spy(*arguments: object) -> object:
        for table in results(*arguments):  # type: ignore[arg-type]
            seen.extend(table["path"].to_pylist())
            yield table

    monkeypatch.setattr(workers, "results", spy)
    return seen


def check_equals_fresh(source: Source, out: Path) -> Ingested:
    """Bring ``out`` up to date; it must be what a fresh ingest makes."""
    done = ingest(source.spec(), out)
    fresh = out.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    ingest(source.spec(), fresh)
    assert content(out) == content(fresh)
    assert not (out / ".staging").exists()
    return done


def test_growth_works_on_new_rows_only_and_rewrites_their_shards_only(
    tmp_path: Path, worked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "ROWS_PER_SHARD", 2)
    source = small_source(tmp_path)
    ingest(source.spec(), tmp_path / "ds")
    before = _times_of_shards(tmp_path / "ds")
    for index in range(2):
        source.add(f"more{index}.png", 50, "s1", shade=100 + index)
    source.add("copy.png", 51, shade=7)
    source.write()
    worked.clear()
    done = ingest(source.spec(), tmp_path / "ds")
    assert sorted(worked) == ["/copy.png", "/more0.png", "/more1.png"]
    assert done.changes == Changes(kept=15, new=3)
    assert done.manifest.left_out["duplicate"] == 2
    assert done.manifest.hash_shards == 8
    after = _times_of_shards(tmp_path / "ds")
    assert sum(before.get(name) != time for name, time in after.items()) <= 2
    check_equals_fresh(source, tmp_path / "ds")


def test_a_source_sorted_by_age_and_person_comes_out_as_mixed_as_a_perfect_shuffle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "ROWS_PER_SHARD", 16)
    source, faces, run = Source(tmp_path), 192, 48
    for index in range(faces):
        source.image(f"{index:03d}.png", index, size=24)
        source.add(f"{index:03d}.png", 20 + index // 6, f"p{index // 3:02d}")
    source.write()
    assert ingest(source.spec(), tmp_path / "ds").manifest.hash_shards == 16
    rows = _rows(tmp_path / "ds")
    draw = np.random.default_rng(0)
    for column in ("age", "subject_id"):
        values = np.array([row[column] for row in rows])
        shuffles = [_distinct(draw.permutation(values), run) for _ in range(200)]
        assert _distinct(values, run) == pytest.approx(np.mean(shuffles), rel=0.05)


def _distinct(values: np.ndarray, run: int) -> float:
    """The mean number of distinct values in the runs of so many rows."""
    return float(np.mean([len(set(values[start : start + run])) for start in range(0, len(values), run)]))


def test_two_ages_of_one_face_are_told_and_the_first_is_taken(tmp_path: Path) -> None:
    source = small_source(tmp_path)
    done = ingest(source.spec(), tmp_path / "ds")
    (note,) = done.manifest.notes[USUAL_NOTES:]
    assert "1 row gives a face another age" in note
    left = {row["path"]: row["detail"] for row in _left_out(tmp_path / "ds")}
    assert left[f"{tmp_path}/images/again.png"].endswith("two ages: 77 here, 23 there, which was taken")
    source.rows[12] = ("again.png", "23", "twin")
    source.write()
    assert ingest(source.spec(), tmp_path / "ds").manifest.notes[USUAL_NOTES:] == ()


def test_the_kind_of_label_is_that_of_the_column(tmp_path: Path) -> None:
    source = small_source(tmp_path)
    table = tmp_path / "faces.csv"
    table.write_text(table.read_text().replace("file,age,", "file,apparent_age_avg,", 1))
    assert ingest(source.spec(), tmp_path / "ds").manifest.label_kind == "apparent"
    assert ingest(source.spec(label_kind="teacher"), tmp_path / "told").manifest.label_kind == "teacher"


def test_rows_that_vanish_leave_and_their_twin_takes_over(tmp_path: Path, worked: list[str]) -> None:
    source = small_source(tmp_path)
    ingest(source.spec(), tmp_path / "ds")
    source.rows = [row for row in source.rows if row[0] not in ("3.png", "8.png")]
    source.write()
    worked.clear()
    done = ingest(source.spec(), tmp_path / "ds")
    assert worked == []  # not even the twin's image was read again
    assert done.changes == Changes(kept=13, gone=2)
    rows = {row["age"]: row["subject_id"] for row in _rows(tmp_path / "ds")}
    assert rows[77.0] == "twin"
    assert 23.0 not in rows
    assert "duplicate" not in done.manifest.left_out
    check_equals_fresh(source, tmp_path / "ds")


def test_changed_labels_and_files_are_worked_on(tmp_path: Path, worked: list[str]) -> None:
    source = small_source(tmp_path)
    ingest(source.spec(), tmp_path / "ds")
    source.rows[2] = ("2.png", "61", "s9")
    source.image("6.png", 600, size=44)
    source.image("absent.jpg", 601)
    later(tmp_path / "images" / "7.png")  # another time, the same bytes
    source.write()
    worked.clear()
    done = check_equals_fresh(source, tmp_path / "ds")
    assert sorted(worked[:4]) == ["/2.png", "/6.png", "/7.png", "/absent.jpg"]
    assert done.changes == Changes(kept=12, changed=3)
    assert 61.0 in {row["age"] for row in _rows(tmp_path / "ds")}


def test_the_same_size_and_another_content_is_noticed(tmp_path: Path) -> None:
    source = Source(tmp_path)
    for index in range(3):
        source.add(f"{index}.png", 20 + index, shade=index)
    source.write()
    ingest(source.spec(), tmp_path / "ds")
    path = tmp_path / "images" / "1.png"
    size = path.stat().st_size
    path.write_bytes(b"not an image".ljust(size, b"."))
    later(path)
    done = check_equals_fresh(source, tmp_path / "ds")
    assert done.changes == Changes(kept=2, changed=1)
    assert done.manifest.left_out == {"not_an_image": 1}


def test_a_copied_source_is_read_once_and_changes_nothing(tmp_path: Path, worked: list[str]) -> None:
    source = small_source(tmp_path)
    first = ingest(source.spec(), tmp_path / "ds")
    for path in (tmp_path / "images").iterdir():
        later(path)
    worked.clear()
    again = ingest(source.spec(), tmp_path / "ds")
    assert len(worked) == 14  # all but the file that is not there
    assert not again.is_new
    assert again.manifest.content_digest == first.manifest.content_digest
    worked.clear()
    assert not ingest(source.spec(), tmp_path / "ds").is_new
    assert worked == []


def test_the_order_of_the_source_decides_between_twins(tmp_path: Path, worked: list[str]) -> None:
    source = small_source(tmp_path)
    ingest(source.spec(), tmp_path / "ds")
    source.rows.insert(0, source.rows.pop(12))  # again.png comes first now
    source.add("first.png", 13, shade=5)
    source.rows.insert(0, source.rows.pop())  # and a new twin of 5.png
    source.write()
    done = check_equals_fresh(source, tmp_path / "ds")
    assert done.changes == Changes(kept=15, new=1)
    ages = {row["age"] for row in _rows(tmp_path / "ds")}
    assert {77.0, 13.0} <= ages
    assert not {23.0, 25.0} & ages


@pytest.mark.parametrize("seed", range(2))
def test_any_change_equals_a_fresh_ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(layout, "ROWS_PER_SHARD", 3)
    draw = random.Random(seed)
    source = Source(tmp_path)
    for _ in range(20):
        # Few shades, so that many rows show the same face; equal rows happen too.
        name = f"{draw.randrange(14)}.png"
        source.add(name, draw.randrange(20, 23), draw.choice(["", "a", "b"]), shade=draw.randrange(8))
    source.write()
    ingest(source.spec(), tmp_path / "ds")
    for step in range(2):
        draw.shuffle(source.rows)
        del source.rows[: draw.randrange(8)]
        for index in range(draw.randrange(6)):
            source.add(f"n{step}{index}.png", 40, draw.choice(["", "a"]), shade=draw.randrange(10))
        name, _, subject = source.rows[0]
        source.rows[0] = (name, "44", subject)
        source.image(source.rows[-1][0], draw.randrange(10))
        source.write()
        check_equals_fresh(source, tmp_path / "ds")


def test_another_recipe_asks_and_replaces_whole(tmp_path: Path) -> None:
    source = small_source(tmp_path)
    ingest(source.spec(), tmp_path / "ds")
    source.rows.pop()
    source.write()
    other = source.spec(crop=CropSpec(detector="none", size=64))
    with pytest.raises(ConflictError, match="--replace"):
        ingest(other, tmp_path / "ds")
    done = ingest(other, tmp_path / "ds", replace=True)
    assert done.changes == Changes(new=15)
    assert {row["box"][2] for row in _rows(tmp_path / "ds")} == {40.0}
    assert done.manifest.crop.size == 64


def test_a_dataset_in_the_order_of_its_source_is_mixed_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "ROWS_PER_SHARD", 4)
    source = small_source(tmp_path)
    ingest(source.spec(), tmp_path / "ds")
    lay_in_order(tmp_path / "ds")
    assert not ingest(source.spec(), tmp_path / "ds").is_new
    source.add("more.png", 50, shade=100)
    source.write()
    assert check_equals_fresh(source, tmp_path / "ds").manifest.is_mixed


def test_a_shard_that_is_not_as_the_ledger_says_is_damage(tmp_path: Path) -> None:
    source = small_source(tmp_path)
    ingest(source.spec(), tmp_path / "ds")
    (tmp_path / "ds" / "shards" / "00000.parquet").unlink()
    source.add("new.png", 30, shade=90)
    source.write()
    with pytest.raises(InputError, match="--replace|no Parquet"):
        ingest(source.spec(), tmp_path / "ds")
    assert ingest(source.spec(), tmp_path / "ds", replace=True).manifest.faces == 13


def _times_of_shards(dataset: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (dataset / "shards").iterdir()}


def _rows(dataset: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = (Location.of(dataset) / "shards").read_table().to_pylist()
    return rows


def _left_out(dataset: Path) -> list[dict]:
    return Location.of(dataset / "quarantine.parquet").read_table().to_pylist()
