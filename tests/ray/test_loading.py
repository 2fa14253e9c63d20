"""Splits as Ray Datasets: decoded once, the same by both ways, joined with targets by sample id."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from training_faces import write_faces

from agesearch.data import loading
from agesearch.data.arrays import read_arrays
from agesearch.data.records import Split
from agesearch.distill.targets import SCHEMA
from agesearch.errors import InputError
from agesearch.storage import Location

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("loading") / "faces")


def _targets(where: Path, ids: list[str]) -> Location:
    masses = np.eye(101, dtype=np.float16)[[int(name) for name in ids]]
    values = pa.FixedSizeListArray.from_arrays(pa.array(masses.reshape(-1)), 101)
    location = Location.of(where)
    location.write_table(pa.table({"sample_id": ids, "pmf": values}, schema=SCHEMA))
    return location


@pytest.mark.parametrize("here", [8192, 0], ids=["driver", "workers"])
def test_a_split_holds_its_faces_pixels_ages_and_targets(
    faces: Path, tmp_path: Path, here: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "FACES_DECODED_HERE", here)
    targets = _targets(tmp_path / "t.parquet", [f"{index:04d}" for index in reversed(range(60))])
    blocks = loading.resident(loading.load_split(str(faces), Split.VAL, targets=targets))
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    order = np.argsort(columns["sample_id"])
    expected = read_arrays(str(faces), Split.VAL)
    assert columns["sample_id"][order].tolist() == expected.sample_id.tolist()
    np.testing.assert_array_equal(columns["image"][order], expected.images)
    np.testing.assert_array_equal(columns["age"][order], expected.age)
    assert np.isnan(columns["age_std"]).all()
    np.testing.assert_array_equal(columns["teacher_pmf"][:, 0].argmax(axis=1), columns["sample_id"].astype(int))


def test_streaming_shows_every_face_once_in_a_seeded_order(faces: Path) -> None:
    split = loading.load_split(str(faces), Split.TRAIN)
    orders = [
        [name for batch in loading.streamed(split, 8, seed) for name in batch["sample_id"]]
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(set(orders[0]))
    assert len(orders[0]) == 48


def test_wrong_splits_and_targets_are_told(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no faces in split 'test'"):
        loading.load_split(str(faces), Split.TEST)
    with pytest.raises(InputError, match="lack faces"):
        loading.load_split(str(faces), Split.VAL, targets=_targets(tmp_path / "t.parquet", ["0000"]))
    with pytest.raises(InputError, match="not a dataset"):
        loading.load_split(str(tmp_path), Split.VAL)
