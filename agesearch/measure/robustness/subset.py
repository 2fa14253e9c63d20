"""The error of one model on a few corrupted faces, in this process: what trials of a search are limited by.

The same faces with the same pixels for every trial (corruptions are seeded by face), so that trials differ in
their networks alone. ``agesearch measure robustness`` takes many faces and says how sure it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from agesearch.data.images.crop import decode_crop
from agesearch.measure.labelled_faces import LabelledFaces
from agesearch.measure.robustness.protocol import CLEAN_LEVEL, SETS, CorruptionLevel, corrupted
from agesearch.measure.robustness.run import answers
from agesearch.models.predictors import Predictor
from agesearch.specs import RobustnessSpec


def levels_of(spec: RobustnessSpec) -> list[CorruptionLevel]:
    """The corruptions and severities that are asked for; an ``InputError`` for a name that is none."""
    found = SETS["hendrycks"].levels(spec.corruptions, spec.severities)
    return [level for level in found if level != CLEAN_LEVEL]


def mae_c_years(predictor: Predictor, faces: LabelledFaces, levels: Sequence[CorruptionLevel]) -> float:
    """MAE in years, the mean over ``levels``, on faces that have an age."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        named = [(decode_crop(crop), name) for crop, name in zip(faces.crops, faces.sample_id, strict=True)]
        errors = []
        for level in levels:
            shown = [corrupted(face, level, name) for face, name in named]
            errors.append(np.abs(answers([predictor], shown)[0, 0] - faces.age))
    finally:
        cv2.setNumThreads(threads)
    return float(np.mean(errors))
