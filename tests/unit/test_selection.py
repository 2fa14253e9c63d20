"""Parts of a dataset: by split, folds and subjects, any of them empty; older shards stay readable."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agesearch.data.dataset.records import SCHEMA, Part, Split
from agesearch.data.dataset.shards import read_rows, row_batches
from agesearch.errors import InputError

ROWS = [
    {"sample_id": name, "image": b"x", "source": "s", "split": split, "fold": fold, "subject_id": subject}
    for name, split, fold, subject in [
        ("a", "train", 0, "ann"), ("b", "train", 1, "bob"), ("c", "val", 1, None), ("d", "test", 2, "ann"),
    ]
]  # fmt: skip


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "shards").mkdir()
    pq.write_table(
        pa.Table.from_pylist(ROWS, schema=SCHEMA), tmp_path / "shards" / "0.parquet", row_group_size=2
    )
    return tmp_path


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (None, "abcd"),
        (Part(), "abcd"),
        (Split.TRAIN, "ab"),
        (Part(folds=(1, 2)), "bcd"),
        (Part(folds=()), ""),
        (Part(Split.TRAIN, folds=(1,)), "b"),
        (Part(subjects=("ann",)), "ad"),
        (Part(subjects=()), ""),
        (Part(without=("ann",)), "b"),
        (Part(without=()), "abd"),
    ],
)
def test_rows_of_a_part(dataset: Path, part: Part | Split | None, expected: str) -> None:
    assert "".join(read_rows(dataset, part, ["sample_id"])["sample_id"].to_pylist()) == expected
    batches = list(row_batches(dataset, part, ["sample_id"], rows=1))
    assert all(batch.num_rows == 1 for batch in batches)
    assert "".join(batch["sample_id"][0].as_py() for batch in batches) == expected


def test_parts_say_what_they_are() -> None:
    assert str(Part.of(Split.VAL)) == "split 'val'"
    assert str(Part(folds=(1, 2))) == "folds 1, 2"
    assert str(Part.of(None)) == "the whole dataset"


def test_columns_that_an_older_shard_lacks_are_null(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    older = pa.schema([field for field in SCHEMA if field.name not in ("weight", "label_kind")])
    pq.write_table(pa.Table.from_pylist(ROWS, schema=older), tmp_path / "shards" / "0.parquet")
    assert read_rows(tmp_path, Split.VAL, ["sample_id", "weight", "label_kind"]).to_pylist() == [
        {"sample_id": "c", "weight": None, "label_kind": None}
    ]


def test_damage_is_one_clear_error(dataset: Path) -> None:
    (dataset / "shards" / "0.parquet").write_bytes(b"torn")
    with pytest.raises(InputError, match="is damaged: .* Ingest it again"):
        read_rows(dataset, None, ["sample_id"])
    with pytest.raises(InputError, match="is not a dataset"):
        list(row_batches(dataset / "shards", None, ["sample_id"]))
