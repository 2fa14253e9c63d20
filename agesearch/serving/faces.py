"""What the service answers for an image's bytes: decode within limits, estimate, and tell how long each step
took.

No Ray, no torch, no web framework.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from agesearch.data.images.decode import Photograph
from agesearch.deploy.registry import version_of
from agesearch.serving.estimator import AgeEstimator, open_estimator
from agesearch.serving.images import ImageLimits, decode
from agesearch.serving.schema import ImageSize, ModelName, Prediction, Timing
from agesearch.storage import Location

_LOG = logging.getLogger("ray.serve")


class FaceService:
    """Answers for one model: ``predict`` for images, ``manifest`` for what the model is."""

    def __init__(self, estimator: AgeEstimator, limits: ImageLimits) -> None:
        manifest = estimator.manifest
        self._estimator = estimator
        self._limits = limits
        self._name = ModelName(name=manifest.name or manifest.model.arch, version=version_of(manifest))

    def manifest(self) -> dict[str, Any]:
        """The model's manifest as JSON."""
        return self._estimator.manifest.model_dump(mode="json")

    def predict(self, data: bytes, *, whole: bool, challenge_age: float | None = None) -> Prediction:
        """Ages of the faces of an encoded image; ``whole``: its central square is one face crop. With a
        challenge age in years the answer for each face is a decision, too.

        Raises ``Refusal`` for an image that cannot be decoded or is too large.
        """
        began = time.perf_counter()
        decoding = 0.0

        def decoded(enough: int | None) -> Photograph:
            nonlocal decoding
            start = time.perf_counter()
            photograph = decode(data, self._limits, enough)
            decoding += time.perf_counter() - start
            return photograph

        found = self._estimator.locate(decoded, whole=whole, limit=self._limits.max_faces)
        cropped = time.perf_counter()
        pmf = self._estimator.pmf(found.crops)
        finished = time.perf_counter()
        return Prediction(
            model=self._name,
            image=ImageSize(width=found.width, height=found.height),
            faces=self._estimator.answers(pmf, found.faces, challenge_age),
            interval_kind=self._estimator.interval_kind,
            interval_level=self._estimator.interval_level,
            challenge_age=challenge_age,
            timing=Timing(
                decode_ms=_milliseconds(decoding),
                detect_ms=_milliseconds(cropped - began - decoding),
                forward_ms=_milliseconds(finished - cropped),
            ),
        )


def open_service(folder: str | Location, threads: int, limits: ImageLimits) -> FaceService:
    """The service of a model folder, its files checked and every step run once.

    Where the detector of the model's faces is not installed here, the one that is stands in, and the log says
    so.
    """
    estimator = open_estimator(folder, threads)
    if estimator.note is not None:
        _LOG.warning(estimator.note)
    estimator.warm_up()
    return FaceService(estimator, limits)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)
