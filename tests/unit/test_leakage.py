"""What a model has seen: by its own record, through what it started from, and where that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_sets import FOLDS, adience_like, fgnet_like, lap_like, tiny_model, write_set

from agesearch.data.dataset.records import Annotation, Manifest, MixturePart, Part, Split
from agesearch.errors import InputError
from agesearch.measure.leakage import leak_notes, leaks, seen_by, seen_count, trained_on_namesake
from agesearch.measure.predictions import Picker, read_labels
from agesearch.measure.protocols import protocol_named
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, ModelManifest
from agesearch.models.trained_on import TrainedOn, trained_on
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location
from agesearch.training.protocols import finetune as finetuning
from agesearch.training.protocols.matrix import train_matrix
from agesearch.training.protocols.recipes import finetune_spec, recipe_for
from agesearch.training.run import with_start

SPEC = ModelSpec(arch="lcnet_035", input_size=32)


def model(*seen: TrainedOn, digest: str = "") -> ModelManifest:
    return ModelManifest(kind="teacher", model=SPEC, crop=CropSpec(), trained_on=seen, data_digest=digest)


def test_folds_that_trained_are_known_and_others_are_not(tmp_path: Path) -> None:
    data = adience_like(tmp_path / "ds")
    labels = read_labels(str(tmp_path / "ds"))
    seen = trained_on(data, Part(folds=(0, 1, 2)), Part(folds=(3,)))
    found = leaks(model(*seen), data, labels)
    assert [(leak.trained, set(labels.fold[leak.indices])) for leak in found] == [
        (True, {0, 1, 2}),
        (False, {3}),
    ]
    fold = labels.take(Picker(labels).indices(Part(folds=(4,))))
    assert leaks(model(*seen), data, fold) == []
    (note,) = leak_notes(model(*seen), data, labels.take(labels.fold == 1))
    assert note == (
        "The model was trained on 8 of the 8 faces tested (this dataset's folds 0, 1, 2): "
        "these figures are no test."
    )


def test_another_ingest_of_the_same_photographs_may_have_trained_it(tmp_path: Path) -> None:
    data = adience_like(tmp_path / "ds")
    labels = read_labels(str(tmp_path / "ds"))
    other = data.model_copy(update={"content_digest": "cropped otherwise"})
    (note,) = leak_notes(model(*trained_on(other, Part(folds=(0, 1)))), data, labels)
    assert f"another ingest of '{data.name}'" in note
    assert not trained_on_namesake(model(*trained_on(data, Part(folds=(0, 1)))), data)
    elsewhere = other.model_copy(update={"name": "other faces"})
    assert leak_notes(model(*trained_on(elsewhere, Part(folds=(0, 1)))), data, labels) == ()


def test_persons_that_were_left_out_are_no_leak(tmp_path: Path) -> None:
    data = fgnet_like(tmp_path / "ds")
    labels = read_labels(str(tmp_path / "ds"))
    seen = model(*trained_on(data, Part(without=("002", "004")), Part(subjects=("004",))))
    names = [set(labels.subject_id[leak.indices]) for leak in leaks(seen, data, labels)]
    assert names == [{"001", "003"}, {"004"}]


def test_what_the_start_had_seen_is_seen(tmp_path: Path) -> None:
    data = lap_like(tmp_path / "ds")
    start = tiny_model(tmp_path / "start", data_digest=data.content_digest)
    spec = finetune_spec(recipe_for("lap2016"), Location.of(start), read_model_manifest(start), {})
    own = TrainedOn(data="other", data_digest="other")
    seen = with_start([own], spec.model)
    assert [(one.data_digest, one.inherited) for one in seen] == [
        ("other", False),
        (data.content_digest, True),
    ]
    labels = read_labels(str(tmp_path / "ds"), Split.TRAIN)
    (note,) = leak_notes(model(*seen, digest="other"), data, labels)
    assert note.startswith("The model started from a model that was trained on 12 of the 12 faces tested")
    assert seen_count(leaks(model(*seen), data, labels), trained=True) == 12
    fresh = spec.with_values({"model.init": "random", "model.weights": None})
    assert with_start([own], fresh.model) == (own,)


def test_datasets_made_of_others_name_them(tmp_path: Path) -> None:
    data = lap_like(tmp_path / "ds")
    labels = read_labels(str(tmp_path / "ds"), Split.TRAIN)
    made_of = MixturePart(
        name="ds", content_digest=data.content_digest, label_kind="apparent", weight=1.0, splits=("train",)
    )
    mixture = Manifest(name="m", label_kind="mixed", crop=CropSpec(), counts={}, parts=(made_of,))
    note = Annotation(teacher="t", teacher_digest="t", data="ds", data_digest=data.content_digest, faces=1)
    annotated = Manifest(
        name="a", label_kind="teacher", crop=CropSpec(), counts={}, annotation=note, content_digest="new"
    )
    for manifest in (mixture, annotated):
        assert len(leaks(model(*trained_on(manifest)), data, labels)) == 1
    assert len(leaks(model(*trained_on(data)), annotated, labels)) == 1


def test_models_made_before_open_and_have_trained_on_the_split_of_their_dataset(tmp_path: Path) -> None:
    folder = Location.of(tiny_model(tmp_path / "m", data_digest="old"))
    document = (folder / MANIFEST).read_json()
    del document["trained_on"]
    (folder / MANIFEST).write_json(document | {"thresholds": {"age_18": 0.5}})
    manifest = read_model_manifest(folder)
    assert seen_by(manifest) == (TrainedOn(data_digest="old"),)
    assert seen_by(model()) == ()


def test_a_record_survives_being_written(tmp_path: Path) -> None:
    seen = trained_on(adience_like(tmp_path / "ds"), Part(folds=(0, 1)), Part(without=("x",)))
    written = model(*seen)
    assert ModelManifest.model_validate_json(written.model_dump_json()) == written


def tune(start: Path, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[str]]:
    """A fine-tuning whose turns are not run, and what it warned of before them."""
    warned: list[str] = []

    def not_run(jobs: Any, *_: Any) -> dict[str, str]:
        warned.append(f"{len(jobs)} turns begin")
        return {job.name: "not run" for job in jobs}

    monkeypatch.setattr(finetuning, "run_side_by_side", not_run)
    recipe = recipe_for("adience")
    spec = finetune_spec(recipe, Location.of(start), read_model_manifest(start), {})
    record = finetuning.finetune(
        str(start), str(data), protocol_named("adience"), recipe, spec, str(out), warn=warned.append
    )
    return record, warned


def test_a_fine_tuning_warns_before_it_trains_of_test_faces_that_its_start_has_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = adience_like(tmp_path / "ds")
    start = tiny_model(tmp_path / "start", data_digest=data.content_digest)
    record, warned = tune(start, tmp_path / "ds", tmp_path / "out", monkeypatch)
    note = (
        "The model that is fine-tuned was trained on 40 of the 40 faces that 5 of 5 turns test: "
        "their figures are no test."
    )
    assert warned == [note, "5 turns begin"]
    assert note in record.notes
    assert [turn.faces_seen for turn in record.turns] == [8] * 5
    folder = Location.of(start)
    folds = trained_on(data, FOLDS[0].train, FOLDS[0].val)
    document = (folder / MANIFEST).read_json()
    kept = document | {"trained_on": [seen.model_dump(mode="json") for seen in folds]}
    (folder / MANIFEST).write_json(kept)
    record, warned = tune(start, tmp_path / "ds", tmp_path / "again", monkeypatch)
    assert "was trained on 24 of the 24 faces that 3 of 5 turns test" in warned[0]
    assert "best epoch chosen on 8 of the 8 faces that 1 of 5 turns test" in warned[1]
    assert sorted(turn.faces_seen for turn in record.turns) == [0, 0, 8, 8, 8]


def test_a_start_that_has_seen_nothing_of_it_is_no_cause_for_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adience_like(tmp_path / "ds")
    start = tiny_model(tmp_path / "start", data_digest="elsewhere")
    _, warned = tune(start, tmp_path / "ds", tmp_path / "out", monkeypatch)
    assert warned == ["5 turns begin"]


def three_splits(where: Path, start: float) -> Manifest:
    rows = [
        {"age": start + index, "split": split, "sample_id": f"{start}-{split}-{index}"}
        for split in ("train", "val", "test")
        for index in range(3)
    ]
    return write_set(where, rows, "real")


def test_a_matrix_refuses_models_in_the_place_of_another_dataset(tmp_path: Path) -> None:
    one, two = (three_splits(tmp_path / name, 10.0 * len(name)) for name in ("one", "twoo"))
    sets = [str(tmp_path / "one"), str(tmp_path / "twoo")]
    models = [
        str(tiny_model(tmp_path / name, data_digest=data.content_digest, seed=len(name)))
        for name, data in (("m1", one), ("m2", two))
    ]
    stranger = tiny_model(tmp_path / "s", data_digest="elsewhere")
    cases = [(models[::-1], "was trained on 'twoo'"), ([models[0], str(stranger)], "trained on 'elsewhere'")]
    for given, words in cases:
        with pytest.raises(InputError, match=words):
            train_matrix(sets, str(tmp_path / "out"), models=given)
    assert not (tmp_path / "out").exists()


def test_a_matrix_takes_its_labels_from_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three_splits(tmp_path / "one", 10.0)
    data = three_splits(tmp_path / "two", 40.0)
    monkeypatch.setattr("agesearch.training.protocols.matrix.run_side_by_side", lambda jobs, *_: {})
    seen = TrainedOn(data="two", data_digest=data.content_digest, train=Part(Split.TEST), val=Part(Split.VAL))
    known = tiny_model(tmp_path / "known", data_digest=data.content_digest)
    manifest = Location.of(known) / MANIFEST
    manifest.write_json(manifest.read_json() | {"trained_on": [seen.model_dump(mode="json")]})
    record = train_matrix(
        [str(tmp_path / "one"), str(tmp_path / "two")],
        str(tmp_path / "out"),
        models=[str(tiny_model(tmp_path / "unknown")), str(known)],
    )
    assert [row.trained_on for row in record.rows] == ["unknown (data not recorded)", "two"]
    assert "Tested on 'two': 'known' was trained on 3 of the 3 faces tested" in record.notes[0]
    assert np.all([not row.tests for row in record.rows])
