"""From an image's bytes to the ages of its faces: decode, detect, crop as the model was trained, and predict.

Plain functions on NumPy, OpenCV and ONNX Runtime: no Ray, no torch, no web framework.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from agesearch.ages import FloatArray, age_quantile, age_spread, expected_age
from agesearch.data.images.crop import Detection, Detector, crop_face, open_detector
from agesearch.data.images.decode import RgbImage
from agesearch.deploy.registry import version_of
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import ModelManifest
from agesearch.models.predictors import OnnxPredictor, Predictor, folder_onnx
from agesearch.serving.images import Limits, decode
from agesearch.serving.schema import (
    INTERVAL_LEVEL,
    FaceAge,
    ImageSize,
    ModelName,
    Prediction,
    Timing,
)
from agesearch.storage import Location


class FaceService:
    """Answers for one model: ``predict`` for images, ``manifest`` for what the model is."""

    def __init__(
        self, manifest: ModelManifest, predictor: Predictor, detector: Detector, limits: Limits
    ) -> None:
        self._manifest = manifest
        self._predictor = predictor
        self._detector = detector
        self._limits = limits
        self._name = ModelName(name=manifest.name or manifest.model.arch, version=version_of(manifest))

    def manifest(self) -> dict[str, Any]:
        """The model's manifest as JSON."""
        return self._manifest.model_dump(mode="json")

    def predict(self, data: bytes, *, whole: bool) -> Prediction:
        """Ages of the faces of an encoded image; ``whole``: its central square is one face crop.

        Raises ``Refusal`` for an image that cannot be decoded or is too large.
        """
        began = time.perf_counter()
        rgb = decode(data, self._limits)
        decoded = time.perf_counter()
        detections = [] if whole else self._detect(rgb)
        crops = (
            [_square(rgb)] if whole else [crop_face(rgb, face, self._manifest.crop) for face in detections]
        )
        cropped = time.perf_counter()
        pmf = self._predictor.pmf(crops)
        finished = time.perf_counter()
        height, width = rgb.shape[:2]
        return Prediction(
            model=self._name,
            image=ImageSize(width=width, height=height),
            faces=_answers(pmf, detections or [_whole_box(width, height)]) if len(pmf) else [],
            timing=Timing(
                decode_ms=_milliseconds(began, decoded),
                detect_ms=_milliseconds(decoded, cropped),
                forward_ms=_milliseconds(cropped, finished),
            ),
        )

    def warm_up(self) -> None:
        """Run every step once, so that the first request is as fast as the next."""
        blank = np.full((256, 256, 3), 127, np.uint8)
        self._detect(blank)
        self._predictor.pmf([_square(blank)])

    def _detect(self, rgb: RgbImage) -> list[Detection]:
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        return self._detector.detect(bgr, self._manifest.crop.min_score)[: self._limits.max_faces]


def open_service(folder: str | Location, threads: int, limits: Limits) -> FaceService:
    """The service of a model folder, its files checked and every step run once."""
    manifest = read_model_manifest(folder)
    predictor = OnnxPredictor(folder_onnx(folder, manifest), manifest.model.input_size, threads)
    service = FaceService(manifest, predictor, open_detector(manifest.crop.detector), limits)
    service.warm_up()
    return service


def _answers(pmf: FloatArray, faces: Sequence[Detection]) -> list[FaceAge]:
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


def _whole_box(width: int, height: int) -> Detection:
    side = min(width, height)
    return Detection(1.0, (float((width - side) // 2), float((height - side) // 2), float(side), float(side)))


def _square(rgb: RgbImage) -> RgbImage:
    x, y, side, _ = (int(value) for value in _whole_box(rgb.shape[1], rgb.shape[0]).box)
    return rgb[y : y + side, x : x + side]


def _milliseconds(start: float, end: float) -> float:
    return round((end - start) * 1e3, 3)
