"""How a study stands, for whoever shows it: counts, reasons, epochs, pace and time left. No terminal, no Ray.

A running study builds its ``StudyProgress`` from events (``agesearch.cli.tune_view``), another process from
the records (``agesearch.search.view.status``); both are drawn alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agesearch.metrics import VAL_MAE_YEARS, interval_of
from agesearch.search.space.space import trial_spec
from agesearch.search.stopping.budget import LossBudget
from agesearch.search.stopping.rungs import OUT_OF_REACH
from agesearch.search.store.events import Confirming
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import StudySpec
from agesearch.training.standing import Standing, words_left

#: The ends of a 95 % interval in years.
Ends = tuple[float, float]

#: What follows in a reason is about one trial; what stands before is shared by its group.
_OF_ONE_TRIAL = re.compile(r" (?:after|at|in) epoch \d.*$")

_EPOCHS = "optim.epochs"


@dataclass
class TrialCounts:
    """Counts over trials that ended: by state, by reason, epochs trained, and epochs of their full budgets.

    ``saved`` are the epochs that early stopping spared, ``budget`` what all would have cost without;
    ``stopped`` trials were stopped by evidence, at the cost of ``loss`` of the front's hypervolume expected.
    """

    states: Counter[State] = field(default_factory=Counter)
    reasons: Counter[tuple[State, str]] = field(default_factory=Counter)
    epochs: int = 0
    budget: int = 0
    saved: int = 0
    stopped: int = 0
    loss: float = 0.0

    @property
    def finished(self) -> int:
        return self.states.total()

    def add(self, record: TrialRecord, budget: int) -> None:
        """Count a trial that ended and could have trained ``budget`` epochs."""
        self.states[record.state] += 1
        if record.reason:
            self.reasons[record.state, reason_group(record.reason)] += 1
        self.epochs += record.epochs
        self.budget += budget
        if record.reason.startswith(OUT_OF_REACH):
            self.saved += budget - record.epochs
            self.stopped += 1
            self.loss += record.expected_loss or 0.0

    @classmethod
    def of(cls, records: Iterable[TrialRecord], spec: StudySpec) -> TrialCounts:
        """The counts of the records that ended."""
        counts = cls()
        for record in records:
            if record.state.ended:
                counts.add(record, budget_of(spec, record))
        return counts

    def as_json(self) -> dict[str, object]:
        """The counts as a JSON object, reasons by how frequent they are."""
        reasons = [
            {"state": state.value, "reason": reason, "trials": count}
            for (state, reason), count in self.reasons.most_common()
        ]
        return {
            "states": {state.value: self.states[state] for state in State if state.ended},
            "reasons": reasons,
            "epochs": self.epochs,
            "epochs_of_full_budgets": self.budget,
            "epochs_saved_by_rungs": self.saved,
        }


@dataclass(frozen=True)
class RunningTrial:
    """A trial that runs, or waits at a rung: epochs done of how many, its error in years after each, its age
    in seconds, seconds since it was last heard of, and where the epoch under way stands; ``interval`` is that
    of its last error, where it is validated on a subset.
    """

    record: TrialRecord
    epoch: int
    epochs: int
    curve: tuple[float, ...] = ()
    age: float = 0.0
    quiet: float | None = None
    standing: Standing | None = None
    interval: Ends | None = None

    @property
    def share(self) -> float:
        """The share of its epochs that is done, that of the one under way included."""
        return min(1.0, self.epochs_done / max(1, self.epochs))

    @property
    def node(self) -> str:
        """The machine that trains it; "" where that is not known."""
        return (self.standing.node if self.standing else "") or self.record.node

    @property
    def epochs_done(self) -> float:
        """Its whole epochs, and the part of the one under way."""
        return self.epoch + (self.standing.share if self.standing else 0.0)

    @property
    def words(self) -> str:
        """Where a long epoch under way stands, and how sure the last error is; empty where there is
        neither.
        """
        parts = []
        if self.standing is not None and self.standing.is_long:
            parts = [self.standing.words, words_left(self.standing.seconds_left(self.epochs))]
        if self.interval is not None and self.curve:
            parts.append(
                f"val MAE {self.curve[-1]:.2f} (95 %: {self.interval[0]:.2f}-{self.interval[1]:.2f})"
            )
        return f"trial {self.record.number}, {', '.join(parts)}" if parts else ""


@dataclass(frozen=True)
class Pace:
    """What this run has done: trials that ended in ``seconds`` of searching."""

    finished: int
    seconds: float

    @property
    def trials_per_hour(self) -> float | None:
        """None before the first trial ended."""
        return self.finished / self.seconds * 3600.0 if self.finished and self.seconds > 0 else None

    def seconds_left(self, trials: int, running: Iterable[RunningTrial]) -> float | None:
        """Seconds until ``trials`` more have ended at the pace of those that did in this run; the epochs that
        ``running`` trials, those on a rung too, have done already count. None before the first trial ended.
        """
        if not self.finished or self.seconds <= 0:
            return None
        begun = sum(trial.share for trial in running)
        return self.seconds * max(0.0, trials - begun) / (self.finished + begun)


@dataclass(frozen=True)
class StudyProgress:
    """A study at one moment. ``points`` are (latency ms, error years) of its COMPLETE trials; ``waiting`` are
    trials that were cut short after ``waiting_epochs`` epochs in all, to be taken up again, ``paused`` those
    that wait at a rung; ``limit`` is the seconds until its time is up; ``loss_budget`` is what early
    stopping may cost; ``confirming`` is how its candidates' new trainings stand, once the search is over.
    """

    folder: str
    total: int
    counts: TrialCounts
    front: tuple[TrialRecord, ...] = ()
    running: tuple[RunningTrial, ...] = ()
    paused: tuple[RunningTrial, ...] = ()
    waiting: int = 0
    waiting_epochs: int = 0
    points: tuple[tuple[float, float], ...] = ()
    last: tuple[TrialRecord, ...] = ()
    pace: Pace = Pace(0, 0.0)
    limit: float | None = None
    dashboard: str | None = None
    stopping: str = ""
    loss_budget: LossBudget | None = None
    confirming: Confirming | None = None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the study's last trial ends, at this run's pace; None where that is not known."""
        return self.pace.seconds_left(self.total - self.counts.finished, (*self.running, *self.paused))

    @property
    def epochs(self) -> int:
        """Epochs trained so far, those of trials that are not over included."""
        begun = sum(trial.epoch for trial in (*self.running, *self.paused))
        return self.counts.epochs + self.waiting_epochs + begun


def loss_budget(spec: StudySpec, counts: TrialCounts) -> LossBudget | None:
    """What early stopping may cost and has cost."""
    return LossBudget.of(
        spec,
        complete=counts.states[State.COMPLETE],
        stopped=counts.stopped,
        spent=counts.loss,
    )


def budget_of(spec: StudySpec, record: TrialRecord) -> int:
    """The epochs of a trial's full budget."""
    if _EPOCHS in record.params:
        return int(record.params[_EPOCHS])
    if any(_EPOCHS in str(dimension) for dimension in spec.space.values()):  # a named variant sets them
        return trial_spec(spec, record.params).optim.epochs
    return spec.student.optim.epochs


def paused_trial(record: TrialRecord, epochs: int) -> RunningTrial:
    """A PAUSED trial of so many ``epochs``, as its record tells."""
    return RunningTrial(record, record.epochs, epochs, record.curve)


def reason_group(reason: str) -> str:
    """What trials of one kind of reason share: without the epoch, and without a rung's figures."""
    if reason.startswith(OUT_OF_REACH):
        return OUT_OF_REACH
    return _OF_ONE_TRIAL.sub("", reason)


def interval_in(row: Mapping[str, Any]) -> Ends | None:
    """The interval of the error in an epoch's row or metrics; None where it has none."""
    low, high = (row.get(name) for name in interval_of(VAL_MAE_YEARS))
    return None if low is None or high is None else (float(low), float(high))


def points_of(records: Iterable[TrialRecord]) -> tuple[tuple[float, float], ...]:
    """(latency, error) of the COMPLETE trials."""
    return tuple(
        (record.latency_ms_p50, record.val_mae_years)
        for record in records
        if record.state is State.COMPLETE
        and record.latency_ms_p50 is not None
        and record.val_mae_years is not None
    )
