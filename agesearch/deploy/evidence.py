"""What is known of a model when it is published, from records only: accuracy, speed, robustness, origin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agesearch.data.dataset.records import read_manifest
from agesearch.errors import InputError
from agesearch.measure.accuracy import AgeBin, bias, cs
from agesearch.measure.intervals import Estimate
from agesearch.metrics import BIAS_YEARS, CS5, MAE_YEARS, on_split
from agesearch.models.identity import model_digest, read_model_manifest
from agesearch.search.choice.confirmed import candidates_of
from agesearch.search.front.latencies import study_latencies
from agesearch.search.front.measurements import (
    MEDIAN,
    TEACHER,
    Measurements,
    has_measurements,
    read_measurements,
)
from agesearch.search.store.records import StudyFolder, StudyHeader, TrialRecord
from agesearch.storage import Location

#: The splits in the order of what they prove: no decision of the search has seen the test split.
_SPLITS = ("test", "val", "train")

#: In a row of a version's speed: the teacher's median in the same run, in ms a call.
TEACHER_LATENCY = "teacher_latency_ms_p50"


@dataclass(frozen=True)
class Accuracy:
    """One model's accuracy on one split; ``teacher`` and ``median`` are the MAEs of the yardsticks, if known.

    ``median`` is the MAE of always saying the median age of the training faces.
    """

    split: str
    mae_years: Estimate
    cs5: float
    bias_years: float
    teacher: Estimate | None
    median: Estimate | None


@dataclass(frozen=True)
class Evidence:
    """The measurements of one model and where it came from; empty where nothing was measured."""

    accuracy: list[Accuracy] = field(default_factory=list)
    by_decade: list[AgeBin] = field(default_factory=list)
    speed: list[dict[str, Any]] = field(default_factory=list)
    robustness: list[dict[str, Any]] = field(default_factory=list)
    licences: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """The accuracy under the metrics' names."""
        return {
            on_split(row.split, name): value
            for row in self.accuracy
            for name, value in (
                (MAE_YEARS, row.mae_years.value),
                (CS5, row.cs5),
                (BIAS_YEARS, row.bias_years),
            )
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % intervals under the metrics' names."""
        return {
            on_split(row.split, MAE_YEARS): (row.mae_years.low, row.mae_years.high) for row in self.accuracy
        }


def study_evidence(study: StudyFolder, trial: TrialRecord, dataset: Location) -> Evidence:
    """The evidence for one trial of a study, from ``STUDY/measured`` where it was measured."""
    measured = read_measurements(study) if has_measurements(study) else None
    accuracy = _accuracy(measured, trial.name) if measured else []
    data = read_manifest(dataset)
    header = study.header()
    return Evidence(
        accuracy=accuracy,
        by_decade=_decades(measured, accuracy[0].split, trial.name) if measured and accuracy else [],
        speed=_speed(measured, trial.name) if measured else [],
        robustness=[row.model_dump(mode="json") for row in measured.robustness if row.model == trial.name]
        if measured
        else [],
        licences={"data": data.licence} | teacher_licences(header),
        provenance=_study_provenance(study, header, trial) | {"dataset": _dataset_provenance(dataset)},
    )


def is_measured(study: StudyFolder, trial: TrialRecord) -> bool:
    """Whether all that a card says of a trial was measured: speed by the teacher, accuracy, robustness."""
    if not has_measurements(study) or study_latencies(study).latency(trial).times_teacher is None:
        return False
    measured = read_measurements(study)
    scored = all((_SPLITS[1], name) in measured.predictions for name in (trial.name, TEACHER))
    return scored and any(row.model == trial.name for row in measured.robustness)


def teacher_licences(header: StudyHeader) -> dict[str, str]:
    """The licences that a study's teacher names, by ``teacher NAME``; none where it is gone or another."""
    place = Location.of(header.teacher.path)
    if not place.exists():
        return {}
    try:
        if model_digest(place) != header.teacher.content_digest:
            return {}
        licences = read_model_manifest(place).licences
    except InputError:  # a teacher damaged since then does not keep its students from being published
        return {}
    return {f"teacher {name}": text for name, text in licences.items() if name != "data"}


def folder_evidence(folder: Location, dataset: Location) -> Evidence:
    """The evidence for a model folder that is no trial, such as a teacher: what its dataset says."""
    return Evidence(
        licences={"data": read_manifest(dataset).licence},
        provenance={"model_folder": folder.name, "dataset": _dataset_provenance(dataset)},
    )


def _speed(measured: Measurements, model: str) -> list[dict[str, Any]]:
    """The timings of a model, each with the teacher's of the same run and setting beside it."""
    teacher = {(row.threads, row.batch): row.latency_ms_p50 for row in measured.speed if row.model == TEACHER}
    return [
        row.model_dump(mode="json") | {TEACHER_LATENCY: teacher.get((row.threads, row.batch))}
        for row in measured.speed
        if row.model == model
    ]


def _accuracy(measured: Measurements, model: str) -> list[Accuracy]:
    rows = []
    for split in _SPLITS:
        found = measured.predictions.get((split, model))
        if found is None:
            continue
        rows.append(
            Accuracy(
                split=split,
                mae_years=found.mae(),
                cs5=cs(found.predicted_age, found.age),
                bias_years=bias(found.predicted_age, found.age),
                teacher=_yardstick(measured, split, TEACHER),
                median=_yardstick(measured, split, MEDIAN),
            )
        )
    return rows


def _yardstick(measured: Measurements, split: str, model: str) -> Estimate | None:
    found = measured.predictions.get((split, model))
    return found.mae() if found is not None else None


def _decades(measured: Measurements, split: str, model: str) -> list[AgeBin]:
    return measured.predictions[(split, model)].by_decade()


def _study_provenance(study: StudyFolder, header: StudyHeader, trial: TrialRecord) -> dict[str, Any]:
    # Names and digests, no paths: a published card must not tell how its author's disk is laid out.
    return {
        "study": study.root.name,
        "study_spec_digest": header.spec_digest,
        "trial": trial.number,
        "trial_name": trial.name,
        "teacher": {
            "name": Location.of(header.teacher.path).name,
            "content_digest": header.teacher.content_digest,
        },
        "hardware": header.hardware,
        **_chosen(study, header, trial),
    }


def _chosen(study: StudyFolder, header: StudyHeader, trial: TrialRecord) -> dict[str, Any]:
    """What its new trainings found, where the trial was confirmed, and which study the search began with."""
    again = [one.as_json() for one in candidates_of(study) if one.number == trial.number]
    found: dict[str, Any] = {"confirmed": again[0]} if again else {}
    if header.like is not None:
        like = header.like.model_dump(mode="json")
        found["like"] = like | {"path": Location.of(header.like.path).name}
    return found


def _dataset_provenance(dataset: Location) -> dict[str, Any]:
    data = read_manifest(dataset)
    return {
        "name": data.name,
        "label_kind": data.label_kind,
        "content_digest": data.content_digest,
        "counts": data.counts,
        "subjects": data.subjects,
        "detector": data.detector,
    }
