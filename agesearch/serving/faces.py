"""What the service answers for images: decode within limits, estimate, and tell how long each step took.

No Ray, no torch, no web framework.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agesearch.deploy.integrity import version_of
from agesearch.deploy.registry import CARD
from agesearch.provenance import without_places
from agesearch.serving.estimator import AgeEstimator, FoundFaces, ToldAges, face_ages, open_estimator
from agesearch.serving.images import ImageLimits, decode
from agesearch.serving.schema import (
    ImageSize,
    ModelName,
    ModelSummary,
    Prediction,
    Refusal,
    Timing,
)
from agesearch.storage import Location

_LOG = logging.getLogger("ray.serve")


@dataclass(frozen=True, eq=False)
class Asked:
    """An encoded image and what is asked of it; ``whole``: its central square is one face crop. With a
    challenge age in years the answer for each face is a decision, too. ``since`` is when it had arrived
    (``time.perf_counter``); 0 where nobody waits.
    """

    data: bytes
    whole: bool = False
    challenge_age: float | None = None
    since: float = 0.0


@dataclass(frozen=True, eq=False)
class _Located:
    """An image whose faces are cut out; ``queued`` is the seconds that it waited."""

    asked: Asked
    found: FoundFaces
    queued: float


class FaceService:
    """Answers for one model: ``predict`` for images, ``manifest`` and ``summary`` for what the model is."""

    def __init__(self, estimator: AgeEstimator, limits: ImageLimits, card: str = "") -> None:
        manifest = estimator.manifest
        self._estimator = estimator
        self._limits = limits
        self._card = card
        self._name = ModelName(name=manifest.name or manifest.model.arch, version=version_of(manifest))

    def manifest(self) -> dict[str, Any]:
        """The model's manifest as JSON."""
        return self._estimator.manifest.model_dump(mode="json")

    def card(self) -> str:
        """The model card as Markdown; empty where there is none."""
        return self._card

    def summary(self) -> ModelSummary:
        """The model in short."""
        model, engine = self._estimator.manifest.model, self._estimator.engine
        return ModelSummary(
            name=self._name.name,
            version=self._name.version,
            arch=model.arch,
            input_size=model.input_size,
            runtime=engine.runtime,
            precision=engine.precision,
            interval_kind=self._estimator.interval_kind,
            interval_level=self._estimator.interval_level,
        )

    def predict(self, data: bytes, *, whole: bool, challenge_age: float | None = None) -> Prediction:
        """Ages of the faces of one encoded image.

        Raises ``Refusal`` for an image that cannot be decoded or is too large.
        """
        (answer,) = self.answers([Asked(data, whole, challenge_age)])
        if isinstance(answer, Refusal):
            raise answer
        return answer

    def answers(
        self, asked: Sequence[Asked], goes_on: Callable[[], Asked | None] = lambda: None
    ) -> list[Prediction | Refusal]:
        """What is said of several images, the faces of all of which go through the network together; a
        ``Refusal`` in the place of one that cannot be decoded or is too large. ``goes_on`` may add one more
        while the batch is being put together.
        """
        located = [self._located(one) for one in _with_more(asked, goes_on)]
        found = [item for item in located if isinstance(item, _Located)]
        crops = [crop for item in found for crop in item.found.crops]
        began = time.perf_counter()
        pmf = self._estimator.pmf(crops)
        forward = time.perf_counter() - began
        ages = self._estimator.told(pmf)
        answers: list[Prediction | Refusal] = []
        first = 0
        for item in located:
            if isinstance(item, Refusal):
                answers.append(item)
                continue
            past = first + len(item.found.crops)
            answers.append(self._prediction(item, ages.part(first, past), forward))
            first = past
        return answers

    def _located(self, asked: Asked) -> _Located | Refusal:
        queued = time.perf_counter() - asked.since if asked.since else 0.0
        try:
            found = self._estimator.locate(
                lambda enough: decode(asked.data, self._limits, enough),
                whole=asked.whole,
                limit=self._limits.max_faces,
            )
        except Refusal as refusal:
            return refusal
        return _Located(asked, found, queued)

    def _prediction(self, item: _Located, ages: ToldAges, forward: float) -> Prediction:
        found, age = item.found, item.asked.challenge_age
        return Prediction(
            model=self._name,
            image=ImageSize(width=found.width, height=found.height),
            faces=face_ages(ages, found.faces, age),
            interval_kind=self._estimator.interval_kind,
            interval_level=self._estimator.interval_level,
            challenge_age=age,
            timing=Timing(
                decode_ms=_milliseconds(found.seconds.decode),
                detect_ms=_milliseconds(found.seconds.detect),
                crop_ms=_milliseconds(found.seconds.crop),
                forward_ms=_milliseconds(forward),
                queue_ms=_milliseconds(item.queued),
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
    card = Location.of(folder) / CARD
    # Cards of before may name folders of the machine that wrote them.
    text = without_places(card.read_text()) if card.exists() else ""
    return FaceService(estimator, limits, text)


def _with_more(asked: Sequence[Asked], goes_on: Callable[[], Asked | None]) -> Iterator[Asked]:
    yield from asked
    while (one := goes_on()) is not None:
        yield one


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)
