"""The records that a report tells of, each a file of one folder, and which models they are of.

``agesearch report`` measures what is not there yet (``agesearch.deploy.reported.measure``); reports only
read. A record that a verb of ``measure`` wrote stands in for one of the folder's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from agesearch.errors import InputError
from agesearch.measure.counterfactual.records import Counterfactuals
from agesearch.measure.decisions.records import Decisions
from agesearch.measure.evaluate import Evaluation
from agesearch.measure.intervals import Estimate
from agesearch.measure.robustness.record import Robustness
from agesearch.measure.robustness.strip import Strip
from agesearch.measure.speed.comparison import SpeedComparison
from agesearch.models.calibration.record import Calibration
from agesearch.specs import SharedRecord, Spec, parse_spec
from agesearch.storage import Location

REPORTED = "models.json"

R = TypeVar("R", bound=SharedRecord)

#: What a model is to the report: the student that it is about, others of its front, who taught it, the rest.
Role = Literal["student", "front", "teacher", "foreign"]


class ReportedModel(Spec):
    """A model of a report by the name to show. ``trial`` is its number in the study, ``source`` and
    ``licences`` are what a foreign model's document, or a manifest, says.
    """

    name: str
    role: Role
    trial: int | None = None
    model_digest: str
    arch: str
    input_size: int
    parameters: int
    source: str = ""
    licences: dict[str, str] = {}
    calibration: Calibration | None = None
    created: str = ""


class ReportedData(Spec):
    """The dataset that the records are of."""

    name: str
    content_digest: str
    licence: str
    label_kind: str
    counts: dict[str, int]
    subjects: int | None = None


class Reported(SharedRecord):
    """Which models and faces a report is about; ``split`` is what was tested on. ``reasons`` say why a record
    is not there, by its name.
    """

    models: tuple[ReportedModel, ...]
    data: ReportedData
    split: str
    reasons: dict[str, str] = {}
    created: str

    def of(self, role: Role) -> ReportedModel | None:
        """The first model of a role."""
        return next((model for model in self.models if model.role == role), None)


class Compared(SharedRecord):
    """An evaluation on one split, and each model's MAE less that of the ``reference`` on the same faces."""

    evaluation: Evaluation
    reference: str | None
    against: dict[str, Estimate] = {}


@dataclass(frozen=True)
class Records:
    """What there is to tell; ``found`` holds the records by name."""

    reported: Reported | None = None
    found: Mapping[str, SharedRecord] = field(default_factory=dict)

    def get(self, name: str, kind: type[R]) -> R | None:
        """A record, None where there is none."""
        record = self.found.get(name)
        return record if isinstance(record, kind) else None

    def reason(self, name: str) -> str:
        """Why a record is not there, as far as that is known."""
        return self.reported.reasons.get(name, "") if self.reported else ""

    def with_given(self, files: Sequence[str]) -> Records:
        """With records that verbs of ``measure`` wrote, which stand in for those of the folder."""
        given = dict(read_given(Location.of(file)) for file in files)
        return replace(self, found={**self.found, **given})


SPEED, ROBUSTNESS, DECISIONS, STRIP = "speed", "robustness", "decisions", "strip"
COUNTERFACTUAL = "counterfactual"
VALIDATION, TEST = "validation", "test"

KINDS: Mapping[str, type[SharedRecord]] = {
    SPEED: SpeedComparison,
    ROBUSTNESS: Robustness,
    DECISIONS: Decisions,
    COUNTERFACTUAL: Counterfactuals,
    VALIDATION: Compared,
    TEST: Compared,
    STRIP: Strip,
}

#: Fields that only this kind of record has.
_TOLD_BY = {
    SPEED: {"ratios", "best", "steps"},
    ROBUSTNESS: {"averaged", "scores", "reference"},
    DECISIONS: {"legal_age", "max_fpr", "min_faces"},
    COUNTERFACTUAL: {"legal_age", "pixels_digest", "changes"},
}


def read_records(folder: Location) -> Records:
    """The records in a folder; none where nothing was measured."""
    if not (folder / REPORTED).exists():
        return Records()
    reported = parse_spec(Reported, (folder / REPORTED).read_json(), f"'{folder / REPORTED}'")
    found = {
        name: parse_spec(kind, file.read_json(), f"'{file}'")
        for name, kind in KINDS.items()
        if name not in reported.reasons and (file := record_file(folder, name)).exists()
    }
    return Records(reported, found)


def record_file(folder: Location, name: str) -> Location:
    """Where a record lies."""
    return folder / f"{name}.json"


def read_given(file: Location) -> tuple[str, SharedRecord]:
    """A record as a verb of ``measure`` wrote it (``--out`` or ``--json``), and its name here; an
    ``InputError`` for what is none.
    """
    document: Any = file.read_json() if file.exists() else None
    fields = set(document) if isinstance(document, dict) else set()
    for name, told_by in _TOLD_BY.items():
        if told_by <= fields:
            return name, parse_spec(KINDS[name], document, f"'{file}'")
    verbs = ", ".join(_TOLD_BY)
    state = "is no record" if file.exists() else "is not there: --record wants a record"
    raise InputError(f"'{file}' {state} of 'agesearch measure' ({verbs}), as its --json or --out writes it.")
