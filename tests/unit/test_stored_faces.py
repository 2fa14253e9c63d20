"""The faces of a part as they are stored: read shard by shard, with their answers, and no more than asked."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest, Part, Split, read_manifest
from agesearch.data.images.crop import encode_crop
from agesearch.data.reading import stored_faces
from agesearch.data.reading.stored_faces import StoredFaces
from agesearch.data.reading.teacher_outputs import AnswersWriter, answers_table, data_key
from agesearch.errors import InputError
from agesearch.specs import CropSpec
from agesearch.storage import Location
from agesearch.training.faces.shards import ShardPool

CROP = CropSpec(size=32, jpeg_quality=95)
#: Faces of the training split in each of four shards; one in three belongs to the validation split.
SHARD_ROWS = (9, 3, 0, 6)


@pytest.fixture
def dataset(tmp_path: Path) -> Location:
    folder, number = Location.of(tmp_path / "faces"), 0
    for shard, count in enumerate(SHARD_ROWS):
        rows = []
        for place in range(max(count, 1)):
            split = "val" if count == 0 or place % 3 == 2 else "train"
            image = np.full((32, 32, 3), 3 * number, np.uint8)
            rows.append(
                {
                    "sample_id": f"f{99 - number}",
                    "image": encode_crop(image, CROP),
                    "age": None if number == 4 else float(number),
                    "subject_id": f"p{number % 2}",
                    "source": "s",
                    "split": split,
                }
            )
            number += 1
        (folder / SHARDS / f"{shard}.parquet").write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    manifest = Manifest(name="n", label_kind="real", crop=CROP, counts={"train": 12, "val": 7})
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))
    return folder


def _answers(dataset: Location, view: int, *, lacking: str = "", key: str = "other") -> Location:
    """PMFs whose first value is ``10 * age + view`` of a face."""
    out = dataset / "targets" / f"{view}{lacking}{key}.parquet"
    with AnswersWriter(out) as writer:
        for shard in sorted(child.name for child in (dataset / SHARDS).children()):
            table = (dataset / SHARDS / shard).read_table(["sample_id"])
            ids = [name for name in table["sample_id"].to_pylist() if name != lacking]
            values = [np.full(101, 10 * (99 - int(name[1:])) + view) for name in reversed(ids)]
            writer.write(shard, answers_table(ids[::-1], "pmf", np.array(values).reshape(-1, 101)))
        writer.finish(key, {})
    return out


def test_faces_are_numbered_in_their_part_and_read_in_the_order_asked_for(dataset: Location) -> None:
    faces = StoredFaces.of(dataset, Split.TRAIN, targets=[_answers(dataset, view) for view in (0, 1)])
    assert (faces.shards, faces.sizes, len(faces)) == (("0.parquet", "1.parquet", "3.parquet"), (6, 2, 4), 12)
    assert faces.widths == {"teacher_pmf": (2, 101)}
    faces = pickle.loads(pickle.dumps(faces))
    some = faces.read(0, np.array([3, 0, 5]), view=1)
    assert some.columns["sample_id"].tolist() == ["f95", "f99", "f92"]
    np.testing.assert_array_equal(some.columns["age"], [np.nan, 0, 7])
    np.testing.assert_array_equal(some.columns["teacher_pmf"][:, 5], [41, 1, 71])
    pixels = [cv2.imdecode(np.frombuffer(jpeg.as_py(), np.uint8), cv2.IMREAD_COLOR) for jpeg in some.image]
    assert [int(image[4, 4, 0]) for image in pixels] == [12, 0, 21]
    assert faces.read(2, np.arange(4)).columns["teacher_pmf"].shape == (4, 2, 101)


def test_numbers_are_read_without_images(dataset: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    read = stored_faces.row_batches

    def spy(folder: Any, part: Any, columns: list[str], **options: Any) -> Any:
        asked.append(columns)
        return read(folder, part, columns, **options)

    monkeypatch.setattr(stored_faces, "row_batches", spy)
    faces = StoredFaces.of(dataset, Part(Split.VAL, subjects=("p0",)))
    assert faces.ages().tolist() == [2.0, 8.0, 12.0, 18.0]
    columns = ShardPool(faces, 32).columns
    assert columns["age"].tolist() == [2.0, 8.0, 12.0, 18.0]
    assert not any("image" in names or "sample_id" in names for names in asked)


def test_answers_that_lack_faces_are_told_before_training(dataset: Location) -> None:
    with pytest.raises(InputError, match="lack faces of"):
        StoredFaces.of(dataset, Split.TRAIN, targets=_answers(dataset, 0, lacking="f99"))
    StoredFaces.of(dataset, Split.VAL, targets=_answers(dataset, 0, lacking="f99"))
    short = _answers(dataset, 1, lacking="f98")
    with pytest.raises(InputError, match="lack faces of"):
        StoredFaces.of(dataset, Split.VAL, targets=[_answers(dataset, 0), short])


def test_a_shard_that_changed_meanwhile_is_told(dataset: Location) -> None:
    faces = StoredFaces.of(dataset, Split.TRAIN)
    (dataset / SHARDS / "3.parquet").delete()
    with pytest.raises(InputError, match="damaged|changed"):
        faces.read(2, np.arange(4))
    (dataset / SHARDS / "1.parquet").write_table((dataset / SHARDS / "0.parquet").read_table())
    with pytest.raises(InputError, match="changed while it was read"):
        faces.read(1, np.arange(2))


def test_a_node_without_the_dataset_says_so(dataset: Location) -> None:
    faces = StoredFaces.of(dataset, Split.TRAIN, targets=_answers(dataset, 0))
    dataset.delete()
    assert faces.widths == {"teacher_pmf": (1, 101)}  # asked for on nodes that get decoded faces
    with pytest.raises(
        InputError, match="This node does not see .*faces': put the dataset into a folder that"
    ):
        faces.read(0, np.arange(1))


def test_answers_for_this_very_dataset_are_taken_at_their_word(
    dataset: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _answers(dataset, 0, key=data_key(read_manifest(dataset)))
    monkeypatch.setattr(stored_faces.StoredAnswers, "has", None)
    assert len(StoredFaces.of(dataset, Split.TRAIN, targets=file)) == 12
