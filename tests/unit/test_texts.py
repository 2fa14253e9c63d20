"""Columns of texts as numbers: read like arrays of strings, at some bytes a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_sets import Brightness, mixed, write_set

from agesearch.data.dataset.texts import IdsMaker, Texts
from agesearch.measure import files
from agesearch.measure.predictions import Labels, Predictions, predict_faces, read_labels

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
columns = st.lists(st.none() | words, max_size=30)


@given(columns, columns)
def test_a_column_reads_as_its_strings(one: list[str | None], two: list[str | None]) -> None:
    column = Texts.of(one)
    assert (column.tolist(), list(column), column.to_arrow().to_pylist()) == (one, one, one)
    assert [column[index] for index in range(len(one))] == one
    for word in {*one, *two, None}:
        assert (column == word).tolist() == [text == word for text in one]
        assert (column != word).tolist() == [text != word for text in one]
    assert Texts.joined([column, Texts.of(two), column[:1]]).tolist() == [*one, *two, *one[:1]]
    assert list(column.counts().items()) == [(word, one.count(word)) for word in dict.fromkeys(one)]
    known = [text for text in one if text is not None]
    assert [known[i] for i in np.argsort(column.numbers[column.numbers >= 0], kind="stable")] == sorted(known)


@given(columns)
def test_names_can_be_given_anew_and_fall_together(texts: list[str | None]) -> None:
    renamed = Texts.of(texts).renamed(lambda text: "?" if not text else text[0])
    assert renamed.tolist() == [text[0] if text else "?" for text in texts]


def test_ids_are_found_by_name_and_name_their_order() -> None:
    ids = IdsMaker().add(pa.array(["c", "a"])).add(pa.array(["longer", "é"])).made()
    assert ids.tolist() == ["c", "a", "longer", "é"]
    assert ids.numbers[ids.numbers == ids.places(pa.array(["é", "absent"]))[0]].tolist() == [ids.numbers[3]]
    assert ids.places(pa.array(["absent"])).tolist() == [-1]
    assert ids.digest() != ids[::-1].digest() == Texts.of(["é", "longer", "a", "c"]).digest()


def test_a_face_under_test_costs_less_than_a_hundred_bytes_and_nine_a_model(tmp_path: Path) -> None:
    rows = [
        {"sample_id": f"{i:032x}", "age": i % 90, "subject_id": f"p{i // 20}", "sex": "female"}
        for i in range(400)
    ]
    write_set(tmp_path / "ds", rows, "real")
    labels = read_labels(str(tmp_path / "ds"))
    assert _bytes(labels) / len(labels) < 100
    answered = Predictions.of(labels, np.full((400, 101), 1 / 101, np.float32))
    assert (_bytes(answered) - _bytes(labels)) / len(labels) == 9


def _bytes(labels: Labels) -> int:
    values = [getattr(labels, name) for name in labels.__dataclass_fields__]
    arrays = [part for v in values for part in ((v.names, v.numbers) if isinstance(v, Texts) else (v,))]
    return sum(part.nbytes for part in arrays)


def test_predictions_written_in_parts_are_those_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed(tmp_path / "ds")
    models = {"one": Brightness(), "two": Brightness(offset=2.0)}
    found = predict_faces(models, str(tmp_path / "ds"), read_labels(str(tmp_path / "ds")))
    monkeypatch.setattr(files, "_AT_ONCE", 7)
    files.write_predictions(found, str(tmp_path / "p.parquet"))
    assert pq.read_table(tmp_path / "p.parquet").equals(files.predictions_table(found))
