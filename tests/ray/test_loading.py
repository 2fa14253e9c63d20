"""Splits as Ray Datasets: decoded once, the same by both ways, joined with targets by sample id."""

from pathlib import Path

import numpy as np
import pytest
from training_faces import write_faces

from agesearch.data.dataset.arrays import read_arrays
from agesearch.data.dataset.records import Split
from agesearch.data.reading import loading
from agesearch.data.reading.teacher_outputs import AnswersWriter, answers_table
from agesearch.errors import InputError
from agesearch.storage import Location

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("loading") / "faces")


def _targets(where: Path, ids: list[str]) -> Location:
    masses = np.eye(101, dtype=np.float16)[[int(name) for name in ids]]
    location = Location.of(where)
    location.write_table(answers_table(ids, "pmf", masses))
    return location


def _by_shard(where: Path, column: str, width: int, view: int) -> Location:
    """Answers in row groups by shard, as the two shards of the faces have them: ``10 * number + view``."""
    with AnswersWriter(Location.of(where)) as out:
        for shard in (1, 0):
            numbers = np.arange(shard, 60, 2)
            values = np.tile((10 * numbers + view)[:, None], (1, width))
            out.write(f"{shard}.parquet", answers_table([f"{n:04d}" for n in numbers], column, values))
        out.finish("key", {})
    return Location.of(where)


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
    assert columns["teacher_pmf"].shape == (12, 1, 101)
    np.testing.assert_array_equal(
        columns["teacher_pmf"][:, 0].argmax(axis=1), columns["sample_id"].astype(int)
    )


@pytest.mark.parametrize("here", [8192, 0], ids=["driver", "workers"])
def test_every_view_has_its_answers_by_shard(
    faces: Path, tmp_path: Path, here: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "FACES_DECODED_HERE", here)
    targets = [_by_shard(tmp_path / f"{view}.parquet", "pmf", 101, view) for view in range(3)]
    features = [_by_shard(tmp_path / f"f{view}.parquet", "features", 5, view) for view in range(3)]
    split = loading.load_split(str(faces), Split.TRAIN, targets=targets, features=features)
    for block in loading.resident(split):
        wanted = 10.0 * block["sample_id"].astype(int)[:, None] + np.arange(3)
        np.testing.assert_array_equal(block["teacher_pmf"][..., 7], wanted)
        np.testing.assert_array_equal(block["teacher_features"], np.repeat(wanted[..., None], 5, axis=2))
        assert block["teacher_features"].dtype == np.float16
    with pytest.raises(InputError, match="holds other answers"):
        loading.load_split(str(faces), Split.TRAIN, targets=features)


@pytest.mark.parametrize("here", [8192, 0, None], ids=["driver", "workers", "stored"])
def test_faces_are_in_the_order_of_the_shards(
    faces: Path, here: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if here is None:
        monkeypatch.setattr(loading, "RESIDENT_BYTES", 0)
    else:
        monkeypatch.setattr(loading, "FACES_DECODED_HERE", here)
    split = loading.load_split(str(faces), Split.TRAIN)
    assert (split.held is None, split.stored.sizes, split.count()) == (here is None, (24, 24), 48)
    numbers = [int(name) for block in loading.resident(split) for name in block["sample_id"]]
    assert numbers == sorted(numbers, key=lambda number: (number % 2, number))
    assert len(split.stored.ages()) == 48


def test_wrong_splits_and_targets_are_told(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no faces in split 'test'"):
        loading.load_split(str(faces), Split.TEST)
    with pytest.raises(InputError, match="lack faces"):
        loading.load_split(str(faces), Split.VAL, targets=_targets(tmp_path / "t.parquet", ["0000"]))
    with pytest.raises(InputError, match="not a dataset"):
        loading.load_split(str(tmp_path), Split.VAL)
