"""Whose faces calibrate a model, and what it answers them: those that chose nothing about it."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agesearch.ages import BINS, FloatArray, expected_age
from agesearch.data.dataset.records import Manifest, Part, Split
from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.measure.calibration.conformal import least_faces
from agesearch.measure.calibration.folds import FOLDS
from agesearch.measure.intervals import Persons, Values
from agesearch.measure.leakage import leaks, seen_by
from agesearch.measure.predictions import Labels, crop_batches, read_labels
from agesearch.models.calibration.record import CalibrationFaces
from agesearch.models.manifest import ModelManifest
from agesearch.models.predictors import Predictor
from agesearch.progress import Listener, Progress
from agesearch.storage import Location

#: More faces make no interval better; their PMFs (0.4 kB a face) stay in memory.
MOST_FACES = 20_000
_LEAST_PERSONS = 10
_STAGE = "Calibrate"


@dataclass(frozen=True)
class AnsweredFaces:
    """N calibration faces: a model's PMFs ``[N, 101]`` and true ages ``[N]``, and whom they show."""

    pmf: FloatArray
    age: Values
    persons: Persons

    @property
    def predicted(self) -> Values:
        return expected_age(self.pmf).astype(np.float64)

    def described(self, data: Manifest, part: Part, folds: int | None = None) -> CalibrationFaces:
        """What a calibration keeps of these faces, which are a part of a dataset."""
        return CalibrationFaces(
            data=data.name,
            data_digest=data.content_digest,
            part=part,
            label_kind=data.label_kind,
            faces=len(self.age),
            persons=self.persons.count,
            folds=folds,
        )


def default_part(manifest: ModelManifest, data: Manifest) -> Part:
    """The faces that calibrate where nobody says which: the test split of the dataset that trained a model,
    since all others taught it or chose it; else the training split, so that the others can measure and
    choose what comes after (a foreign teacher's students, say).
    """
    return Part(Split.TEST if of_own_data(manifest, data) else Split.TRAIN)


def of_own_data(manifest: ModelManifest, data: Manifest) -> bool:
    """Whether a dataset is one that the model was trained on, or part of it, or the same faces annotated."""
    digests = {data.content_digest, *(part.content_digest for part in data.parts)}
    if data.annotation is not None:
        digests.add(data.annotation.data_digest)
    return any(seen.data_digest in digests for seen in seen_by(manifest))


def calibration_labels(
    folder: Location, part: Part, level: float, manifest: ModelManifest, data: Manifest
) -> tuple[Labels, int]:
    """The labels of the faces that calibrate at a level, and how many more there were.

    Raises ``InputError`` where there are too few, and where the model was trained or chosen on some of them.
    """
    labels = read_labels(folder, part)
    # An age that a teacher gave would teach the model that teacher's errors.
    labels = labels.take(np.isfinite(labels.age) & (labels.label_kind != "teacher"))
    needed = max(math.ceil(least_faces(level) * FOLDS / (FOLDS - 1)) + 1, _LEAST_PERSONS)
    persons = len(labels.persons.faces) if len(labels) else 0
    if len(labels) < needed or persons < _LEAST_PERSONS:
        raise InputError(
            f"'{folder}' has {len(labels)} faces of {persons} persons with an exact age in {part}, but a "
            f"calibration at {level:.0%} needs {needed} faces of {_LEAST_PERSONS}: name others with "
            "--split or --fold, or give another dataset."
        )
    known = leaks(manifest, data, labels)
    if known:
        raise InputError(
            f"{known[0].message(len(labels), 'The model').partition(':')[0]}: calibration faces must have "
            "chosen nothing. Name others with --split or --fold, such as --split test, or another dataset."
        )
    left = max(0, len(labels) - MOST_FACES)
    return (_drawn(labels) if left else labels), left


def _drawn(labels: Labels) -> Labels:
    """``MOST_FACES`` of the faces, the same ones every time."""
    hashes = (hashlib.sha256(str(name).encode()).digest() for name in labels.sample_id)
    drawn = heapq.nsmallest(MOST_FACES, zip(hashes, range(len(labels)), strict=True))
    return labels.take(np.sort(np.array([index for _, index in drawn])))


def answers(
    predictors: Sequence[Predictor], folder: Location, labels: Labels, part: Part, on_progress: Listener
) -> FloatArray:
    """The PMFs of the faces of ``labels`` by each predictor, ``[predictors, N, 101]``; crops are streamed."""
    pmf = np.full((len(predictors), len(labels), BINS), np.nan, dtype=np.float32)
    done = 0
    for at, images in crop_batches(folder, labels, part=part, threads=cores()):
        for own, predictor in zip(pmf, predictors, strict=True):
            own[at] = predictor.pmf(images)
        done += len(at)
        on_progress(Progress(_STAGE, done, len(labels), note="faces"))
    return pmf
