"""What a teacher is, how fast, and how good on a dataset: the record behind ``agesearch teacher show``."""

from __future__ import annotations

import numpy as np

from agesearch.data.dataset.records import Split, read_manifest
from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.measure.accuracy import AgeBin, accuracy_by_decade, errors, within
from agesearch.measure.intervals import Estimate, estimate
from agesearch.measure.leakage import calibration_notes, leak_notes
from agesearch.measure.predictions import predict_faces, read_labels
from agesearch.measure.speed.rows import Setting, SpeedRow
from agesearch.measure.speed.timing import measure_onnx
from agesearch.models.foreign.document import (
    CalibratedTeacher,
    OnnxTeacher,
    is_teacher_file,
    members_of,
    read_teacher_file,
)
from agesearch.models.foreign.network import parameters_of, read_onnx
from agesearch.models.identity import calibrations_in, crop_notes, model_digest, read_model_manifest
from agesearch.models.manifest import WEIGHTS, read_checked
from agesearch.models.scorers import scorer_of
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import CropSpec, SharedRecord, Spec
from agesearch.storage import Location

_STAGE = "Teacher"


class TeacherAccuracy(Spec):
    """How good a teacher is on the faces of a split that have an age; ``spread_years`` is the mean width of
    its distributions; ``notes`` say where it has seen these faces, or faces of another crop.
    """

    dataset: str
    split: str
    mae_years: Estimate
    cs5: float
    bias_years: float
    spread_years: float
    decades: tuple[AgeBin, ...]
    notes: tuple[str, ...] = ()


class TeacherFacts(SharedRecord):
    """What a teacher is: ``kind`` is ``ours``, ``foreign`` or ``ensemble``; ``share`` its part in one."""

    path: str
    kind: str
    name: str
    input_size: int
    parameters: int
    bytes: int
    crop_scale: float
    crop_align: bool | None
    licences: dict[str, str] = {}
    source: str = ""
    content_digest: str
    training: dict[str, float] = {}
    share: float | None = None
    members: tuple[TeacherFacts, ...] = ()
    speed: SpeedRow | None = None
    accuracy: TeacherAccuracy | None = None


def describe_teacher(
    where: str | Location,
    dataset: str | Location | None = None,
    split: Split = Split.VAL,
    *,
    on_progress: Listener = silent,
) -> TeacherFacts:
    """The facts of a teacher (a model folder or a document), its speed, and its accuracy on a dataset.

    Speed is one face on one thread, the network alone. Raises ``InputError`` for a teacher that cannot be
    opened, and for a split without ages.
    """
    facts = _facts(where)
    on_progress(Progress(_STAGE, 0, 1, note="speed"))
    crop = None if dataset is None else read_manifest(dataset).crop
    scorer = scorer_of(where, crop)
    speed = measure_onnx(scorer, arch=facts.name, input_size=facts.input_size, setting=Setting())
    on_progress(Progress(_STAGE, 1, 1, note="speed"))
    accuracy = None if dataset is None else teacher_accuracy(where, dataset, split, on_progress=on_progress)
    return facts.model_copy(update={"speed": speed, "accuracy": accuracy})


def teacher_accuracy(
    where: str | Location, dataset: str | Location, split: Split, *, on_progress: Listener = silent
) -> TeacherAccuracy:
    """A teacher's MAE, CS@5 and bias on a split's faces with an age, and its MAE by decade of age."""
    labels = read_labels(dataset, split)
    labels = labels.take(np.isfinite(labels.age))
    if not len(labels):
        raise InputError(
            f"'{dataset}' has no faces with an age in its split '{split}': choose another --split."
        )
    threads = cores()
    manifest = read_manifest(dataset)
    predictor = scorer_of(where, manifest.crop).open(threads)

    def heard(done: int) -> None:
        on_progress(Progress("Accuracy", done, len(labels), note="faces"))

    models = {"teacher": predictor}
    found = predict_faces(models, dataset, labels, part=split, threads=threads, on_batch=heard)["teacher"]
    signed = errors(found.predicted, found.age)
    return TeacherAccuracy(
        dataset=Location.of(dataset).name,
        split=str(split),
        mae_years=estimate(np.abs(signed), found.persons),
        cs5=float(within(signed).mean()),
        bias_years=float(signed.mean()),
        spread_years=float(found.spread.mean()),
        decades=tuple(accuracy_by_decade(found.predicted, found.age, found.persons)),
        notes=(
            *leak_notes(read_model_manifest(where), manifest, labels, "This teacher"),
            *calibration_notes(calibrations_in(where), manifest, labels, "This teacher"),
            *crop_notes(where, manifest.crop, "its error is of that, too"),
        ),
    )


def _facts(where: str | Location, depth: int = 0, share: float | None = None) -> TeacherFacts:
    if not is_teacher_file(where):
        return _of_folder(Location.of(where), share)
    spec = read_teacher_file(where)
    if isinstance(spec, OnnxTeacher):
        content = read_onnx(where, spec)
        return TeacherFacts(
            path=Location.of(where).name,
            kind="foreign",
            name=spec.name,
            input_size=spec.input.size,
            parameters=parameters_of(content),
            bytes=len(content),
            crop_scale=spec.crop.scale,
            crop_align=spec.crop.align,
            licences={spec.name: spec.licence},
            source=spec.source,
            content_digest=model_digest(where),
            share=share,
        )
    places = members_of(where, spec, depth)
    if isinstance(spec, CalibratedTeacher):
        model = _facts(places[0], depth + 1, share)
        digest = model_digest(where, depth)
        return model.model_copy(update={"path": Location.of(where).name, "content_digest": digest})
    members = [_facts(m, depth + 1, part) for m, part in zip(places, spec.shares(), strict=True)]
    return TeacherFacts(
        path=Location.of(where).name,
        kind="ensemble",
        name=spec.name,
        input_size=max(member.input_size for member in members),
        parameters=sum(member.parameters for member in members),
        bytes=sum(member.bytes for member in members),
        crop_scale=max(member.crop_scale for member in members),
        crop_align=None,
        licences={name: text for member in members for name, text in member.licences.items()},
        content_digest=model_digest(where),
        share=share,
        members=tuple(members),
    )


def _of_folder(where: Location, share: float | None) -> TeacherFacts:
    manifest = read_model_manifest(where)
    crop: CropSpec = manifest.crop
    return TeacherFacts(
        path=Location.of(where).name,
        kind="ours",
        name=manifest.model.arch,
        input_size=manifest.model.input_size,
        parameters=manifest.parameters,
        bytes=len(read_checked(where, WEIGHTS, manifest=manifest)),
        crop_scale=crop.scale,
        crop_align=crop.align,
        licences=manifest.licences,
        content_digest=model_digest(where),
        training=manifest.metrics,
        share=share,
    )
