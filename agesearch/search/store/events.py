"""What a running study tells whoever watches it: typed events, no terminal, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agesearch.progress import Progress
from agesearch.search.store.records import StudyHeader, TrialRecord
from agesearch.training.standing import Standing


class Outcome(StrEnum):
    """How a run of a study ended."""

    COMPLETE = "complete"
    TIME_UP = "time is up"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class StudyStarted:
    """Preparation is over: ``records`` are there already, ``resumed`` of them, those cut short, go on first.

    ``seconds`` are left until the run's time is up, where it has a limit.
    """

    folder: str
    total: int
    records: tuple[TrialRecord, ...]
    resumed: int
    concurrency: int
    dashboard_url: str | None
    header: StudyHeader
    front: tuple[TrialRecord, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins; it has ``epochs`` to train."""

    record: TrialRecord
    epochs: int


@dataclass(frozen=True)
class TrialProgress:
    """A trial finished an epoch; ``metrics`` are all figures of it, losses and seconds too."""

    number: int
    epoch: int
    epochs: int
    val_mae_years: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialWithin:
    """A trial's epoch is not over yet, and stands there."""

    number: int
    standing: Standing


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
class TrialParked:
    """A trial was interrupted after ``epoch`` epochs; it stays RUNNING in the records, to be taken up
    again.
    """

    record: TrialRecord
    epoch: int


@dataclass(frozen=True)
class TrialPaused:
    """A trial waits at a rung, PAUSED; it goes on, as another ``TrialStarted``, or ends."""

    record: TrialRecord


@dataclass(frozen=True)
class StudyStopping:
    """The study was asked to stop: ``waiting`` trials write a checkpoint first, within their epoch or behind
    it, or none where it is ``at_once``.
    """

    by: str
    waiting: int
    at_once: bool = False


@dataclass(frozen=True)
class Confirming:
    """The search is over and its candidates train again: ``finished`` of ``trainings`` are over, ``epoch`` of
    ``epochs`` epochs in all; ``seconds_left`` at the pace of this run, None before its first epoch.
    """

    finished: int
    trainings: int
    epoch: int
    epochs: int
    seconds_left: float | None = None


@dataclass(frozen=True)
class StudyEnded:
    """The run of the study is over; nothing comes after."""

    outcome: Outcome


@dataclass(frozen=True)
class Note:
    """Something worth a line that is no error."""

    text: str


StudyEvent = (
    Progress
    | StudyStarted
    | TrialStarted
    | TrialProgress
    | TrialWithin
    | TrialFinished
    | TrialRetried
    | TrialParked
    | TrialPaused
    | StudyStopping
    | Confirming
    | StudyEnded
    | Note
)
EventListener = Callable[[StudyEvent], None]


def unheard(_: StudyEvent) -> None:
    """The listener of callers that want no events."""
