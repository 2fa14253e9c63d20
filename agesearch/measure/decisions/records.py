"""What ``measure decisions`` finds, as one record: what ``--json`` prints and the page tells."""

from __future__ import annotations

from typing import Literal

from agesearch.measure.decisions.accuracy import Accuracy
from agesearch.measure.decisions.buffers import Buffer
from agesearch.measure.decisions.rates import Cell, Rate
from agesearch.specs import SharedRecord, Spec


class Answers(Spec):
    """The shares of faces that pass, are refused, and are sent to another check."""

    passed: Rate
    refused: Rate
    unsure: Rate


class ThreeAnswers(Spec):
    """Three answers by the model's intervals, of minors, adults, and all."""

    minors: Answers
    adults: Answers
    everyone: Answers


class AtAge(Spec):
    """What a challenge age makes of the estimates, and ``why`` it is told. ``worst_pass_error_years`` is the
    largest error (predicted minus true age) that made a minor pass; None where none passed.
    """

    challenge_age: float
    why: str
    cells: tuple[Cell, ...]
    three: ThreeAnswers
    worst_pass_error_years: float | None

    @property
    def whole(self) -> Cell:
        """The cell of all faces."""
        return self.cells[0]


class FalseAdults(Spec):
    """Faces below an age limit that are taken for that age or older."""

    limit: float
    taken_for_older: Rate


class ChildSafety(Spec):
    """Is the person 13 to 16 (NIST, Child Online Safety)? ``right``: of those who are, the share that is
    taken so; ``younger`` and ``older``: of those 8 to 12, and 17 to 22, the share that is.
    """

    right: Rate
    younger: Rate
    older: Rate


class CurvePoint(Spec):
    """Both rates at a challenge age; ``worst_fpr`` is that of the worst cell with faces enough."""

    challenge_age: float
    fpr: Rate
    fnr: Rate
    worst_fpr: float | None


class ModelDecisions(Spec):
    """A model's decisions. ``interval_level`` is None where its intervals are its own belief; ``notes`` say
    what weakens the figures.
    """

    name: str
    path: str
    model_digest: str
    interval_kind: Literal["calibrated", "uncalibrated"]
    interval_level: float | None
    at: tuple[AtAge, ...]
    buffers: tuple[Buffer, ...]
    curve: tuple[CurvePoint, ...]
    false_adults: tuple[FalseAdults, ...]
    child_safety: ChildSafety
    accuracy: Accuracy
    notes: tuple[str, ...] = ()


class Decisions(SharedRecord):
    """The record of a measurement, whole. ``minors`` and ``adults`` count faces; fewer than ``min_faces``
    have no rate.
    """

    legal_age: float
    challenge_age: float | None
    max_fpr: float | None
    min_faces: int
    dataset: str
    data_digest: str
    part: str
    minors: int
    adults: int
    persons: int | None
    left_out: dict[str, int]
    models: tuple[ModelDecisions, ...]
    hardware: str
    versions: dict[str, str]
    created: str
