"""``agesearch compare``: methods x seeds on one dataset, with one backbone, budget and preprocessing.

``DIR/teachers/<digest>/`` holds the teachers that were trained for it, ``DIR/runs/<method>-<digest>/<seed>/``
each training with its predictions, ``DIR/result.json`` the record. Folders are named by what makes them, so
that a killed comparison goes on where it was, and more seeds or methods add to what is there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from agesearch.cluster.nodes import check_shared
from agesearch.data.dataset.records import Manifest, Part, Split, read_manifest
from agesearch.distill.stored_answers import crop_notes_of
from agesearch.distill.targets import order_features, teacher_targets
from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.machine import cores
from agesearch.measure.accuracy import errors
from agesearch.measure.intervals import estimate
from agesearch.measure.labelled_faces import median_error, with_an_age
from agesearch.measure.leakage import leak_notes
from agesearch.measure.predictions import Labels
from agesearch.measure.speed.hardware import hardware_name
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.models.manifest import library_versions
from agesearch.models.order_net import order_digest, read_order_manifest
from agesearch.progress import Listener, silent
from agesearch.provenance import now
from agesearch.session import ray_session
from agesearch.specs import OrderTrainSpec, TrainSpec, digest_of
from agesearch.storage import Location
from agesearch.training.comparison.methods import Method, Methods, TeacherRef
from agesearch.training.comparison.records import (
    MethodComparison,
    Run,
    TeacherRecord,
    curve_seconds,
    method_records,
)
from agesearch.training.preflight import plan
from agesearch.training.protocols.finetune import RESULT, folder_name, run_folder
from agesearch.training.protocols.jobs import ModelJob, Test, Training, run_jobs
from agesearch.training.teach import teach
from agesearch.training.teach_order import teach_order

RUNS, TEACHERS, PREDICTED = "runs", "teachers", "predicted"
MAX_SEEDS = 100


@dataclass(frozen=True)
class _Asked:
    """What a comparison is asked to do, checked."""

    methods: Methods
    seeds: int
    written: str
    dataset: Location
    data: Manifest
    out: Location
    split: Split
    labels: Labels
    notes: tuple[str, ...]

    @property
    def tests(self) -> dict[str, Test]:
        """The faces that every model predicts."""
        return {str(self.split): Test(self.dataset, Part(self.split), self.labels)}


@dataclass
class _Teacher:
    """A teacher that is being made ready: its place, its answers for all faces, or why there are none."""

    source: TeacherRef
    place: Location
    digest: str = ""
    answers: tuple[Location, ...] = ()
    failure: str = ""
    job: ModelJob | None = None

    @property
    def is_order(self) -> bool:
        """Whether it sorts faces and gives no ages."""
        return self.source.kind == "order"


@dataclass
class _Work:
    """All jobs, and whose they are."""

    teachers: dict[str, _Teacher] = field(default_factory=dict)
    runs: dict[str, tuple[Method, list[Run]]] = field(default_factory=dict)

    def jobs(self) -> Iterator[ModelJob]:
        """Teachers' jobs first: they only predict."""
        yield from (teacher.job for teacher in self.teachers.values() if teacher.job)
        yield from (run.job for _, runs in self.runs.values() for run in runs if run.job)


def compare(
    methods: Methods,
    dataset: str | Location,
    out: str | Location,
    *,
    seeds: int = 3,
    split: Split = Split.TEST,
    concurrency: int | None = None,
    address: str | None = None,
    on_progress: Listener = silent,
) -> MethodComparison:
    """Train every method with every seed, side by side on Ray, and compare them on the faces of a split.

    Seeds count up from the student's own. A training or a teacher that fails is told in the record, and the
    others go on. Raises ``InputError`` for what is wrong before anything starts, and ``ConflictError`` where
    ``out`` holds other things, or a comparison on other faces.
    """
    started = time.monotonic()
    asked = _asked(methods, dataset, out, seeds, split)
    if address is None:
        plan(cores(), 0, concurrency=concurrency, what="training")
    identity = {"comparison": asked.data.content_digest}
    with run_folder(asked.out, identity, "comparison"):
        with ray_session(address, on_progress=on_progress) as session:
            check_shared(asked.out, "the comparison")
            work = _planned(asked, on_progress)
            jobs = list(work.jobs())
            slots = plan(
                session.cpus,
                session.gpus,
                concurrency=concurrency,
                trials=len(jobs),
                what="training",
                grows=not session.is_local,
            )
            failures = run_jobs(jobs, slots, on_progress)
        record = _record(asked, work, failures, time.monotonic() - started)
        (asked.out / RESULT).write_json(record.model_dump(mode="json"))
    return record


def _asked(
    methods: Methods, dataset: str | Location, out: str | Location, seeds: int, split: Split
) -> _Asked:
    if not 1 <= seeds <= MAX_SEEDS:
        raise InputError(f"--seeds is {seeds}, but must lie in 1..{MAX_SEEDS}.")
    folder = Location.of(dataset)
    data = read_manifest(folder)
    for part in (Split.TRAIN, Split.VAL, split):
        if not data.counts.get(part):
            raise InputError(f"'{folder}' has no faces in its split '{part}', which a comparison needs.")
    labels, notes = with_an_age(folder, split)
    if split == Split.VAL:
        notes.append("The validation faces chose each training's best epoch: these figures are no test.")
    if seeds < 3:
        notes.append(
            f"{seeds} seed{'s say' if seeds > 1 else ' says'} little of how trainings differ: take three."
        )
    return _Asked(methods, seeds, folder.name, folder, data, Location.of(out), split, labels, tuple(notes))


def _planned(asked: _Asked, on_progress: Listener) -> _Work:
    """The teachers, found or trained, with their answers, and every training as a job."""
    work = _Work()
    for method in asked.methods.methods:
        for source in (method.teacher, method.order):
            if source is not None and source.key not in work.teachers:
                work.teachers[source.key] = _prepared(source, asked, on_progress)
    for method in asked.methods.methods:
        runs = [_run(method, number, asked, work.teachers) for number in range(asked.seeds)]
        work.runs[method.name] = (method, runs)
    return work


def _prepared(source: TeacherRef, asked: _Asked, on_progress: Listener) -> _Teacher:
    """A teacher with its answers for all faces; one that cannot be trained fails its methods alone."""
    what = source.what
    made = _Teacher(source, what if isinstance(what, Location) else asked.out / TEACHERS / source.key)
    augment = asked.methods.student.augment
    try:
        if isinstance(what, TrainSpec):
            teach(what, asked.dataset, made.place, on_progress=on_progress)
        elif isinstance(what, OrderTrainSpec):
            teach_order(what, asked.dataset, made.place, threads=cores(), on_progress=on_progress)
        if made.is_order:
            made.digest = order_digest(made.place)
            made.answers = tuple(order_features(made.place, asked.dataset, augment, on_progress))
            return made
        made.digest = model_digest(made.place)
        made.answers = tuple(teacher_targets(made.place, asked.dataset, augment, on_progress))
    except InputError:
        raise
    except AgeSearchError as error:
        made.failure = first_line(error)
        return made
    made.job = ModelJob(
        f"teacher {source.name}", asked.out / PREDICTED / made.digest, made.place, None, asked.tests
    )
    return made


def _run(method: Method, number: int, asked: _Asked, teachers: Mapping[str, _Teacher]) -> Run:
    """One training; its folder is named by all that decides its outcome."""
    seed = method.spec.seed + number
    age = teachers[method.teacher.key] if method.teacher else None
    order = teachers[method.order.key] if method.order else None
    digests = [one.digest for one in (age, order) if one]
    made_of = digest_of([method.spec.digest(), digests])
    name = f"{RUNS}/{folder_name(method.name)}-{made_of}/seed-{seed}"
    folder = asked.out / name
    failed = next((one for one in (age, order) if one and one.failure), None)
    if failed is not None:
        return Run(seed, name, None, f"its teacher '{failed.source.name}' failed: {failed.failure}")
    training = Training(
        spec=method.spec.with_values({"seed": seed}),
        dataset=asked.dataset,
        train=Part(Split.TRAIN),
        val=Part(Split.VAL),
        crop=asked.data.crop,
        data_digest=asked.data.content_digest,
        targets=age.answers if age else None,
        features=order.answers if order else None,
        teacher_digest=age.digest if age else None,
    )
    return Run(seed, name, ModelJob(f"{method.name}, seed {seed}", folder, folder, training, asked.tests))


def _crop_notes(asked: _Asked, work: _Work) -> list[str]:
    """Where a given teacher learned from faces of another recipe."""
    given = [made for made in work.teachers.values() if isinstance(made.source.what, Location)]
    places = [{"order" if made.is_order else "teacher": made.place} for made in given if not made.failure]
    notes = (crop_notes_of(asked.dataset, **place) for place in places)
    return list(dict.fromkeys(note for some in notes for note in some))


def _record(asked: _Asked, work: _Work, failures: Mapping[str, str], seconds: float) -> MethodComparison:
    by_method = {
        name: (method, [replace(run, failure=_failure(run, failures)) for run in runs])
        for name, (method, runs) in work.runs.items()
    }
    student = asked.methods.student
    return MethodComparison(
        description=asked.methods.description,
        student=student,
        reference=asked.methods.reference.name,
        methods=tuple(method_records(by_method, str(asked.split))),
        teachers=tuple(_teacher_record(made, str(asked.split)) for made in work.teachers.values()),
        seeds=tuple(student.seed + number for number in range(asked.seeds)),
        dataset=asked.written,
        dataset_name=asked.data.name,
        data_digest=asked.data.content_digest,
        label_kind=str(asked.labels.label_kind[0]),
        split=str(asked.split),
        faces=len(asked.labels),
        train_faces=asked.data.counts[Split.TRAIN],
        resampled=asked.labels.persons.drawn,
        persons=asked.labels.persons.count,
        median=median_error(asked.dataset, asked.labels),
        notes=(*asked.notes, *_crop_notes(asked, work), *_leak_notes(asked, work)),
        seconds=round(seconds, 1),
        hardware=hardware_name(),
        versions=library_versions(),
        created=now(),
    )


def _leak_notes(asked: _Asked, work: _Work) -> list[str]:
    """Where a teacher, or a model that students start from, has seen the faces that are tested."""
    models = {
        f"The teacher '{made.source.name}'": made.place
        for made in work.teachers.values()
        if not made.failure and not made.is_order
    }
    for method, _ in work.runs.values():
        if method.spec.model.init == "model" and method.spec.model.weights:
            models["The model that students start from"] = Location.of(method.spec.model.weights)
    return [
        note
        for name, place in models.items()
        for note in leak_notes(read_model_manifest(place), asked.data, asked.labels, name)
    ]


def _failure(run: Run, failures: Mapping[str, str]) -> str:
    return run.failure or (failures.get(run.job.name, "") if run.job else "")


def _teacher_record(made: _Teacher, test: str) -> TeacherRecord:
    kind = "order" if made.is_order else "age"
    if made.failure:
        return TeacherRecord(name=made.source.name, kind=kind, about="", failure=made.failure)
    manifest = read_order_manifest(made.place) if made.is_order else read_model_manifest(made.place)
    foreign = is_teacher_file(made.place)
    trained = not isinstance(made.source.what, Location)
    predictions = made.job.predictions(test) if made.job else None
    error = None
    if predictions is not None:
        error = estimate(np.abs(errors(predictions.predicted, predictions.age)), predictions.persons)
    return TeacherRecord(
        name=made.source.name,
        kind=kind,
        about=manifest.model.arch if foreign else f"{manifest.model.arch} @ {manifest.model.input_size} px",
        path=f"{TEACHERS}/{made.source.key}" if trained else made.source.path,
        model_digest=made.digest,
        trained=trained,
        seconds=curve_seconds(made.place) if trained else None,
        metrics=manifest.metrics,
        mae_years=error,
    )
