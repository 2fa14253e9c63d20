"""What a comparison of methods finds, as records.

Each method has its figures over its trainings, and its difference to the reference: an interval over faces
and seeds, and whether it is more than luck.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from agesearch.measure.intervals import Estimate, Values
from agesearch.measure.predictions import Predictions
from agesearch.measure.protocols import protocol_named
from agesearch.measure.repeated import Verdict, holm, repeated_estimate, sign_flip_p, spread, verdict
from agesearch.metrics import CS5, EPOCH, EPOCH_SECONDS, MAE_YEARS, VAL_MAE_YEARS
from agesearch.models.identity import read_model_manifest
from agesearch.specs import SharedRecord, Spec, TrainSpec
from agesearch.storage import Location
from agesearch.training.comparison.methods import Method
from agesearch.training.curve import read_curve
from agesearch.training.protocols.jobs import ModelJob

#: Between which values a score can lie at all.
_LIMITS = {MAE_YEARS: (0.0, math.inf), CS5: (0.0, 1.0)}


class TrainingRecord(Spec):
    """One training: its model folder (in the comparison's), best epoch, seconds and scores on the split, or
    why it failed.
    """

    seed: int
    folder: str
    failure: str = ""
    epoch: int = 0
    val_mae_years: float | None = None
    seconds: float | None = None
    scores: dict[str, float] = {}


class RepeatedScore(Spec):
    """A score's mean over trainings, their sample standard deviation ``sd``, and the 95 % interval of the
    mean over other persons and seeds.
    """

    value: float
    sd: float
    low: float
    high: float


class MethodDifference(Spec):
    """A method's MAE minus the reference's, in years, over the ``seeds`` that both have.

    The 95 % interval is of ``agesearch.measure.repeated``, for other persons and seeds; ``p`` is a sign-flip
    test's over the persons, ``p_holm`` the same with Holm's correction over the methods.
    """

    seeds: tuple[int, ...]
    difference: Estimate
    p: float
    p_holm: float
    verdict: Verdict


class MethodRecord(Spec):
    """A method: what it changes in the student, its teachers by name, its trainings and their figures.

    ``scores`` is empty where every training failed; the reference has no ``difference``.
    """

    name: str
    about: str
    head: str
    teacher: str | None
    order: str | None
    values: dict[str, Any]
    trainings: tuple[TrainingRecord, ...]
    scores: dict[str, RepeatedScore] = {}
    difference: MethodDifference | None = None

    @property
    def seconds(self) -> float | None:
        """Mean training time of a student in seconds, its teachers' not counted."""
        known = [run.seconds for run in self.trainings if run.seconds is not None]
        return float(np.mean(known)) if known else None


class TeacherRecord(Spec):
    """A teacher: where it is, whether this comparison trained it (then in how many seconds), and how good it
    is: its MAE on the same faces as the students', or what an order teacher's manifest says.
    """

    name: str
    kind: Literal["age", "order"]
    about: str
    path: str = ""
    model_digest: str = ""
    trained: bool = False
    seconds: float | None = None
    metrics: dict[str, float] = {}
    mae_years: Estimate | None = None
    failure: str = ""


class MethodComparison(SharedRecord):
    """The record of a comparison: what ``--json`` prints and ``result.json`` holds.

    ``median`` is the MAE of always answering the training faces' median age; ``resampled`` says what the
    intervals draw besides seeds, and ``persons`` how many there are (None: nobody is known).
    """

    description: str
    student: TrainSpec
    reference: str
    methods: tuple[MethodRecord, ...]
    teachers: tuple[TeacherRecord, ...]
    seeds: tuple[int, ...]
    dataset: str
    dataset_name: str
    data_digest: str
    label_kind: str
    split: str
    faces: int
    train_faces: int
    resampled: Literal["faces", "persons"]
    persons: int | None = None
    median: Estimate
    notes: tuple[str, ...] = ()
    seconds: float
    hardware: str
    versions: dict[str, str]
    created: str

    @property
    def failed(self) -> int:
        """The number of trainings that failed."""
        return sum(bool(run.failure) for method in self.methods for run in method.trainings)


@dataclass(frozen=True)
class Run:
    """A training of a method with one seed, its folder in the comparison's, and why it failed, if it did."""

    seed: int
    folder: str
    job: ModelJob | None
    failure: str = ""


def method_records(methods: Mapping[str, tuple[Method, Sequence[Run]]], test: str) -> list[MethodRecord]:
    """The record of each method; the first one is the reference. ``test`` is the jobs' test."""
    predictions = {name: _predictions(runs, test) for name, (_, runs) in methods.items()}
    reference = next(iter(predictions.values()))
    found = {name: _against(one, reference) for name, one in list(predictions.items())[1:]}
    pairs = {name: pair for name, pair in found.items() if pair is not None}
    adjusted = dict(zip(pairs, holm([pair.p for pair in pairs.values()]), strict=True))
    return [
        _record(method, runs, predictions[name], _difference(pairs.get(name), adjusted.get(name, 1.0)))
        for name, (method, runs) in methods.items()
    ]


@dataclass(frozen=True)
class _Pair:
    """A method against the reference, before p-values are adjusted for the number of methods."""

    seeds: tuple[int, ...]
    difference: Estimate
    p: float


def _difference(pair: _Pair | None, p_holm: float) -> MethodDifference | None:
    if pair is None:
        return None
    return MethodDifference(
        seeds=pair.seeds,
        difference=pair.difference,
        p=pair.p,
        p_holm=p_holm,
        verdict=verdict(pair.difference, p_holm),
    )


def curve_seconds(folder: Location) -> float | None:
    """The seconds of all epochs of a training; None where it left no curve."""
    rows = read_curve(folder)
    return round(sum(row[EPOCH_SECONDS] for row in rows), 1) if rows else None


def _predictions(runs: Sequence[Run], test: str) -> dict[int, Predictions]:
    """The predicted faces of each training that did not fail, by its seed."""
    found = {run.seed: run.job.predictions(test) for run in runs if run.job is not None and not run.failure}
    return {seed: predictions for seed, predictions in found.items() if predictions is not None}


def _against(found: Mapping[int, Predictions], reference: Mapping[int, Predictions]) -> _Pair | None:
    """Absolute errors minus the reference's, of the seeds that both have; None where they share none.

    Equal seeds draw the same order of faces and the same augmentation, so they are compared with each other.
    """
    seeds = tuple(seed for seed in found if seed in reference)
    if not seeds:
        return None
    values = np.stack(
        [_values(found[seed])[MAE_YEARS] - _values(reference[seed])[MAE_YEARS] for seed in seeds]
    )
    persons = reference[seeds[0]].persons
    return _Pair(seeds, repeated_estimate(values, persons), sign_flip_p(values.mean(axis=0), persons))


def _values(predictions: Predictions) -> dict[str, Values]:
    return protocol_named("standard").values(predictions)


def _record(
    method: Method,
    runs: Sequence[Run],
    predictions: Mapping[int, Predictions],
    difference: MethodDifference | None,
) -> MethodRecord:
    values = {seed: _values(one) for seed, one in predictions.items()}
    names = next(iter(values.values())).keys() if values else ()
    scores = {}
    for name in names:
        table = np.stack([found[name] for found in values.values()])
        mean = repeated_estimate(table, next(iter(predictions.values())).persons)
        low, high = _LIMITS.get(
            name, (-math.inf, math.inf)
        )  # an interval stretched for two trainings is wide
        scores[name] = RepeatedScore(
            value=mean.value,
            sd=spread(list(table.mean(axis=1))),
            low=max(mean.low, low),
            high=min(mean.high, high),
        )
    return MethodRecord(
        name=method.name,
        about=method.about,
        head=method.spec.model.head,
        teacher=method.teacher and method.teacher.name,
        order=method.order and method.order.name,
        values=dict(method.values),
        trainings=tuple(_training(run, values.get(run.seed)) for run in runs),
        scores=scores,
        difference=difference,
    )


def _training(run: Run, values: Mapping[str, Values] | None) -> TrainingRecord:
    if values is None or run.job is None:
        return TrainingRecord(
            seed=run.seed, folder=run.folder, failure=run.failure or "it left no predictions"
        )
    metrics = read_model_manifest(run.job.model).metrics
    return TrainingRecord(
        seed=run.seed,
        folder=run.folder,
        epoch=int(metrics.get(EPOCH, 0)),
        val_mae_years=metrics.get(VAL_MAE_YEARS),
        seconds=curve_seconds(run.job.model),
        scores={name: float(found.mean()) for name, found in values.items()},
    )
