"""Public datasets in their owners' layouts through the whole ingest: faces, reasons, people, turns, notes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import more_public_trees as trees
import numpy as np
import pytest
from PIL import Image
from public_datasets import assert_rows_are_the_readers_records, evaluated
from test_public_sources import EXPECTED as OTHERS

from agesearch.data.dataset.records import Turn
from agesearch.data.ingest.run import IngestSpec, ingest
from agesearch.data.sources import SOURCES
from agesearch.specs import CropSpec, SplitSpec

pytestmark = pytest.mark.usefixtures("ray_local")

#: Reader -> its label kind, faces, subjects, and what is left out.
EXPECTED = {
    "utkface": ("real", 8, None, {"bad_name": 4, "bad_age": 1, "not_an_image_name": 1}),
    "fgnet": ("real", 5, 3, {"bad_name": 1, "not_an_image_name": 1}),
    "agedb": ("real", 6, 4, {"bad_age": 1, "bad_name": 2}),
    "morph2": ("real", 6, 4, {
        "inconsistent_age": 1, "inconsistent_birth": 2, "bad_date": 1, "no_age": 1, "bad_age": 1,
        "no_subject": 1, "path_outside": 1, "no_path": 1,
    }),
    "cacd2000": ("real", 6, 5, {"bad_age": 1, "bad_rank": 1, "path_outside": 1}),
    "afad": ("real", 3, None, {"not_in_an_age_folder": 3, "not_an_image_name": 2}),
    "fairface": ("group", 5, None, {"bad_age": 1, "no_age": 1, "path_outside": 1}),
    "paplham": ("real", 4, 3, {
        "no_age": 2, "no_box": 1, "bad_box": 2, "not_in_a_turn": 1, "bad_fold": 1, "bad_age": 1,
        "path_outside": 1, "no_path": 1,
    }),
}  # fmt: skip
#: The owners' own splits: train, val, test.
SPLITS = {"cacd2000": (2, 2, 2), "fairface": (3, 2, 0), "paplham": (1, 1, 2)}


def _put_images() -> Callable[[Path], None]:
    """Images that differ, so that none is a duplicate."""
    random = np.random.default_rng(0)

    def put(path: Path) -> None:
        Image.fromarray(random.integers(0, 255, (60, 50, 3), np.uint8)).save(path, "PNG")

    return put


@pytest.mark.parametrize("name", EXPECTED)
def test_a_published_layout_becomes_a_dataset(name: str, tmp_path: Path) -> None:
    root = getattr(trees, name)(tmp_path / name, _put_images())
    spec = IngestSpec(
        source=name,
        root=str(root),
        images=str(tmp_path / name / "Faces") if name == "paplham" else None,
        crop=CropSpec(detector="none", size=32),
        split=SplitSpec(val=0.3, test=0.3),
    )
    manifest = ingest(spec, tmp_path / "ds").manifest

    label_kind, faces, subjects, left_out = EXPECTED[name]
    assert (manifest.label_kind, manifest.faces, manifest.subjects) == (label_kind, faces, subjects)
    assert manifest.left_out == left_out
    assert manifest.notes == SOURCES[name].notes
    assert manifest.licence == SOURCES[name].licence
    if name in SPLITS:
        assert tuple(manifest.counts[split] for split in ("train", "val", "test")) == SPLITS[name]

    assert_rows_are_the_readers_records(spec, tmp_path / "ds")
    assert evaluated(name, tmp_path / "ds", tmp_path / "model").models[0].kinds
    assert not ingest(spec, tmp_path / "ds").is_new


def test_every_reader_is_ingested_by_a_test() -> None:
    assert {*EXPECTED, *(source for source, *_ in OTHERS.values()), "csv", "folder"} == set(SOURCES)


def test_the_benchmarks_turns_go_into_the_manifest(tmp_path: Path) -> None:
    root = trees.paplham(tmp_path, _put_images())
    spec = IngestSpec(
        source="paplham",
        root=str(root),
        images=str(tmp_path / "Faces"),
        crop=CropSpec(detector="none", size=32),
    )
    assert ingest(spec, tmp_path / "ds").manifest.turns == (
        Turn(name="AgeDB/0", train=(0, 1), val=(2,), test=(3,)),
        Turn(name="AgeDB/1", train=(1, 2), val=(3,), test=(0,)),
    )
