"""The scale bench: its generated faces, what it says of mixing, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from agesearch.bench.scale import run
from agesearch.bench.scale.faces import PICTURES, split_of_person, write_dataset
from agesearch.bench.scale.mixing import _counts, epoch_mixing
from agesearch.bench.scale.run import measure_scale
from agesearch.cli.main import app
from agesearch.data.dataset.records import Split
from agesearch.data.dataset.shards import read_rows
from agesearch.errors import AgeSearchError, InputError
from agesearch.specs import ModelSpec, TrainSpec
from agesearch.storage import Location

FACES = 390
SPEC = TrainSpec(model=ModelSpec(arch="lcnet_035", input_size=32))


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Location:
    place = Location.of(tmp_path_factory.mktemp("scale") / "faces")
    assert write_dataset(place, FACES).faces == FACES
    return place


def test_no_two_faces_are_equal_and_persons_come_by_their_age(faces: Location) -> None:
    rows = sorted(
        read_rows(faces, None, ["subject_id", "age", "split", "image"]).to_pylist(),
        key=lambda row: row["subject_id"],
    )
    assert len({row["image"] for row in rows}) == FACES
    ages = [row["age"] for row in rows]
    assert ages == sorted(ages)
    assert ages[-1] - ages[0] > 50
    persons = [row["subject_id"] for row in rows]
    assert [persons.count(name) for name in sorted(set(persons))] == [PICTURES] * 19 + [FACES - 19 * PICTURES]
    assert {row["split"] for row in rows} == set(Split)


def test_the_least_faces_have_a_person_in_each_split() -> None:
    persons = range(run.LEAST_FACES // PICTURES)
    assert {split_of_person(person) for person in persons} == set(Split)
    shares = [split_of_person(person) for person in range(1000)]
    assert (shares.count(Split.TEST), shares.count(Split.VAL)) == (50, 20)


def test_a_mixed_dataset_has_the_persons_of_a_perfect_shuffle(faces: Location) -> None:
    first, second = epoch_mixing(faces, SPEC, piece=40)
    assert first.faces == 40
    assert first.ratio == pytest.approx(1.0, abs=0.1)
    assert first.persons == pytest.approx(first.ratio * first.shuffled)
    assert 1 < first.poorest <= first.persons
    assert first.same_place is None
    assert second.same_place is not None
    assert second.same_place < 0.05


def test_an_ordered_source_shows_as_few_persons() -> None:
    assert _counts(np.arange(100) // 20, 40) == [2, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"faces": 100}, "--faces is 100, but must be at least 200"),
        ({"faces": 500, "share": 0.0}, "--share is 0, but must lie above 0"),
        ({"faces": 500, "share": 1.5}, "--share is 1.5"),
        ({"faces": 10**12}, "faces need about"),
        ({"faces": 500, "keep": "s3://bucket/x"}, "--keep is 's3://bucket/x'"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_made(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        measure_scale(**options)  # type: ignore[arg-type]


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(AgeSearchError, match="needs a folder of its own"):
        measure_scale(500, keep=str(tmp_path))


def test_the_command_line_says_it_in_one_line() -> None:
    ended = CliRunner().invoke(app, ["bench", "scale", "--faces", "5"])
    assert isinstance(ended.exception, InputError)
