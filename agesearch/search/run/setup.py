"""What a study needs before its first trial: its header and the trials' inputs.

Whatever can be wrong is found here, before a trial has cost anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agesearch.ages import FloatArray
from agesearch.data.dataset.arrays import numbers
from agesearch.data.dataset.records import MANIFEST, SHARDS, Manifest, Split, read_manifest
from agesearch.data.dataset.shards import labelled, read_rows
from agesearch.data.synthetic.mesh import find_data
from agesearch.errors import ConflictError, InputError, command
from agesearch.measure.accuracy import DECADE_FACES, judged_decades
from agesearch.measure.counterfactual.faces import CounterfactualSpec
from agesearch.measure.labelled_faces import first_labelled, labelled_faces
from agesearch.measure.robustness.subset import levels_of
from agesearch.measure.speed.hardware import hardware_name
from agesearch.measure.speed.latency_table import LatencyTable, machine_cache
from agesearch.measure.speed.rows import SpeedRow
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.identity import crop_notes, model_digest
from agesearch.models.manifest import library_versions
from agesearch.models.runtimes.engines import engines_here
from agesearch.models.scorers import scorer_of
from agesearch.progress import Listener
from agesearch.provenance import now
from agesearch.search.run.teachers import AGE, ORDER, Teachers, own_teacher
from agesearch.search.store.events import EventListener, Note
from agesearch.search.store.records import EarlierStudy, StudyFolder, StudyHeader, StudyInput
from agesearch.specs import LatencySpec, ModelSpec, OrderTrainSpec, StudySpec, TrainSpec
from agesearch.storage import Location, beside

if TYPE_CHECKING:
    from agesearch.search.run.trial_inputs import EndMeasures, TrialInputs

_OPTION = {"dataset": "data", "teacher": "teacher", "order teacher": "order-teacher"}


def _parameter_count(model: ModelSpec) -> int:
    from agesearch.models.zoo import build, untrained

    return build(untrained(model)).parameter_count


@dataclass(frozen=True)
class SetupFunctions:
    """What trials are made of; tests and benches put their own in."""

    latency: Callable[[ModelSpec], SpeedRow]
    inputs: Callable[[StudyHeader, Listener], TrialInputs]
    parameters: Callable[[ModelSpec], int] = _parameter_count
    file_bytes: Callable[[ModelSpec], int] | None = None


def default_functions(spec: StudySpec | None = None) -> SetupFunctions:
    """What a real study uses: latencies (and memory, where it has a limit) measured as its spec says, cached
    on this machine, and real training.

    Raises ``InputError`` where none of the engines that it names is here.
    """
    wanted = LatencySpec() if spec is None else spec.latency
    table = LatencyTable(
        machine_cache(),
        threads=wanted.threads,
        engines=engines_here(wanted.runtime, wanted.precision),
        max_bytes=None if spec is None else spec.max_bytes,
        memory=spec is not None and spec.max_memory_mb is not None,
    )
    return SetupFunctions(table.latency, _default_inputs, file_bytes=table.file_bytes)


def _default_inputs(header: StudyHeader, on_progress: Listener) -> TrialInputs:
    """The teachers' targets (computed once), and both splits: small ones decoded in the object store."""
    from agesearch.data.reading.loading import load_split
    from agesearch.distill.targets import order_features, teacher_targets
    from agesearch.models.trained_on import trained_on
    from agesearch.search.run.trial_inputs import TrialInputs
    from agesearch.training.run import train_student

    dataset, teacher = Location.of(header.dataset.path), Location.of(header.teacher.path)
    augment = header.spec.student.augment
    targets = teacher_targets(teacher, dataset, augment, on_progress)
    features = None
    if header.order_teacher is not None:
        features = order_features(header.order_teacher.path, dataset, augment, on_progress)
    train = load_split(dataset, Split.TRAIN, targets=targets, features=features)
    trainer = partial(
        train_student,
        data_digest=header.dataset.content_digest,
        trained_on=trained_on(read_manifest(dataset)),
        teacher_digest=header.teacher.content_digest,
    )
    val = load_split(dataset, Split.VAL, targets=targets, features=features)
    weights = (header.spec.student.model.weights, *header.spec.weights.values())
    in_memory = train.held is not None and val.held is not None
    stored = () if in_memory else (dataset / MANIFEST, *targets, *(features or ()))
    return TrialInputs(
        trainer,
        train,
        val,
        header.crop,
        measures=end_measures(header.spec, dataset),
        reads=tuple(str(place) for place in (*weights, *stored) if place),
    )


def check_end_measures(spec: StudySpec, dataset: Location) -> None:
    """Refuse limits that no trial could be measured by at its end, with an ``InputError``: corruptions and
    changes that are none, a missing renderer, and too few validation faces in every decade of age.
    """
    if spec.max_mae_c_years is not None:
        levels_of(spec.robustness)
    if spec.max_shift_years is not None:
        _changes(spec).check()
        find_data()
    if spec.max_worst_decade_mae_years is not None and (dataset / SHARDS).exists():
        _refuse_small_decades(spec, dataset)


def _refuse_small_decades(spec: StudySpec, dataset: Location) -> None:
    most = spec.student.val_faces
    ages = _judged_ages(dataset, most)
    if judged_decades(ages):
        return
    subset = "" if most is None else f" (val_faces: {most})"
    raise InputError(
        f"max_worst_decade_mae_years is {spec.max_worst_decade_mae_years:g}, but no decade of age has "
        f"{DECADE_FACES} of the {len(ages)} val faces of '{dataset}' that trials are judged by{subset}, and "
        "with fewer its error is mostly chance: give more val faces, or leave the limit out."
    )


def _judged_ages(dataset: Location, most: int | None) -> FloatArray:
    """The true ages in years of the val faces that have one: of at most so many, as trainings choose them."""
    rows = read_rows(dataset, Split.VAL, ["sample_id", "age"])
    if most is not None:
        ids = first_labelled(dataset, Split.VAL, most)
        rows = rows.filter(pc.is_in(rows["sample_id"], pa.array(ids, pa.string())))
    ages = numbers(rows["age"])
    return ages[~np.isnan(ages)]


def end_measures(spec: StudySpec, dataset: Location) -> EndMeasures:
    """What each trial is measured by at its end: faces and pictures are made once, before the first. Needs a
    running Ray where persons are rendered.
    """
    from agesearch.measure.counterfactual.run import render_persons
    from agesearch.search.run.trial_inputs import EndMeasures

    found: dict[str, Any] = {}
    if spec.max_mae_c_years is not None:
        found["faces"] = labelled_faces(dataset, Split.VAL, spec.robustness.faces)
        found["levels"] = tuple(levels_of(spec.robustness))
    if spec.max_shift_years is not None:
        found["changes"] = _changes(spec)
        found["persons"] = render_persons(found["changes"])
    return EndMeasures(**found)


def _changes(spec: StudySpec) -> CounterfactualSpec:
    asked = spec.counterfactual
    return CounterfactualSpec(persons=asked.persons, seed=asked.seed, changes=asked.changes)


def paced(spec: StudySpec, checkpoint_minutes: float | None) -> StudySpec:
    """The study with the checkpoints of its trainings so many minutes apart (None: as it says)."""
    if checkpoint_minutes is None:
        return spec
    asked = {"student.compute.checkpoint_minutes": checkpoint_minutes}
    if isinstance(spec.teachers.age, TrainSpec):
        asked["teachers.age.compute.checkpoint_minutes"] = checkpoint_minutes
    if isinstance(spec.teachers.order, OrderTrainSpec):
        asked["teachers.order.checkpoint_minutes"] = checkpoint_minutes
    return spec.with_values(asked)


def refuse_empty(dataset: Location, manifest: Manifest) -> None:
    """An ``InputError`` where a split that a search needs has no faces, or where no validation face has an
    exact age: students are compared by their error in years, whatever their heads and losses learn from.
    """
    for split in (Split.TRAIN, Split.VAL):
        if not manifest.counts.get(split.value):
            raise InputError(
                f"The dataset '{dataset}' has no faces in its {split.value} split, "
                "and a search needs both train and val faces."
            )
    if not (dataset / SHARDS).exists():
        return  # damaged, which is told where it is opened, or what a bench's trainers pretend to read
    found = labelled(dataset, Split.VAL)
    if not found.ages:
        state = "age groups and no exact ages" if found.groups else "no ages"
        annotate = command(
            "annotate", "--teacher", "TEACHER", "--data", dataset, "--out", beside(dataset, "-ages")
        )
        instead = f"{annotate} --labelled replace" if found.groups else annotate
        raise InputError(
            f"The val faces of '{dataset}' have {state}, and a search compares students by their error in "
            "years: mix in val faces with exact ages ('agesearch data mix'), or give these a teacher's, with:"
            f" {instead}"
        )


def study_header(
    spec: StudySpec,
    dataset: Location,
    manifest: Manifest,
    teachers: tuple[StudyInput, StudyInput | None],
    scale: float = 1.0,
    like: EarlierStudy | None = None,
) -> StudyHeader:
    """The record a new study starts with."""
    spec = _with_absolute_weights(spec)
    age, order = teachers
    return StudyHeader(
        spec=spec,
        dataset=StudyInput(path=str(dataset), content_digest=manifest.content_digest),
        teacher=age,
        order_teacher=order,
        scale=scale,
        like=like,
        crop=manifest.crop,
        spec_digest=spec.digest(),
        created=now(),
        hardware=hardware_name(),
        versions=library_versions(),
    )


def _with_absolute_weights(spec: StudySpec) -> StudySpec:
    """Trials run in other processes, with other working folders."""
    student = spec.student
    if student.model.weights:
        student = student.with_values({"model.weights": str(Location.of(student.model.weights))})
    files = {arch: str(Location.of(file)) for arch, file in spec.weights.items()}
    return spec.model_copy(update={"student": student, "weights": files})


def warn_of_other_crops(manifest: Manifest, teacher: Location, on_event: EventListener) -> None:
    """Say so where the teacher learned from crops of another scale, alignment or detector."""
    if is_teacher_file(teacher):
        scorer_of(teacher, manifest.crop)  # refuses crops that are too narrow; wider ones are cut
    for note in crop_notes(teacher, manifest.crop, "its targets may be poor"):
        on_event(Note(note))


def taken(folder: StudyFolder, spec: StudySpec, manifest: Manifest, teachers: Teachers) -> ConflictError:
    """The error for a folder that holds a study already: it says which, and how to go on with it."""
    old = folder.header()
    finished = sum(trial.state.ended for trial in folder.trials())
    same = (old.spec_digest, old.dataset.content_digest) == (
        _with_absolute_weights(spec).digest(),
        manifest.content_digest,
    )
    if AGE not in dict(teachers.untrained):
        same = same and old.teacher.content_digest == model_digest(teachers.age)
    what = "this study" if same else "another study (its spec, dataset or teacher differs)"
    return ConflictError(
        f"'{folder.root}' already holds {what}, with {finished} of {old.spec.trials} trials finished: "
        f"choose another --out, or go on with: {command('resume', folder.root)}"
    )


def same_source(
    what: str, source: StudyInput, moved_to: str | Location | None, digest: Callable[[Location], str]
) -> StudyInput:
    """Where a study's dataset or teacher lies now; an ``InputError`` where it is gone or another one."""
    place = Location.of(moved_to or source.path)
    if not place.exists():
        raise InputError(
            f"The study's {what} is no longer at '{place}': say where it is with --{_OPTION[what]}."
        )
    if digest(place) != source.content_digest:
        raise InputError(
            f"The {what} at '{place}' is not the one the study was started with: its content differs. "
            "Start a new study for it with another --out."
        )
    return source.model_copy(update={"path": str(place)})


def same_teachers(
    folder: StudyFolder,
    header: StudyHeader,
    age: str | Location | None = None,
    order: str | Location | None = None,
) -> dict[str, StudyInput | None]:
    """A study's teachers as they lie now, for its header; see ``same_source``."""
    age = age or own_teacher(folder, AGE, header.teacher)
    found: dict[str, StudyInput | None] = {
        "teacher": same_source("teacher", header.teacher, age, model_digest)
    }
    if header.order_teacher is not None:
        from agesearch.models.order_net import order_digest

        order = order or own_teacher(folder, ORDER, header.order_teacher)
        found["order_teacher"] = same_source("order teacher", header.order_teacher, order, order_digest)
    return found


def dataset_digest(dataset: Location) -> str:
    """The digest of a dataset's content, as its manifest has it."""
    return read_manifest(dataset).content_digest
