"""``agesearch evaluate``: models on a dataset by a published protocol, all on the same decoded faces.

What could make a figure mean less than it seems is said in ``notes``: crops cut by another recipe, faces that
a model was trained on, faces left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agesearch.data.dataset.records import Manifest, Part, read_manifest
from agesearch.data.images.recipe import crop_differences
from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.measure.leakage import calibration_notes, leak_notes
from agesearch.measure.predictions import Indices, Labels, Picker, Predictions, predict_faces, read_labels
from agesearch.measure.protocols import Protocol
from agesearch.measure.scores import Difference, KindScores, differences, scored
from agesearch.measure.speed.hardware import hardware_name
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.identity import calibrations_in, model_digest, read_model_manifest
from agesearch.models.manifest import ModelManifest, library_versions
from agesearch.models.predict import Runtime, open_predictor
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import now
from agesearch.specs import CropSpec, SharedRecord, Spec
from agesearch.storage import Location

_STAGE = "Evaluate"
_RECIPE = ("detector", "align", "scale", "size")


class DatasetFacts(Spec):
    """The dataset that models were tested on."""

    path: str
    name: str
    content_digest: str
    label_kind: str
    crop: CropSpec


class ModelScores(Spec):
    """A model and its scores for each label kind; ``notes`` say what weakens them."""

    name: str
    path: str
    model_digest: str
    arch: str
    input_size: int
    parameters: int
    kinds: tuple[KindScores, ...]
    notes: tuple[str, ...] = ()


class Evaluation(SharedRecord):
    """The record of one evaluation, whole: what ``--json`` prints and ``--out`` writes."""

    protocol: str
    about: str
    turns: int
    dataset: DatasetFacts
    faces: int
    left_out: dict[str, int]
    models: tuple[ModelScores, ...]
    differences: tuple[Difference, ...] = ()
    runtime: str
    threads: int
    hardware: str
    versions: dict[str, str]
    created: str


@dataclass(frozen=True)
class Evaluated:
    """The record, and each model's predicted faces (every face once)."""

    record: Evaluation
    predictions: dict[str, Predictions]


def evaluate(
    models: Mapping[str, Location],
    dataset: str | Location,
    protocol: Protocol,
    *,
    runtime: Runtime = "onnx",
    threads: int | None = None,
    on_progress: Listener = silent,
) -> Evaluated:
    """Score model folders (by the name to show) on a dataset.

    Crops are streamed; what stays of a face are its labels and answers (some 65 bytes, and 9 a model).
    Raises ``InputError`` where the dataset cannot serve the protocol, before any model is opened.
    """
    folder = Location.of(dataset)
    if not models:
        raise InputError("There is no model to evaluate.")
    data = read_manifest(folder)
    test = _test_of(protocol, folder, data)
    count = threads or cores()
    opened = {name: open_predictor(place, runtime, count, crop=data.crop) for name, place in models.items()}
    if runtime == "torch":
        import torch

        torch.set_num_threads(count)

    def heard(done: int) -> None:
        on_progress(Progress(_STAGE, done, len(test.labels), note="faces"))

    predictions = predict_faces(opened, folder, test.labels, part=test.part, threads=count, on_batch=heard)
    record = Evaluation(
        protocol=protocol.name,
        about=protocol.about,
        turns=len(test.turns),
        dataset=_dataset_facts(folder, data),
        faces=len(test.labels),
        left_out=test.left_out,
        models=tuple(
            _model_scores(name, models[name], protocol, test, faces, data)
            for name, faces in predictions.items()
        ),
        differences=tuple(differences(protocol, predictions)) if len(predictions) > 1 else (),
        runtime=runtime,
        threads=count,
        hardware=hardware_name(),
        versions=library_versions(),
        created=now(),
    )
    return Evaluated(record, predictions)


@dataclass(frozen=True)
class _Test:
    """The faces that are tested, the part they are read from, and their indices in each turn."""

    labels: Labels
    part: Part | None
    turns: dict[str, Indices]
    left_out: dict[str, int]


def _test_of(protocol: Protocol, folder: Location, data: Manifest) -> _Test:
    turns = protocol.turns(folder, data)
    part = turns[0].test if len(turns) == 1 else None
    everything = read_labels(folder, part)
    usable = protocol.require_usable(everything, folder)
    picker = Picker(everything)
    found = {turn.name: picker.indices(turn.test) for turn in turns}
    in_a_turn = np.zeros(len(everything), dtype=bool)
    for indices in found.values():
        in_a_turn[indices] = True
    chosen = np.flatnonzero(usable & in_a_turn)
    if not len(chosen):
        raise InputError(
            f"None of the tests of '{protocol.name}' has a face in '{folder}' that it can score."
        )
    place = np.full(len(everything), -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    kept = {name: place[indices][place[indices] >= 0] for name, indices in found.items()}
    counts = {
        f"without {protocol.needs}": int((in_a_turn & ~usable).sum()),
        "in no turn's test": int((~in_a_turn).sum()),
    }
    return _Test(
        everything if len(chosen) == len(everything) else everything.take(chosen),
        part,
        {name: indices for name, indices in kept.items() if len(indices)},
        {reason: count for reason, count in counts.items() if count},
    )


def _dataset_facts(folder: Location, data: Manifest) -> DatasetFacts:
    return DatasetFacts(
        path=folder.name,
        name=data.name,
        content_digest=data.content_digest,
        label_kind=data.label_kind,
        crop=data.crop,
    )


def _model_scores(
    name: str, folder: Location, protocol: Protocol, test: _Test, predictions: Predictions, data: Manifest
) -> ModelScores:
    manifest = read_model_manifest(folder)
    turns = {
        turn: predictions if len(indices) == len(predictions) else predictions.take(indices)
        for turn, indices in test.turns.items()
    }
    # A foreign teacher cuts its own square out of the stored crop.
    recipe = [] if is_teacher_file(folder) else _recipe_notes(manifest, data)
    return ModelScores(
        name=name,
        path=folder.name,
        model_digest=model_digest(folder),
        arch=manifest.model.arch,
        input_size=manifest.model.input_size,
        parameters=manifest.parameters,
        kinds=tuple(scored(protocol, turns)),
        notes=(
            *recipe,
            *leak_notes(manifest, data, predictions),
            *calibration_notes(calibrations_in(folder), data, predictions),
        ),
    )


def _recipe_notes(model: ModelManifest, data: Manifest) -> list[str]:
    """Where the faces are not cropped as the model's were: its error then is of another recipe, too."""
    differing = crop_differences(model.crop, data.crop, _RECIPE)
    notes = []
    if differing:
        words = ", ".join(f"{found.field} {found.ours} (the model's: {found.theirs})" for found in differing)
        notes.append(f"These faces are cropped by another recipe than the model's: {words}.")
    if data.crop.size < model.model.input_size:
        notes.append(
            f"The stored crops have {data.crop.size} px and are enlarged to the model's "
            f"{model.model.input_size} px."
        )
    return notes
