"""Fixed views: teacher and student see the same pixels; a teacher's answers are stored once and for good."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from held_faces import HeldShards

from agesearch.ages import FloatArray
from agesearch.data.dataset.arrays import read_arrays
from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest, read_manifest
from agesearch.data.images.augment import views_key
from agesearch.data.images.crop import encode_crop
from agesearch.data.reading.teacher_outputs import StoredAnswers
from agesearch.distill import targets as module
from agesearch.distill.stored_answers import Answer
from agesearch.distill.target_store import remove_targets, stored_targets
from agesearch.distill.targets import compute
from agesearch.errors import InputError
from agesearch.models.prepare import resized
from agesearch.progress import Progress
from agesearch.specs import AugmentSpec, CropSpec, ModelSpec, OptimSpec, TrainSpec
from agesearch.storage import Location, exclusive
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.faces.stream import StreamSource

CROP = CropSpec(size=40)
FACES = 6


@dataclass
class Spy:
    """A teacher that keeps what it sees, and answers with how often it was asked."""

    seen: list[Any] = field(default_factory=list)
    fails_after: int | None = None
    name: str = "spy"
    digest: str = "0123456789abcdef"
    column: str = "pmf"
    stage: str = "teacher targets"

    def ready(self) -> Spy:
        return self

    def open(self, threads: int) -> Answer:
        return self._answer

    def _answer(self, images: Any) -> FloatArray:
        if self.fails_after is not None and len(self.seen) >= self.fails_after:
            raise KeyboardInterrupt
        first = len(self.seen)
        self.seen += [np.array(image) for image in images]
        return np.arange(first, len(self.seen), dtype=np.float32)[:, None].repeat(101, axis=1) + 1


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Six faces in two shards."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "sample_id": f"f{number}",
            "image": encode_crop(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), CROP),
            "age": 10.0 * number,
            "source": "s",
            "split": "train",
        }
        for number in range(FACES)
    ]
    folder = Location.of(tmp_path / "faces")
    for shard, some in enumerate((rows[:4], rows[4:])):
        (folder / SHARDS / f"{shard}.parquet").write_table(pa.Table.from_pylist(some, schema=SCHEMA))
    manifest = Manifest(name="n", label_kind="real", crop=CROP, counts={"train": FACES}, content_digest="c")
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))
    return tmp_path / "faces"


def _spec(policy: str = "default", views: int = 3, size: int = 32, **augment: Any) -> TrainSpec:
    return TrainSpec(
        model=ModelSpec(arch="lcnet_035", input_size=size),
        optim=OptimSpec(batch_size=4),
        augment=AugmentSpec.model_validate({"policy": policy, "views": views, "view_seed": 5, **augment}),
        seed=9,
    )


def _columns(faces: Path, files: Sequence[Location]) -> dict[str, Any]:
    arrays = read_arrays(str(faces))
    ids = arrays.sample_id.astype(str)
    stored = [StoredAnswers(file, "pmf") for file in files]
    answers = [
        np.concatenate([answer.of("0.parquet", ids[:4]), answer.of("1.parquet", ids[4:])])
        for answer in stored
    ]
    unknown = np.full(FACES, np.nan, np.float32)
    return {
        "sample_id": ids,
        "image": arrays.images,
        "age": arrays.age,
        **dict.fromkeys(("age_std", "age_low", "age_high"), unknown),
        "teacher_pmf": np.stack(answers, axis=1),
    }


@pytest.mark.parametrize("policy", ["default", "greco"])
@pytest.mark.parametrize("source", ["kept", "drawn anew", "streamed"])
def test_a_student_gets_the_very_pixels_that_its_teacher_saw(
    faces: Path, policy: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "drawn anew":
        monkeypatch.setattr("agesearch.training.faces.pool.KEPT_BYTES", 0)
    spy, spec = Spy(), _spec(policy)
    files = compute(spy, str(faces), spec.augment).files
    columns = _columns(faces, files)
    seen = {(view, f"f{n}"): spy.seen[view * FACES + n] for view in range(3) for n in range(FACES)}
    assert not np.array_equal(seen[0, "f1"], seen[1, "f1"])
    for size in (40, 32):
        sized = _spec(policy, size=size)
        epochs: PoolSource | StreamSource = PoolSource(FacePool([columns], size), sized)
        if source == "streamed":
            epochs = StreamSource(HeldShards([columns]), sized)
        for epoch in range(4):
            for batch in epochs.epoch(epoch):
                expected = [seen[epoch % 3, name] for name in batch.sample_id]
                np.testing.assert_array_equal(batch.images, resized(expected, size))


def test_an_epoch_has_the_answers_for_its_own_view(faces: Path) -> None:
    spec = _spec()
    columns = _columns(faces, compute(Spy(), str(faces), spec.augment).files)
    pool = FacePool(
        [{name: column[rows] for name, column in columns.items()} for rows in ([0, 1], [2, 3, 4, 5])], 32
    )
    number = {f"f{n}": n for n in range(FACES)}
    raw = columns["teacher_pmf"].astype(np.float32)
    columns["teacher_pmf"] = raw * np.arange(1, 102)  # a row's shape tells nothing of its face: its size does
    for epoch in (0, 2, 4):
        answers = pool.answers(np.arange(FACES), epoch)["teacher_pmf"]
        np.testing.assert_array_equal(answers[:, 0], [(epoch % 3) * FACES + n + 1 for n in number.values()])
    with pytest.raises(InputError, match=r"3 view\(s\) .* asks for 2"):
        PoolSource(pool, _spec(views=2))
    with pytest.raises(InputError, match="asks for 1"):
        PoolSource(pool, _spec(views=0))


def test_without_views_epochs_draw_anew_from_the_seed_of_the_training(faces: Path) -> None:
    columns = _columns(faces, compute(Spy(), str(faces), None).files)

    def pixels(spec: TrainSpec, epoch: int) -> Any:
        batches = PoolSource(FacePool([columns], 32), spec).epoch(epoch)
        return {
            name: image
            for batch in batches
            for name, image in zip(batch.sample_id, batch.images, strict=True)
        }

    fresh = _spec(views=0)
    assert not np.array_equal(pixels(fresh, 0)["f0"], pixels(fresh, 3)["f0"])
    other = fresh.model_copy(update={"seed": 10})
    assert not np.array_equal(pixels(fresh, 0)["f0"], pixels(other, 0)["f0"])
    del columns["teacher_pmf"]
    fixed = _spec()
    np.testing.assert_array_equal(pixels(fixed, 0)["f0"], pixels(fixed, 3)["f0"])
    np.testing.assert_array_equal(
        pixels(fixed, 0)["f0"], pixels(fixed.model_copy(update={"seed": 10}), 0)["f0"]
    )


def test_a_killed_run_goes_on_and_more_views_cost_only_themselves(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_FACES", 2)
    augment = _spec().augment
    with pytest.raises(KeyboardInterrupt):
        compute(Spy(fails_after=9), str(faces), augment)
    told: list[Progress] = []
    spy = Spy()
    found = compute(spy, str(faces), augment, told.append)
    assert (told[0].done, told[-1].done, told[-1].total) == (10, 18, 18)
    assert len(spy.seen) == found.answers == 8
    assert compute(Spy(fails_after=0), str(faces), augment).answers == 0
    more = compute(spy, str(faces), augment.model_copy(update={"views": 4}))
    assert (more.answers, len(more.files), more.files[:3]) == (FACES, 4, found.files)
    folder = found.files[0].parent
    assert folder.name == views_key(augment)
    assert {child.name for child in folder.children()} == {
        ".lock",
        *(f"view-00{n}.parquet" for n in range(4)),
    }


def test_other_views_data_and_damage_are_computed_anew(faces: Path) -> None:
    augment = _spec().augment
    (first, *_) = compute(Spy(), str(faces), augment).files
    keys = {
        views_key(augment.model_copy(update=change)) for change in ({}, {"strength": 0.5}, {"view_seed": 6})
    }
    assert len(keys) == 3
    assert views_key(augment.model_copy(update={"views": 9})) == first.parent.name
    Path(first.path).write_bytes(b"PAR1 torn")
    assert compute(Spy(), str(faces), augment).answers == FACES
    place = Location.of(faces) / MANIFEST
    changed = read_manifest(str(faces)).model_copy(update={"content_digest": "other"})
    place.write_json(changed.model_dump(mode="json"))
    assert [row.state for row in stored_targets(str(faces))] == ["other data"]
    assert compute(Spy(), str(faces), augment).answers == 3 * FACES


def test_a_second_run_waits_for_the_first_and_shares_its_work(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_POLL_S", 0.01)
    place = Location.of(faces) / "targets" / Spy.digest
    first = ExitStack()
    first.enter_context(exclusive(place, "The folder of targets"))
    notes: list[str] = []

    def listen(update: Progress) -> None:
        notes.append(update.note)
        if "waiting" in update.note:
            first.close()

    assert compute(Spy(), str(faces), None, listen).answers == FACES
    assert "another run computes them: waiting for it" in notes


def test_an_answer_that_is_no_number_is_told(faces: Path) -> None:
    class Broken(Spy):
        def _answer(self, images: Any) -> FloatArray:
            return np.full((len(images), 101), np.nan, np.float32)

    with pytest.raises(InputError, match="'f0' .* is not a number"):
        compute(Broken(), str(faces), None)


def test_what_is_stored_is_listed_and_removed(faces: Path) -> None:
    compute(Spy(), str(faces), None)
    compute(Spy(), str(faces), _spec("greco").augment)
    rows = stored_targets(str(faces))
    assert [(row.teacher, row.drawn, row.state, len(row.files)) for row in rows] == [
        ("spy", "as stored", "whole", 1),
        ("spy", "greco, strength 1, seed 5", "whole", 3),
    ]
    with pytest.raises(InputError, match="no targets of a teacher"):
        remove_targets(str(faces), "../shards")
    remove_targets(str(faces), Spy.digest)
    assert stored_targets(str(faces)) == []
