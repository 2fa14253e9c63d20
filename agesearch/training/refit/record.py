"""What is kept of a refit beside its weights: the record, the answers of its cross-validation, and intervals
that these give it.
"""

from __future__ import annotations

import numpy as np

from agesearch.ages import AGES, FloatArray
from agesearch.data.dataset.records import Manifest, Part
from agesearch.documents import Spec
from agesearch.measure.accuracy import AgeBin
from agesearch.measure.calibration.faces import AnsweredFaces
from agesearch.measure.calibration.folds import person_folds
from agesearch.measure.calibration.run import CalibrationSpec, learn_intervals
from agesearch.measure.intervals import Estimate, Values
from agesearch.models.calibration.record import Calibration
from agesearch.models.foreign.to_pmf import softmax
from agesearch.models.manifest import ModelManifest, library_versions
from agesearch.provenance import now

#: What nested cross-validation said of each face, in the model's folder: columns as ``training.curve`` has.
HELD_OUT = "held_out.parquet"
#: The record's name in a manifest's provenance.
RECORD = "refit"
#: The share of true ages that intervals hold.
LEVEL = 0.8


class RefitRecord(Spec):
    """How a last layer was refitted: on how many faces, towards which ridge and why, and how good it is.

    ``tried`` has the mean absolute error in years of each ridge on held-out persons, who chose it (records
    without ``poolings``: the root mean square error); what they say of that choice itself is ``mae_years``,
    by nested cross-validation: every face is answered by a layer that its person neither taught nor helped to
    choose (``ridges`` are those of the folds). ``poolings`` has the least such error of each architecture
    that pools the same last map, where there are several, and ``pooled`` those that the folds chose.
    ``before_years`` is the error of the network as it was (None: it had no trained head), ``change_years``
    the paired difference. ``spread_years`` is the standard deviation that is assumed of an answer.
    """

    part: Part
    faces: int
    persons: int | None
    features: int
    ridge: float
    tried: tuple[tuple[float, float], ...]
    ridges: tuple[float, ...]
    poolings: tuple[tuple[str, float], ...] = ()
    pooled: tuple[str, ...] = ()
    mae_years: Estimate
    before_years: Estimate | None
    change_years: Estimate | None
    decades: tuple[AgeBin, ...]
    spread_years: float
    notes: tuple[str, ...] = ()


def record_of(manifest: ModelManifest) -> RefitRecord | None:
    """How a model was refitted; None for one that was trained otherwise."""
    found = manifest.provenance.get(RECORD)
    return None if found is None else RefitRecord.model_validate(found)


def gaussians(ages: Values, spread: float) -> FloatArray:
    """What a refitted head says of faces whose line is ``ages`` ``[N]``: PMFs ``[N, 101]``."""
    return softmax((AGES * ages[:, None] - AGES**2 / 2) / spread**2).astype(np.float32)


def calibrated_by_folds(
    digest: str, data: Manifest, part: Part, said: AnsweredFaces, before: AnsweredFaces
) -> Calibration:
    """The calibration of the model with a digest by what cross-validation said of faces that the model itself
    has seen; ``before`` are its answers before any correction of ages.
    """
    folds = person_folds(said.persons)
    learnt = learn_intervals(said, before, None, folds, CalibrationSpec(level=LEVEL, correct="off"))
    return Calibration(
        model_digest=digest,
        intervals=learnt.intervals,
        faces=said.described(data, part, folds=int(folds.max()) + 1),
        evidence=learnt.evidence.model_dump(mode="json"),
        created=now(),
        versions=library_versions(),
    )
