"""Bring a report's records up to date: what is there for the same models, faces and settings stays.

Each record is made by the step that its verb of ``measure`` runs. One that cannot be made (no minors in the
dataset, say) does not keep the others from being made: its reason is kept, and the report tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agesearch.data.dataset.records import Manifest, Split, read_manifest
from agesearch.deploy.reported.models import Placed, distinct
from agesearch.deploy.reported.records import (
    COUNTERFACTUAL,
    DECISIONS,
    REPORTED,
    ROBUSTNESS,
    SPEED,
    STRIP,
    TEST,
    VALIDATION,
    Compared,
    Records,
    Reported,
    ReportedData,
    read_records,
    record_file,
)
from agesearch.deploy.speed import speed_of_subjects
from agesearch.errors import InputError, first_line
from agesearch.measure.accuracy import paired_difference
from agesearch.measure.counterfactual.faces import CounterfactualSpec
from agesearch.measure.counterfactual.run import measure_counterfactual
from agesearch.measure.decisions.run import DecisionSpec, measure_decisions
from agesearch.measure.evaluate import evaluate
from agesearch.measure.labelled_faces import first_labelled
from agesearch.measure.protocols import protocol_named
from agesearch.measure.robustness.protocol import set_named
from agesearch.measure.robustness.record import measure_robustness
from agesearch.measure.robustness.strip import corrupted_strip
from agesearch.measure.speed.hardware import hardware_name
from agesearch.measure.speed.rows import Setting
from agesearch.measure.speed.subjects import subject_at
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import INT8_ONNX
from agesearch.models.runtimes.engines import engines_here
from agesearch.progress import Listener, silent
from agesearch.provenance import now
from agesearch.specs import SharedRecord, Spec, digest_of
from agesearch.storage import Location

_KEYS = "keys.json"


class ReportSpec(Spec):
    """What a report measures: faces that are corrupted at most and under which set, the age limit of the
    decisions, whether bf16 and int8 are judged on the validation faces (``judge``; else fp32 is timed, and
    what a version was published for on this kind of machine),
    how many persons are rendered and changed (``counterfactual_persons``; 0: none), and the sources whose
    faces may be shown. ``skip`` names records that are not measured.
    """

    robustness_faces: int = 200
    corruption_set: str = "hendrycks"
    legal_age: float = 18.0
    challenge_age: float | None = None
    max_fpr: float | None = None
    min_faces: int = 30
    judge: bool = False
    counterfactual_persons: int = 0
    faces_from: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse ages and rates that are none, before anything is measured."""
        DecisionSpec(legal_age=self.legal_age, challenge_age=self.challenge_age, max_fpr=self.max_fpr).check()


@dataclass(frozen=True)
class _Job:
    models: Sequence[Placed]
    dataset: Location
    spec: ReportSpec
    address: str | None
    on_progress: Listener

    @cached_property
    def data(self) -> Manifest:
        return read_manifest(self.dataset)

    @cached_property
    def split(self) -> Split:
        """The test faces, which chose nothing; the validation faces where none of those has an age."""
        return Split.TEST if first_labelled(self.dataset, Split.TEST, 1) else Split.VAL

    @cached_property
    def places(self) -> dict[str, Location]:
        """All models."""
        return {one.model.name: one.place for one in self.models}

    @cached_property
    def examined(self) -> dict[str, Location]:
        """The student, its teacher and the foreign models: those that are looked at closely."""
        return {one.model.name: one.place for one in self.models if one.model.role != "front"}

    @cached_property
    def reference(self) -> str:
        """The teacher; without one the first foreign model, else the student itself."""
        by_role = {one.model.role: one.model.name for one in reversed(self.models)}
        return by_role.get("teacher") or by_role.get("foreign") or self.models[0].model.name


def measure_reported(
    models: Sequence[Placed],
    dataset: str | Location,
    folder: Location,
    spec: ReportSpec,
    *,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Records:
    """Measure what ``folder`` lacks of models, the student first; returns all records.

    Raises ``InputError`` where a name is given twice, or nothing is a dataset.
    """
    job = _Job(distinct(models), Location.of(dataset), spec, address, on_progress)
    keys = (folder / _KEYS).read_json() if (folder / _KEYS).exists() else {}
    reasons: dict[str, str] = {}
    for name, (settings, make) in _steps(job).items():
        key = digest_of([job.data.content_digest, settings])
        if name in spec.skip:
            reasons[name] = "it was left out"
        elif keys.get(name) != key or not record_file(folder, name).exists():
            try:
                record_file(folder, name).write_json(make().model_dump(mode="json"))
            except InputError as error:
                reasons[name] = first_line(error)
                keys.pop(name, None)
                continue
            keys[name] = key
            (folder / _KEYS).write_json(keys)
    (folder / REPORTED).write_json(_reported(job, reasons).model_dump(mode="json"))
    return read_records(folder)


def _steps(job: _Job) -> Mapping[str, tuple[list[Any], Callable[[], SharedRecord]]]:
    """Each record: the settings that it holds for, and who makes it. Speed comes first, before Ray runs."""
    spec = job.spec
    every = [[one.model.name, one.model.model_digest] for one in job.models]
    examined = [[one.model.name, one.model.model_digest] for one in job.models if one.model.role != "front"]
    limits = [spec.legal_age, spec.challenge_age, spec.max_fpr, spec.min_faces]
    steps: dict[str, tuple[list[Any], Callable[[], SharedRecord]]] = {
        SPEED: ([every, hardware_name(), spec.judge, *_served(job)], lambda: _speed(job)),
        VALIDATION: ([every, job.reference], lambda: _compared(job, Split.VAL)),
    }
    if job.split is Split.TEST:
        steps[TEST] = ([every, job.reference], lambda: _compared(job, Split.TEST))
    steps[DECISIONS] = ([examined, str(job.split), *limits], lambda: _decisions(job))
    if spec.faces_from:
        sources = list(spec.faces_from)
        steps[STRIP] = (
            [examined, str(job.split), sources],
            lambda: corrupted_strip(job.examined, job.dataset, job.split, sources),
        )
    if spec.counterfactual_persons:
        changed = [examined, spec.counterfactual_persons, *limits[:2]]
        steps[COUNTERFACTUAL] = (changed, lambda: _counterfactual(job))
    corrupted = [examined, str(job.split), spec.corruption_set, spec.robustness_faces, job.reference]
    steps[ROBUSTNESS] = (corrupted, lambda: _robustness(job))
    return steps


def _served(job: _Job) -> list[Any]:
    """What tells versions of one network apart: the engines that each may be served on, and its int8 file."""
    manifests = {name: read_model_manifest(place) for name, place in job.places.items()}
    return [
        [name, sorted(map(str, manifest.allowed)), manifest.files.get(INT8_ONNX)]
        for name, manifest in manifests.items()
        if manifest.precisions
    ]


def _speed(job: _Job) -> SharedRecord:
    subjects = [subject_at(name, place, job.data.crop) for name, place in job.places.items()]
    return speed_of_subjects(
        subjects,
        engines_here(),
        [Setting()],
        only_known=not job.spec.judge,
        gate_on=job.dataset if job.spec.judge else None,
        on_progress=job.on_progress,
    )


def _compared(job: _Job, split: Split) -> SharedRecord:
    found = evaluate(
        job.places, job.dataset, protocol_named("standard", split=split), on_progress=job.on_progress
    )
    answers = found.predictions
    reference = answers[job.reference]
    return Compared(
        evaluation=found.record,
        reference=job.reference,
        against={
            name: paired_difference(one.predicted, reference.predicted, one.age, one.persons)
            for name, one in answers.items()
            if name != job.reference and len(one) == len(reference)
        },
    )


def _decisions(job: _Job) -> SharedRecord:
    spec = DecisionSpec(
        legal_age=job.spec.legal_age,
        challenge_age=job.spec.challenge_age,
        max_fpr=job.spec.max_fpr,
        split=job.split,
        min_faces=job.spec.min_faces,
    )
    return measure_decisions(job.examined, job.dataset, spec, on_progress=job.on_progress)


def _counterfactual(job: _Job) -> SharedRecord:
    spec = CounterfactualSpec(
        persons=job.spec.counterfactual_persons,
        legal_age=job.spec.legal_age,
        challenge_age=job.spec.challenge_age,
    )
    return measure_counterfactual(job.examined, spec, address=job.address, on_progress=job.on_progress)


def _robustness(job: _Job) -> SharedRecord:
    return measure_robustness(
        job.examined,
        job.dataset,
        set_named(job.spec.corruption_set),
        reference=job.reference,
        split=job.split,
        faces=job.spec.robustness_faces,
        address=job.address,
        on_progress=job.on_progress,
    )


def _reported(job: _Job, reasons: Mapping[str, str]) -> Reported:
    data = job.data
    return Reported(
        models=tuple(one.model for one in job.models),
        data=ReportedData(
            name=data.name,
            content_digest=data.content_digest,
            licence=data.licence,
            label_kind=data.label_kind,
            counts=dict(data.counts),
            subjects=data.subjects,
        ),
        split=str(job.split),
        reasons=dict(reasons),
        created=now(),
    )
