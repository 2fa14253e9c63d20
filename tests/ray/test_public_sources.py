"""Public datasets in their owners' layouts through the whole ingest: counts, reasons, people, turns."""

from __future__ import annotations

from pathlib import Path

import public_trees as trees
import pytest
from public_datasets import assert_rows_are_the_readers_records, evaluated

from agesearch.data.dataset.records import Manifest, Split
from agesearch.data.dataset.shards import read_rows
from agesearch.data.ingest.run import IngestSpec, ingest
from agesearch.data.sources import SOURCES
from agesearch.specs import CropSpec
from agesearch.storage import Location

pytestmark = pytest.mark.usefixtures("ray_local")

#: Tree -> reader, variant, kind of label, faces, people, and what is left out.
EXPECTED = {
    "vggface2": ("vggface2", None, "teacher", 23, 11, {
        "bad_age": 2, "bad_box": 1, "no_age": 1, "no_face_box": 1, "no_identity": 1, "no_path": 1,
        "path_outside": 1, "repeated": 1,
    }),
    "imdb_wiki_csv": ("imdb-wiki", None, "real", 10, 10, {
        "age_not_1_to_100": 1, "bad_age": 1, "bad_box": 1, "no_age": 1, "no_identity": 1, "path_outside": 1,
        "unknown_birthday": 1,
    }),
    "imdb_wiki_mat": ("imdb-wiki", "imdb", "real", 2, 2, {
        "age_not_1_to_100": 2, "bad_age": 2, "no_face": 1, "path_outside": 1, "second_face": 1,
        "unknown_birthday": 1,
    }),
    "imdb_clean": ("imdb-clean", None, "real", 4, 3, {
        "bad_age": 1, "bad_box": 1, "no_age": 1, "no_identity": 1, "path_outside": 1,
    }),
    "lfw_plus": ("lfw+", None, "apparent", 5, 3, {
        "bad_age": 1, "no_age": 1, "no_path": 1, "path_outside": 1,
    }),
    "appa_real": ("appa-real", "real", "real", 5, None, {"bad_age": 1}),
    "adience": ("adience", None, "group", 5, 5, {
        "bad_age": 1, "no_age": 2, "no_path": 1, "other_age_group": 3, "path_outside": 1, "single_age": 1,
    }),
}  # fmt: skip
#: Faces in the owners' own splits: train, val, test.
SPLITS = {"imdb_clean": (2, 1, 1), "lfw_plus": (0, 0, 5), "appa_real": (2, 1, 2), "adience": (3, 1, 1)}


def _spec(tree: str, tmp_path: Path) -> IngestSpec:
    source, variant, *_ = EXPECTED[tree]
    getattr(trees, tree)(tmp_path / tree, trees.small_images())
    return IngestSpec(
        source=source, root=str(tmp_path / tree), variant=variant, crop=CropSpec(detector="none", size=32)
    )


def _ingest(tree: str, tmp_path: Path) -> Manifest:
    return ingest(_spec(tree, tmp_path), tmp_path / "ds").manifest


@pytest.mark.parametrize("tree", EXPECTED)
def test_an_owners_layout_becomes_a_dataset(tree: str, tmp_path: Path) -> None:
    source, _, label_kind, faces, people, left_out = EXPECTED[tree]
    spec = _spec(tree, tmp_path)
    manifest = ingest(spec, tmp_path / "ds").manifest
    assert (manifest.label_kind, manifest.faces, manifest.subjects) == (label_kind, faces, people)
    assert manifest.left_out == left_out
    assert manifest.notes == SOURCES[source].notes
    assert manifest.licence == SOURCES[source].licence
    if tree in SPLITS:
        assert tuple(manifest.counts[split] for split in ("train", "val", "test")) == SPLITS[tree]
    if tree == "vggface2":
        assert manifest.counts["test"] == 3
    assert_rows_are_the_readers_records(spec, tmp_path / "ds")
    assert evaluated(source, tmp_path / "ds", tmp_path / "model").models[0].kinds


def test_adiences_turns_select_its_folds(tmp_path: Path) -> None:
    manifest = _ingest("adience", tmp_path)
    assert len(manifest.turns) == 5
    tested = []
    for turn in manifest.turns:
        rows = read_rows(Location.of(tmp_path / "ds"), turn.test, ["fold", "subject_id", "age_low"])
        assert set(rows["fold"].to_pylist()) == set(turn.folds[Split.TEST])
        tested += rows["subject_id"].to_pylist()
    assert sorted(tested) == [f"3060125{fold}@N03" for fold in range(5)]
