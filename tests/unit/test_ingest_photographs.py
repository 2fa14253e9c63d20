"""A photograph is one photograph: its faces share a split, in fresh and in incremental ingests, and are known
for one picture by mixtures and checks.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ingest_helpers import content, without_ray
from PIL import Image

from agesearch.data.audit.check import check_dataset
from agesearch.data.dataset.records import SCHEMA_VERSION, Split, read_manifest
from agesearch.data.dataset.shards import read_rows
from agesearch.data.dataset.splits import split_of_key
from agesearch.data.ingest.run import IngestSpec, ingest
from agesearch.data.mixture import MixtureSpec, mix
from agesearch.errors import ConflictError
from agesearch.progress import Progress
from agesearch.reporting.datacard import write_datacard
from agesearch.specs import CropSpec, SplitSpec, parse_spec

SPLIT = SplitSpec(val=0.3, test=0.3)
_HEADER = "file,age,subject,box_x,box_y,box_w,box_h,split"


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


@dataclass
class Photographs:
    """A CSV of faces with boxes, and their images."""

    root: Path
    rows: list[str] = field(default_factory=list)

    def face(self, name: str, subject: str = "", box: int | None = None, split: str = "") -> None:
        """A face of a photograph: ``box`` numbers its place, None gives none."""
        path = self.root / "images" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)
            pixels = np.random.default_rng(shade).integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(path)
        place = ",,," if box is None else f"{box % 3 * 13},{box // 3 * 13},12,12"
        self.rows.append(f"{name},30,{subject},{place},{split}")

    def spec(self) -> IngestSpec:
        """The ingest of what stands there now."""
        (self.root / "faces.csv").write_text("\n".join([_HEADER, *self.rows]) + "\n")
        return IngestSpec(
            source="csv",
            root=str(self.root / "faces.csv"),
            images=str(self.root / "images"),
            crop=CropSpec(detector="none", size=32),
            split=SPLIT,
        )


def _rows(dataset: Path) -> list[dict[str, Any]]:
    columns = ["sample_id", "photo_digest", "subject_id", "split"]
    rows: list[dict[str, Any]] = read_rows(str(dataset), None, columns).to_pylist()
    return rows


def _splits(dataset: Path, by: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in _rows(dataset):
        found.setdefault(row[by], set()).add(row["split"])
    return found


def _update_equals_fresh(source: Photographs, out: Path) -> None:
    ingest(source.spec(), out)
    fresh = out.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    ingest(source.spec(), fresh)
    assert content(out) == content(fresh)


def _subjects_of_two_splits() -> Iterator[str]:
    """Names whose splits differ, each from the one before."""
    last = None
    for number in range(1000):
        split = split_of_key(f"subject:s{number:03d}", SPLIT)
        if split is not last:
            last = split
            yield f"s{number:03d}"


def test_all_boxes_of_a_photograph_of_nobody_known_share_its_split(tmp_path: Path) -> None:
    source = Photographs(tmp_path)
    for number in range(12):
        for box in (None, 0, 4):
            source.face(f"{number}.png", box=box)
    ingest(source.spec(), tmp_path / "ds")
    found = _splits(tmp_path / "ds", "photo_digest")
    digests = {hashlib.sha256(path.read_bytes()).hexdigest()[:32] for path in (tmp_path / "images").iterdir()}
    assert found.keys() == digests
    assert len({row["sample_id"] for row in _rows(tmp_path / "ds")}) == 36
    assert all(len(splits) == 1 for splits in found.values())
    assert len(set.union(*found.values())) == 3


def test_persons_on_one_photograph_share_a_split_with_all_their_photographs(tmp_path: Path) -> None:
    names = _subjects_of_two_splits()
    first, second, third, alone = (next(names) for _ in range(4))
    source = Photographs(tmp_path)
    for subject in (first, second, third, alone):
        source.face(f"{subject}-alone.png", subject)
    source.face("both.png", first, 0)
    source.face("both.png", second, 4)
    source.face("with-a-stranger.png", second, 0)
    source.face("with-a-stranger.png", "", 4)
    source.face("owned.png", first, 0, split="test")
    source.face("owned.png", third, 4, split="train")
    ingest(source.spec(), tmp_path / "ds")
    by_subject = _splits(tmp_path / "ds", "subject_id")
    whole = split_of_key(f"subject:{first}", SPLIT)
    assert by_subject[second] == {whole}
    assert by_subject[first] == {whole, Split.TEST}  # the owner's word for one photograph stands
    assert by_subject[alone] == {split_of_key(f"subject:{alone}", SPLIT)}
    record = check_dataset(tmp_path / "ds")
    assert record.counts["photographs_across"] == 1  # the owner's


def test_ties_that_come_and_go_leave_what_a_fresh_ingest_makes(tmp_path: Path) -> None:
    names = _subjects_of_two_splits()
    first, second = next(names), next(names)
    source, out = Photographs(tmp_path), tmp_path / "ds"
    for subject in (first, second):
        for number in range(3):
            source.face(f"{subject}-{number}.png", subject, 0)
    ingest(source.spec(), out)
    apart = _splits(out, "subject_id")
    assert apart[first] != apart[second]
    source.face("both.png", first, 0)
    source.face("both.png", second, 4)
    _update_equals_fresh(source, out)
    tied = _splits(out, "subject_id")
    assert tied[first] == tied[second] == apart[first]
    source.face("more.png", second, 3)
    _update_equals_fresh(source, out)
    source.rows = [row for row in source.rows if not row.startswith("both")]
    _update_equals_fresh(source, out)
    assert _splits(out, "subject_id") == apart


@pytest.mark.parametrize("seed", range(2))
def test_any_changes_end_as_a_fresh_ingest(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    source, out = Photographs(tmp_path), tmp_path / "ds"

    def grow(faces: int) -> None:
        for _ in range(faces):
            subject = draw.choice(["", "", *"abcdefgh"])
            source.face(f"{draw.randrange(12)}.png", subject, draw.choice([None, 0, 2, 4, 6]))

    grow(20)
    ingest(source.spec(), out)
    for _ in range(3):
        draw.shuffle(source.rows)
        del source.rows[: draw.randrange(9)]
        grow(draw.randrange(7))
        _update_equals_fresh(source, out)
        assert all(len(found) == 1 for found in _splits(out, "photo_digest").values())


def _make_older(dataset: Path, spec: IngestSpec) -> None:
    """The dataset as the version before made it: no digest of the photograph, no splits that are shared."""
    for shard in (dataset / "shards").iterdir():
        pq.write_table(pq.read_table(shard).drop_columns(["photo_digest"]), shard)
    recipe = spec.recipe_digest("none", 2)
    there = read_manifest(dataset)
    older = {"schema_version": 2, "spec_digest": recipe, "crop": there.crop.model_copy(update={"recipe": 1})}
    manifest = there.model_copy(update=older)
    (dataset / "dataset.json").write_text(manifest.model_dump_json())
    ledger = pq.read_table(dataset / "ledger.parquet")
    facts = ledger.schema.metadata | {b"agesearch.recipe": recipe.encode()}
    older = ledger.drop_columns(["photo_digest", "moved_to"]).replace_schema_metadata(facts)
    pq.write_table(older, dataset / "ledger.parquet")


def test_a_dataset_of_before_opens_is_up_to_date_and_says_what_it_lacks(tmp_path: Path) -> None:
    source = Photographs(tmp_path)
    for number in range(12):
        source.face(f"{number}.png", f"s{number}", None if number % 2 else 0)
    ingest(source.spec(), tmp_path / "ds")
    _make_older(tmp_path / "ds", source.spec())
    assert not ingest(source.spec(), tmp_path / "ds").is_new
    assert all(row["photo_digest"] is None for row in _rows(tmp_path / "ds"))
    record = check_dataset(tmp_path / "ds")
    assert any("12 of 12 faces do not name their photograph" in warning for warning in record.warnings)
    source.face("new.png", "new")
    with pytest.raises(ConflictError, match="earlier version of agesearch.* --replace"):
        ingest(source.spec(), tmp_path / "ds")
    assert ingest(source.spec(), tmp_path / "ds", replace=True).manifest.schema_version == SCHEMA_VERSION
    assert not any("photograph" in warning for warning in check_dataset(tmp_path / "ds").warnings)


@pytest.mark.parametrize("older", [False, True])
def test_what_one_reader_tests_is_not_trained_on_through_another(tmp_path: Path, older: bool) -> None:
    whole, boxed = Photographs(tmp_path), Photographs(tmp_path / "boxed")
    boxed.root.mkdir()
    for number in range(6):
        whole.face(f"{number}.png", split="test" if number < 3 else "train")
    shutil.copytree(tmp_path / "images", tmp_path / "boxed" / "images")
    for number in range(6):
        boxed.face(f"{number}.png", f"s{number}", 0, split="train")
        boxed.face(f"{number}.png", f"t{number}", 4, split="train")
    ingest(whole.spec(), tmp_path / "a")
    ingest(boxed.spec(), tmp_path / "b")
    if older:
        _make_older(tmp_path / "a", whole.spec())
    spec = {"datasets": [{"data": str(tmp_path / name), "name": name} for name in "ba"]}
    manifest, _ = mix(parse_spec(MixtureSpec, spec, "the mixture"), tmp_path / "mixed")
    assert manifest.left_out == {"photo_in_other_split": 6}
    assert manifest.counts == {"train": 9, "val": 0, "test": 3}
    assert any("a: it was made before photographs" in note for note in manifest.notes) is older
    assert check_dataset(tmp_path / "mixed").counts["photographs_across"] == 0


def test_one_file_in_two_splits_is_a_leak_though_its_faces_look_nothing_alike(tmp_path: Path) -> None:
    source = Photographs(tmp_path)
    for number in range(4):
        source.face(f"{number}.png", f"s{number}", 0, split="train")
    source.face("0.png", "other", 4, split="test")
    source.face("1.png", "third", 4, split="train")
    ingest(source.spec(), tmp_path / "ds")
    record = check_dataset(tmp_path / "ds")
    assert (record.verdict, record.counts["photographs_across"]) == ("leaks", 1)
    assert record.counts["photographs_within"] == 0  # two faces of one file are no copies of each other
    [copies] = record.copies
    assert {face.split for face in copies.faces} == {"train", "test"}
    assert (copies.distance, copies.similarity) == (0, 1.0)
    assert record.suspects == ()


def test_every_stage_of_the_data_verbs_says_where_it_stands(tmp_path: Path) -> None:
    source = Photographs(tmp_path)
    for number in range(6):
        source.face(f"{number}.png", f"s{number}")
    heard: list[Progress] = []
    ingest(source.spec(), tmp_path / "ds", on_progress=heard.append)
    check_dataset(tmp_path / "ds", on_progress=heard.append)
    write_datacard(str(tmp_path / "ds"), str(tmp_path / "card.html"), on_progress=heard.append)
    last = {update.stage: update for update in heard}
    assert list(last) == ["survey", "ingest", "assemble", "check", "compare", "inspect", "contact sheet"]
    assert all(update.done == update.total for update in last.values())
