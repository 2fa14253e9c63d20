"""A cross-dataset matrix: one model a dataset, each tested on the test split of every dataset.

After Paplham & Franc 2024: an error inside one dataset says little about faces from elsewhere. The models are
trained by one spec, side by side on Ray, into ``DIR/models/<dataset>/``, or given. ``DIR/run.json`` says what
was asked, ``DIR/result.json`` is the record. Run again, it goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agesearch.data.dataset.records import Manifest, Part, Split, read_manifest
from agesearch.data.images.recipe import crop_differences
from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.measure.intervals import Estimate
from agesearch.measure.leakage import leak_notes
from agesearch.measure.predictions import read_labels
from agesearch.measure.protocols import protocol_named
from agesearch.measure.scores import KindScores, scored
from agesearch.measure.speed.hardware import hardware_name
from agesearch.metrics import MAE_YEARS
from agesearch.models.architectures import architecture
from agesearch.models.identity import crop_notes, model_digest, read_model_manifest
from agesearch.models.manifest import library_versions
from agesearch.models.weights import check_start
from agesearch.progress import Listener, silent
from agesearch.provenance import now
from agesearch.specs import CropSpec, SharedRecord, Spec, TrainSpec
from agesearch.storage import Location, distinct_names
from agesearch.training.preflight import plan
from agesearch.training.protocols.finetune import (
    RESULT,
    folder_name,
    run_folder,
    run_side_by_side,
)
from agesearch.training.protocols.jobs import ModelJob, Test, Training

MODELS = "models"

#: Crops that differ in these show another part of the face: figures would compare the crops.
_MUST_AGREE = ("scale", "align")
_SHOULD_AGREE = ("detector", "size")


class MatrixDataset(Spec):
    """A dataset of the matrix."""

    name: str
    path: str
    content_digest: str
    label_kind: str
    train_faces: int
    test_faces: int


class MatrixRow(Spec):
    """A model: the dataset it was trained on, the name of its folder (which lies in the matrix's ``models/``
    where it was trained here), and its scores on each test, or why it has none.

    ``tests`` is by the name of a column.
    """

    trained_on: str
    model: str
    validation: dict[str, float] = {}
    failure: str = ""
    tests: dict[str, KindScores] = {}


class Matrix(SharedRecord):
    """The record of a matrix. A column is the test split of a dataset, or its faces of one label kind."""

    spec: TrainSpec | None
    datasets: tuple[MatrixDataset, ...]
    columns: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    notes: tuple[str, ...] = ()
    seconds: float
    hardware: str
    versions: dict[str, str]
    created: str

    def values(self, score: str = MAE_YEARS) -> list[list[Estimate | None]]:
        """The figures of a score, ``[row][column]``; None where nothing was measured."""
        return [
            [row.tests[name].scores.get(score) if name in row.tests else None for name in self.columns]
            for row in self.rows
        ]

    @property
    def failed(self) -> int:
        """The number of models that could not be trained or tested."""
        return sum(bool(row.failure) for row in self.rows)


@dataclass(frozen=True)
class _Data:
    """A dataset under its name in the matrix."""

    name: str
    folder: Location
    manifest: Manifest


def train_matrix(
    datasets: Sequence[str | Location],
    out: str | Location,
    *,
    spec: TrainSpec | None = None,
    models: Sequence[str | Location] = (),
    concurrency: int | None = None,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Matrix:
    """Train ``spec`` on each dataset (or take ``models``, one a dataset), and test each model on all.

    A training that fails leaves its row empty, and the others go on. Raises ``InputError`` before anything
    starts for datasets without the splits, crops of different recipes, or models that do not match: a given
    model was trained on the dataset in its place, or does not say on which.
    """
    started = time.monotonic()
    if (spec is None) == (not models):
        raise InputError("A matrix needs an architecture to train, or one model a dataset: give one of both.")
    data = _named(datasets)
    notes = [*_crop_notes(data), *_kind_notes(data), *_model_notes(data, models)]
    folder = Location.of(out)
    tests = _tests(data)
    jobs = _trained(spec, data, tests, folder) if spec else _given(models, data, tests, folder)
    labels = {} if spec else _labels(jobs, data)
    if address is None:
        plan(cores(), 0, concurrency=concurrency, what="training")
    identity = {
        "spec": spec.identity() if spec else None,
        "models": [] if spec else [model_digest(job.model) for job in jobs],
        "datasets": [[item.name, item.manifest.content_digest] for item in data],
    }
    with run_folder(folder, identity, "matrix"):
        failures = run_side_by_side(jobs, folder, concurrency, address, on_progress)
        rows, columns = _rows(jobs, failures, labels)
        leaking = _leak_notes([job for job in jobs if job.name not in failures], data, tests)
        record = Matrix(
            spec=spec,
            datasets=tuple(_facts(item, tests[item.name]) for item in data),
            columns=columns,
            rows=rows,
            notes=tuple([*notes, *leaking, *_column_notes(rows, columns)]),
            seconds=round(time.monotonic() - started, 1),
            hardware=hardware_name(),
            versions=library_versions(),
            created=now(),
        )
        (folder / RESULT).write_json(record.model_dump(mode="json"))
    return record


def _named(datasets: Sequence[str | Location]) -> list[_Data]:
    """The datasets under names that tell them apart: their own, else with their folder's."""
    if len(datasets) < 2:
        raise InputError("A matrix needs at least two datasets: give --data twice or more.")
    found = [(Location.of(item), read_manifest(item)) for item in datasets]
    names = [manifest.name for _, manifest in found]
    if len(set(names)) < len(names):
        names = [folder.name for folder, _ in found]
    if len(set(names)) < len(names):
        names = distinct_names([folder for folder, _ in found])
    if len(set(names)) < len(names):
        raise InputError("A dataset is given twice: a matrix compares different ones.")
    return [_Data(name, *pair) for name, pair in zip(names, found, strict=True)]


def _crop_notes(data: Sequence[_Data]) -> list[str]:
    """An ``InputError`` where crops show another part of the face; a note where they differ in quality."""
    first, notes = data[0], []
    for other in data[1:]:
        fields = (*_MUST_AGREE, *_SHOULD_AGREE)
        for found in crop_differences(other.manifest.crop, first.manifest.crop, fields):
            words = (
                f"crop {found.field} is {found.ours} in '{first.name}' and {found.theirs} in '{other.name}'"
            )
            if found.field in _MUST_AGREE:
                raise InputError(
                    f"The datasets were not cropped alike: {words}. Ingest them with one recipe, else the "
                    "matrix compares the crops."
                )
            notes.append(f"The {words}.")
    return notes


def _model_notes(data: Sequence[_Data], models: Sequence[str | Location]) -> list[str]:
    """Where a given model is tested on faces that another detector cropped than those it was trained on."""
    return [
        note
        for model in models
        for item in data
        for note in crop_notes(
            model,
            item.manifest.crop,
            f"its figures on '{item.name}' are of that, too",
            f"The model '{model}'",
        )
    ]


def _kind_notes(data: Sequence[_Data]) -> list[str]:
    kinds = {item.name: item.manifest.label_kind for item in data}
    if len(set(kinds.values())) == 1:
        return []
    shown = ", ".join(f"'{name}' {kind}" for name, kind in kinds.items())
    return [f"The label kinds differ ({shown}): figures compare within a column, not across columns."]


def _tests(data: Sequence[_Data]) -> dict[str, Test]:
    protocol = protocol_named("standard")
    tests = {}
    for item in data:
        for split in Split:
            if not item.manifest.counts.get(split):
                raise InputError(
                    f"'{item.folder}' has no faces in its split '{split}', which a matrix needs."
                )
        labels = read_labels(item.folder, Split.TEST)
        usable = protocol.require_usable(labels, item.folder)
        tests[item.name] = Test(item.folder, Part(Split.TEST), labels.take(usable))
    return tests


def _trained(
    spec: TrainSpec, data: Sequence[_Data], tests: Mapping[str, Test], out: Location
) -> list[ModelJob]:
    architecture(spec.model.arch)
    if spec.model.init != "random":
        check_start(spec.model)
    jobs = []
    for item in data:
        training = Training(
            spec,
            item.folder,
            Part(Split.TRAIN),
            Part(Split.VAL),
            item.manifest.crop,
            item.manifest.content_digest,
        )
        folder = out / MODELS / folder_name(item.name)
        jobs.append(ModelJob(item.name, folder, folder, training, _files(tests)))
    return jobs


def _given(
    models: Sequence[str | Location], data: Sequence[_Data], tests: Mapping[str, Test], out: Location
) -> list[ModelJob]:
    if len(models) != len(data):
        raise InputError(
            f"{len(data)} datasets need as many models, in the same order, but {len(models)} are given."
        )
    jobs = []
    for item, model in zip(data, models, strict=True):
        place = Location.of(model)
        manifest = read_model_manifest(place)
        _refuse_other_crop(manifest.crop, item, place)
        jobs.append(ModelJob(item.name, out / MODELS / folder_name(item.name), place, None, _files(tests)))
    return jobs


def _labels(jobs: Sequence[ModelJob], data: Sequence[_Data]) -> dict[str, str]:
    """The dataset that each given model was trained on, as its own record says.

    A model that was trained on another dataset than the one in its place is an ``InputError``.
    """
    by_digest = {item.manifest.content_digest: item.name for item in data}
    labels = {}
    for place, (job, item) in enumerate(zip(jobs, data, strict=True), start=1):
        manifest = read_model_manifest(job.model)
        digest = manifest.data_digest
        if digest in ("", item.manifest.content_digest):
            labels[job.name] = item.name if digest else f"{job.model.name} (data not recorded)"
            continue
        recorded = next((seen.data for seen in manifest.trained_on if seen.data_digest == digest), "")
        theirs = by_digest.get(digest) or recorded or digest
        raise InputError(
            f"The model '{job.model}' was trained on '{theirs}', but the dataset in its place ({place}) "
            f"is '{item.name}': give each dataset the model that was trained on it, in the same order."
        )
    return labels


def _leak_notes(jobs: Sequence[ModelJob], data: Sequence[_Data], tests: Mapping[str, Test]) -> list[str]:
    """Where a model has seen faces of a test."""
    return [
        f"Tested on '{item.name}': {note}"
        for job in jobs
        for item in data
        for note in leak_notes(
            read_model_manifest(job.model), item.manifest, tests[item.name].labels, f"'{job.model.name}'"
        )
    ]


def _refuse_other_crop(crop: CropSpec, item: _Data, model: Location) -> None:
    for name in _MUST_AGREE:
        ours, theirs = getattr(item.manifest.crop, name), getattr(crop, name)
        if ours != theirs:
            raise InputError(
                f"The model '{model}' was trained on crops with {name} {theirs}, but '{item.name}' has "
                f"{ours}."
            )


def _files(tests: Mapping[str, Test]) -> dict[str, Test]:
    return {folder_name(name): test for name, test in tests.items()}


def _rows(
    jobs: Sequence[ModelJob], failures: Mapping[str, str], labels: Mapping[str, str]
) -> tuple[tuple[MatrixRow, ...], tuple[str, ...]]:
    """Each model's scores; a dataset whose test has several label kinds has a column for each."""
    names = {folder_name(job.name): job.name for job in jobs}
    columns: dict[str, None] = {}
    rows = []
    for job in jobs:
        tests = {} if job.name in failures else _scores(job, names)
        columns.update(dict.fromkeys(tests))
        rows.append(
            MatrixRow(
                trained_on=labels.get(job.name, job.name),
                model=job.model.name,
                validation={} if job.name in failures else _validation(job),
                failure=failures.get(job.name, ""),
                tests=tests,
            )
        )
    return tuple(rows), tuple(columns) or tuple(names.values())


def _scores(job: ModelJob, names: Mapping[str, str]) -> dict[str, KindScores]:
    found: dict[str, KindScores] = {}
    for file, name in names.items():
        predictions = job.predictions(file)
        if predictions is None:
            continue
        kinds = scored(protocol_named("standard"), {name: predictions})
        for kind in kinds:
            found[name if len(kinds) == 1 else f"{name} ({kind.kind})"] = kind
    return found


def _validation(job: ModelJob) -> dict[str, float]:
    metrics = read_model_manifest(job.model).metrics
    return {name: value for name, value in metrics.items() if name.startswith("val_")}


def _column_notes(rows: Sequence[MatrixRow], columns: Sequence[str]) -> list[str]:
    """Columns that have no error in years."""
    without = [
        name
        for name in columns
        if any(name in row.tests and MAE_YEARS not in row.tests[name].scores for row in rows)
    ]
    return [f"'{name}' has age groups and no ages, so no error in years." for name in without]


def _facts(item: _Data, test: Test) -> MatrixDataset:
    return MatrixDataset(
        name=item.name,
        path=item.folder.name,
        content_digest=item.manifest.content_digest,
        label_kind=item.manifest.label_kind,
        train_faces=item.manifest.counts.get(Split.TRAIN, 0),
        test_faces=int(np.size(test.labels.age)),
    )
