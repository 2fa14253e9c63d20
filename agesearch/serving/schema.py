"""What the service says: the JSON of its answers and errors, shared by the service and its client."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agesearch.errors import AgeSearchError
from agesearch.measure.decisions.rules import Decision

#: The middle share of its own probability that a model without a calibration gives as an interval.
OWN_SHARE = 0.8

IntervalKind = Literal["calibrated", "uncalibrated"]
#: What a version is there for: its answers go out; to a share of the requests; to nobody, to be compared.
Role = Literal["live", "canary", "shadow"]


class _Answer(BaseModel):
    # A client must understand the answers of a newer service: fields it does not know are left out.
    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelName(_Answer):
    """Which model answered."""

    name: str
    version: str


class FaceAge(_Answer):
    """One face: ages in years, the box in pixels of the upright image."""

    age: float = Field(description="estimated age in years (expectation of the predicted distribution)")
    interval: tuple[float, float] = Field(
        description="ages in years; what they promise stands in interval_kind and interval_level"
    )
    spread: float = Field(description="standard deviation of the predicted distribution in years")
    box: tuple[float, float, float, float] = Field(description="x, y, width, height of the face in pixels")
    score: float | None = Field(None, description="the detector's confidence; null for a whole image")
    decision: Decision | None = Field(
        None,
        description="at the challenge age T: pass where the interval begins at T or above, refuse where it "
        "ends below T, else unsure: use another way; null where no challenge age was given",
    )


class Timing(_Answer):
    """Milliseconds of each step, as this request saw them."""

    decode_ms: float
    detect_ms: float
    forward_ms: float = Field(description="the network's, for all faces that it was given together")
    crop_ms: float = 0.0
    queue_ms: float = Field(0.0, description="from the body's last byte until an image's turn came")


class ImageSize(_Answer):
    """Pixels of the upright image."""

    width: int
    height: int


class Prediction(_Answer):
    """The faces of one image, the largest confidence first; no face gives an empty list."""

    model: ModelName
    image: ImageSize
    faces: list[FaceAge]
    interval_kind: IntervalKind = Field(
        "uncalibrated",
        description="calibrated: checked on labelled faces; uncalibrated: the middle "
        f"{OWN_SHARE:.0%} of the model's own probability, which nobody has checked",
    )
    interval_level: float | None = Field(
        None, description="the share of faces whose true age lies inside; null where nobody has checked"
    )
    challenge_age: float | None = Field(None, description="the age that the decisions are made at")
    timing: Timing


class ErrorDetail(_Answer):
    """What went wrong, for programs and for people."""

    code: str = Field(description="a short name that programs can rely on")
    message: str = Field(description="what is wrong and what to do, for a person")


class ErrorAnswer(_Answer):
    """The body of every answer that is no success."""

    error: ErrorDetail


class RefusedItem(_Answer):
    """One of several images that has no answer, and why."""

    error: ErrorDetail


class Predictions(_Answer):
    """What is said of several images, in the order in which they were sent."""

    predictions: list[Prediction | RefusedItem]


class ModelSummary(_Answer):
    """A model that answers here."""

    name: str
    version: str
    arch: str
    input_size: int
    runtime: str = Field(description="what runs the network")
    precision: str = Field(description="what it computes in")
    interval_kind: IntervalKind
    interval_level: float | None
    role: Role = Field(
        "live",
        description="canary: it is tried on a share of the requests; shadow: it is asked besides, and its "
        "answers go to nobody",
    )
    share: float = Field(1.0, description="of the requests to the model that it gets, 0 to 1")
    alias: str | None = Field(None, description="the alias that the service follows; null: it stays")


class Models(_Answer):
    """The models that answer here."""

    models: list[ModelSummary]


class Health(_Answer):
    """Whether the service can answer."""

    status: str


class Refusal(AgeSearchError):  # noqa: N818 - an answer, not a fault of the service
    """A request that the service does not fulfil: HTTP status, a short code, and one line of explanation."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers

    def answer(self) -> ErrorAnswer:
        """The JSON body of the refusal."""
        return ErrorAnswer(error=ErrorDetail(code=self.code, message=str(self)))
