"""From an image's pixels to the ages of its faces: detect, crop as the model was trained, and predict.

Plain functions on NumPy, OpenCV and ONNX Runtime: no Ray, no torch, no web framework. The service and
``agesearch.load_model`` both answer through it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from agesearch.ages import FloatArray, age_spread, expected_age
from agesearch.data.images.crop import Detection, Detector, crop_face, in_file_pixels
from agesearch.data.images.decode import Photograph, RgbImage
from agesearch.data.images.locate import Decode, locate
from agesearch.data.images.recipe import open_recorded
from agesearch.measure.decisions.rules import decide, told
from agesearch.measure.speed.served_here import engine_here
from agesearch.models.calibration.record import Calibration, own_interval
from agesearch.models.identity import calibration_of, read_model_manifest
from agesearch.models.manifest import ModelManifest
from agesearch.models.predict import open_predictor
from agesearch.models.predictors import Predictor
from agesearch.models.runtimes.engines import DEFAULT, Engine
from agesearch.serving.schema import OWN_SHARE, FaceAge, IntervalKind
from agesearch.storage import Location


class Seconds(NamedTuple):
    """What each step took."""

    decode: float
    detect: float
    crop: float


class FoundFaces(NamedTuple):
    """The sides of an image in pixels of its file, its faces in those pixels, their crops, and the time."""

    width: int
    height: int
    faces: list[Detection]
    crops: list[RgbImage]
    seconds: Seconds


class AgeEstimator:
    """One model with the detector that its faces are found by; ``note`` says where that is not the model's
    own.
    """

    def __init__(
        self,
        manifest: ModelManifest,
        predictor: Predictor,
        detector: Detector,
        note: str | None = None,
        calibration: Calibration | None = None,
        engine: Engine = DEFAULT,
    ) -> None:
        self.manifest = manifest
        self.note = note
        self.calibration = calibration
        self.engine = engine
        self._predictor = predictor
        self._detector = detector

    def locate(self, decode: Decode, *, whole: bool, limit: int | None = None) -> FoundFaces:
        """The faces of an image, most prominent first; it is decoded as far as their crops need.

        ``whole``: the image's central square is one face crop. At most ``limit`` faces, where that is given.
        """
        timed = _TimedDecode(decode)
        began = time.perf_counter()
        crop = self.manifest.crop
        if whole:
            photograph = timed(None)
            faces: Sequence[Detection] = [_whole_box(photograph.pixels)]
        else:
            photograph, faces = locate(timed, self._detector, crop, lambda _, found: found[:limit])
        detected = time.perf_counter()
        pixels = photograph.pixels
        crops = [_square(pixels)] if whole else [crop_face(pixels, face, crop) for face in faces]
        in_file = [in_file_pixels(face, photograph.reduction) for face in faces]
        cropped = time.perf_counter()
        seconds = Seconds(timed.seconds, detected - began - timed.seconds, cropped - detected)
        return FoundFaces(photograph.width, photograph.height, in_file, crops, seconds)

    def pmf(self, crops: Sequence[RgbImage]) -> FloatArray:
        """Crops of N faces -> PMFs ``float32 [N, 101]``."""
        return self._predictor.pmf(crops)

    @property
    def interval_level(self) -> float | None:
        """The share of true ages inside its intervals; None where they are not calibrated."""
        return None if self.calibration is None else self.calibration.level

    @property
    def interval_kind(self) -> IntervalKind:
        """What its intervals are."""
        return "uncalibrated" if self.calibration is None else "calibrated"

    def told(self, pmf: FloatArray) -> ToldAges:
        """PMFs of N faces ``[N, 101]``, of one image or of several, -> their ages."""
        return told_ages(pmf, self.calibration)

    def answers(
        self, pmf: FloatArray, faces: Sequence[Detection], challenge_age: float | None = None
    ) -> list[FaceAge]:
        """What is said of N faces with the PMFs ``[N, 101]``; with a challenge age the decision, too."""
        return face_ages(self.told(pmf), faces, challenge_age)

    def warm_up(self) -> None:
        """Run every step once, so that the first image is as fast as the next."""
        blank = np.full((256, 256, 3), 127, np.uint8)
        self.locate(lambda _: Photograph.of(blank), whole=False)
        self.pmf([_square(blank)])


class _TimedDecode:
    """Decodes, and knows how long that took in all."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self.seconds = 0.0

    def __call__(self, enough: int | None) -> Photograph:
        began = time.perf_counter()
        photograph = self._decode(enough)
        self.seconds += time.perf_counter() - began
        return photograph


def open_estimator(folder: str | Location, threads: int = 1) -> AgeEstimator:
    """The estimator of a model folder (its files checked) or of a teacher's document, on the fastest engine
    that is known to answer as well as the one it was trained for.
    """
    manifest = read_model_manifest(folder)
    detector, note = open_recorded(manifest.crop)
    engine = engine_here(manifest, threads)
    predictor = open_predictor(folder, threads=threads, engine=engine)
    return AgeEstimator(manifest, predictor, detector, note, calibration_of(folder), engine)


class ToldAges(NamedTuple):
    """Of N faces: ages, their spreads, and the ends of their intervals, in years as they are told."""

    ages: list[float]
    spreads: list[float]
    low: list[float]
    high: list[float]

    def part(self, first: int, past: int) -> ToldAges:
        """Those of the faces ``first`` to ``past`` - 1."""
        return ToldAges(*(column[first:past] for column in self))


def told_ages(pmf: FloatArray, calibration: Calibration | None = None) -> ToldAges:
    """PMFs ``[N, 101]`` of N faces -> their ages.

    Intervals are the calibrated ones; without a ``calibration`` the middle ``OWN_SHARE`` of each PMF.
    """
    if not len(pmf):
        return ToldAges([], [], [], [])
    ends = own_interval(pmf, OWN_SHARE) if calibration is None else calibration.intervals.of(pmf)
    # All at once: for one number or for thirty, NumPy takes the same time.
    columns = told(np.stack([expected_age(pmf), age_spread(pmf), *ends]))
    return ToldAges(*columns.tolist())


def face_ages(
    ages: ToldAges, faces: Sequence[Detection], challenge_age: float | None = None
) -> list[FaceAge]:
    """What is said of N faces; with a challenge age the decision, too."""
    return [
        FaceAge(
            age=age,
            interval=(low, high),
            spread=spread,
            box=_rounded_box(face),
            score=round(face.score, 4) if face.landmarks is not None else None,
            decision=None if challenge_age is None else decide(low, high, challenge_age),
        )
        for face, age, spread, low, high in zip(faces, *ages, strict=True)
    ]


def _rounded_box(face: Detection) -> tuple[float, float, float, float]:
    x, y, width, height = (round(value, 1) for value in face.box)
    return x, y, width, height


def _whole_box(rgb: RgbImage) -> Detection:
    height, width = rgb.shape[:2]
    side = min(width, height)
    return Detection(1.0, (float((width - side) // 2), float((height - side) // 2), float(side), float(side)))


def _square(rgb: RgbImage) -> RgbImage:
    x, y, side, _ = (int(value) for value in _whole_box(rgb).box)
    return rgb[y : y + side, x : x + side]
