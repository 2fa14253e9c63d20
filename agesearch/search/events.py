"""What a running study tells whoever watches it: typed events, no terminal, no Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from agesearch.progress import Progress
from agesearch.search.records import TrialRecord


class Outcome(StrEnum):
    """How a run of a study ended."""

    COMPLETE = "complete"
    TIME_UP = "time is up"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class StudyStarted:
    """Preparation is over: ``done`` of ``total`` trials are finished, ``resumed`` are taken up again."""

    folder: str
    total: int
    records: tuple[TrialRecord, ...]
    resumed: int
    concurrency: int
    dashboard_url: str | None


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins; it has ``epochs`` to train."""

    record: TrialRecord
    epochs: int


@dataclass(frozen=True)
class TrialProgress:
    """A trial finished an epoch."""

    number: int
    epoch: int
    epochs: int
    val_mae_years: float | None


@dataclass(frozen=True)
class TrialFinished:
    """A trial is over; ``front`` is the study's front now, by rising latency."""

    record: TrialRecord
    finished: int
    total: int
    front: tuple[TrialRecord, ...]


@dataclass(frozen=True)
class TrialRetried:
    """A trial's process died; the trial goes on from its checkpoint."""

    record: TrialRecord
    reason: str


@dataclass(frozen=True)
class Note:
    """Something worth a line that is no error."""

    text: str


StudyEvent = Progress | StudyStarted | TrialStarted | TrialProgress | TrialFinished | TrialRetried | Note
EventListener = Callable[[StudyEvent], None]


def unheard(_: StudyEvent) -> None:
    """The listener of callers that want no events."""
