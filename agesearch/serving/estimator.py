"""From an image's pixels to the ages of its faces: detect, crop as the model was trained, and predict.

Plain functions on NumPy, OpenCV and ONNX Runtime: no Ray, no torch, no web framework. The service and
``agesearch.load_model`` both answer through it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agesearch.ages import FloatArray, age_quantile, age_spread, expected_age
from agesearch.data.images.crop import Detection, Detector, crop_face, in_file_pixels
from agesearch.data.images.decode import Photograph, RgbImage
from agesearch.data.images.recipe import open_recorded
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import ModelManifest
from agesearch.models.predict import open_predictor
from agesearch.models.predictors import Predictor
from agesearch.serving.schema import INTERVAL_LEVEL, FaceAge
from agesearch.storage import Location


class AgeEstimator:
    """One model with the detector that its faces are found by; ``note`` says where that is not the model's
    own.
    """

    def __init__(
        self, manifest: ModelManifest, predictor: Predictor, detector: Detector, note: str | None = None
    ) -> None:
        self.manifest = manifest
        self.note = note
        self._predictor = predictor
        self._detector = detector

    def locate(
        self, photograph: Photograph, *, whole: bool, limit: int | None = None
    ) -> tuple[list[Detection], list[RgbImage]]:
        """The faces of an image, most prominent first, in pixels of its file, and their crops.

        ``whole``: the image's central square is one face crop. At most ``limit`` faces, where that is given.
        """
        rgb = photograph.pixels
        if whole:
            faces, crops = [_whole_box(rgb)], [_square(rgb)]
        else:
            bgr = np.ascontiguousarray(rgb[..., ::-1])
            faces = self._detector.detect(bgr, self.manifest.crop.min_score)[:limit]
            crops = [crop_face(rgb, face, self.manifest.crop) for face in faces]
        return [in_file_pixels(face, photograph.reduction) for face in faces], crops

    def pmf(self, crops: Sequence[RgbImage]) -> FloatArray:
        """Crops of N faces -> PMFs ``float32 [N, 101]``."""
        return self._predictor.pmf(crops)

    def warm_up(self) -> None:
        """Run every step once, so that the first image is as fast as the next."""
        blank = np.full((256, 256, 3), 127, np.uint8)
        self.locate(Photograph.of(blank), whole=False)
        self.pmf([_square(blank)])


def open_estimator(folder: str | Location, threads: int = 1) -> AgeEstimator:
    """The estimator of a model folder (its files checked) or of a teacher's document."""
    manifest = read_model_manifest(folder)
    detector, note = open_recorded(manifest.crop)
    return AgeEstimator(manifest, open_predictor(folder, threads=threads), detector, note)


def face_ages(pmf: FloatArray, faces: Sequence[Detection]) -> list[FaceAge]:
    """PMFs ``[N, 101]`` of N faces -> what is said of each: years and pixels, rounded."""
    if not faces:
        return []
    tail = (1.0 - INTERVAL_LEVEL) / 2.0
    ages, spreads = expected_age(pmf), age_spread(pmf)
    low, high = age_quantile(pmf, tail), age_quantile(pmf, 1.0 - tail)
    return [
        FaceAge(
            age=round(float(ages[index]), 2),
            interval=(round(float(low[index]), 2), round(float(high[index]), 2)),
            spread=round(float(spreads[index]), 2),
            box=_rounded_box(face),
            score=round(face.score, 4) if face.landmarks is not None else None,
        )
        for index, face in enumerate(faces)
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
