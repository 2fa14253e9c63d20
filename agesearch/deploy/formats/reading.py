"""How an exported network is fed and its answer read: what travels with the file, for people and programs.

The network takes raw pixels and answers with ages: normalisation and softmax are inside. What remains to its
user is cutting the face as the model has learnt them, and, where the model was calibrated, the correction of
its age and the width of its interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agesearch.ages import BINS, expected_age
from agesearch.data.images.decode import RgbImage
from agesearch.deploy.formats.subject import ExportSubject
from agesearch.measure.decisions.faces import OWN_SHARE
from agesearch.models.calibration.correction import AgeCorrection
from agesearch.models.calibration.record import Calibration, Intervals, own_interval
from agesearch.models.onnx import AGE_NAME, INPUT_NAME, PMF_NAME
from agesearch.models.predictors import Predictor
from agesearch.specs import CropSpec, Spec

_CUT = (
    "Of an upright RGB photograph cut the square around the face whose centre is the middle of the "
    "detector's box and whose side is 'scale' times the longer side of the box; with 'align' turned so that "
    "the eyes are level; pixels beyond the photograph repeat its edge. Average areas where the square "
    "shrinks (as OpenCV's INTER_AREA), interpolate where it grows: to a crop of 'crop_size' pixels, and that "
    "to the size of the input."
)
_WHOLE = "The photograph is the face crop: take it whole, or its central square."
_AGE = "age in years = sum of a * pmf[a] over the ages a = 0..100; the output 'age' is that sum."
_CORRECTED = (
    " Then put it through 'correction': straight lines between its points (predicted, corrected), beyond "
    "them straight on (affine) or at the distance of the end point (isotonic), and cut to 0..100."
)
_OWN = (
    "Nobody has checked this interval: it is the middle 'level' of the model's own probability, from the age "
    "below which (1 - level) / 2 of pmf lies to the age above which as much lies; age a has its mass evenly "
    "on a - 0.5 .. a + 0.5."
)
_CALIBRATED = (
    "Checked on labelled faces: it holds the true age of a share 'level' of faces like those. Move pmf along "
    "the ages until its mean is the corrected age, take the middle 'level' of it, and of all 'cells' with "
    "first <= age < last the largest 'below' and 'above': from low - below to high + above, stretched to "
    "hold the age, and cut to 0..100. A face whose group is known takes only the cells of that group (of no "
    "group, where there are none)."
)
#: What the example's pixels are, by channel, row and column: no two of them can be confused.
_EXAMPLE = "input[0][c][y][x] = (40 * c + 3 * y + 5 * x) mod 256, for c = 0, 1, 2 and y, x = 0..size - 1"


class InputReading(Spec):
    """What the network is fed."""

    name: str = INPUT_NAME
    shape: tuple[str | int, ...]
    dtype: str = "float32"
    layout: str = "NCHW"
    channels: str = "RGB"
    range: tuple[int, int] = (0, 255)
    size: int
    normalisation: str = "none: feed pixels as they are, 0..255; mean and scale are part of the network"


class FaceReading(Spec):
    """How a face becomes that input."""

    how: str
    detector: str
    detected_by: str | None
    min_score: float
    scale: float
    align: bool
    crop_size: int
    recipe: int


class OutputReading(Spec):
    """One output of the network."""

    name: str
    shape: tuple[str | int, ...]
    meaning: str


class AgeReading(Spec):
    """From the outputs to an age in years."""

    how: str
    correction: AgeCorrection | None


class IntervalReading(Spec):
    """From the outputs to an interval in years, and what that promises."""

    how: str
    kind: str
    level: float
    cells: tuple[dict[str, Any], ...] = ()


class Example(Spec):
    """A made-up input and the answer to it: who gets another one feeds the network otherwise."""

    input: str = _EXAMPLE
    age: float
    corrected_age: float
    interval: tuple[float, float]


class Reading(Spec):
    """All of it."""

    input: InputReading
    face: FaceReading
    outputs: tuple[OutputReading, ...]
    age: AgeReading
    interval: IntervalReading
    example: Example
    purpose: str = "Estimates of apparent age, with an error of years: no proof of anybody's age."


def reading_of(subject: ExportSubject, network: Predictor, batch: str | int = "n") -> Reading:
    """The reading of a model; ``network`` answers the example, ``batch`` is the first of every shape."""
    size, calibration = subject.input_size, subject.calibration
    return Reading(
        input=InputReading(shape=(batch, 3, size, size), size=size),
        face=_face(subject.manifest.crop),
        outputs=(
            OutputReading(
                name=PMF_NAME, shape=(batch, BINS), meaning="probability of each age 0..100 in years"
            ),
            OutputReading(name=AGE_NAME, shape=(batch,), meaning="expected age in years, not corrected"),
        ),
        age=_age(calibration),
        interval=_interval(calibration),
        example=_example(network, size, calibration),
    )


def _face(crop: CropSpec) -> FaceReading:
    is_whole = crop.detector == "none"
    return FaceReading(
        how=_WHOLE if is_whole else _CUT,
        detector=crop.detector,
        detected_by=None if crop.detected_by is None else str(crop.detected_by),
        min_score=crop.min_score,
        scale=1.0 if is_whole else crop.scale,
        align=crop.align and not is_whole,
        crop_size=crop.size,
        recipe=crop.recipe,
    )


def _age(calibration: Calibration | None) -> AgeReading:
    correction = None if calibration is None else calibration.correction
    return AgeReading(how=_AGE if correction is None else _AGE + _CORRECTED, correction=correction)


def _interval(calibration: Calibration | None) -> IntervalReading:
    if calibration is None:
        return IntervalReading(how=_OWN, kind="uncalibrated", level=OWN_SHARE)
    cells = tuple(cell.model_dump(mode="json") for cell in calibration.intervals.cells)
    return IntervalReading(how=_CALIBRATED, kind="calibrated", level=calibration.level, cells=cells)


def example_pixels(size: int) -> RgbImage:
    """The example's input as one RGB crop ``uint8 [1, size, size, 3]``."""
    channel, row, column = np.ogrid[:3, :size, :size]
    pixels = (40 * channel + 3 * row + 5 * column) % 256
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)[None], dtype=np.uint8)


def _example(network: Predictor, size: int, calibration: Calibration | None) -> Example:
    pmf = network.pmf(example_pixels(size))
    correction = None if calibration is None else calibration.correction
    corrected = pmf if correction is None else correction.pmf(pmf)
    intervals: Intervals | None = None if calibration is None else calibration.intervals
    low, high = own_interval(pmf, OWN_SHARE) if intervals is None else intervals.of(corrected)
    return Example(
        age=round(float(expected_age(pmf)[0]), 3),
        corrected_age=round(float(expected_age(corrected)[0]), 3),
        interval=(round(float(low[0]), 2), round(float(high[0]), 2)),
    )
