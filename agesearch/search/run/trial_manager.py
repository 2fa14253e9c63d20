"""Keeps a running study's books: hands out trials, settles how each ended, writes the records, tells
watchers.

No Ray: whoever runs the trials calls ``next_trial``, ``began``, ``judged``, ``progressed``, ``ended`` and
``died``.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from numbers import Real
from typing import Any

from agesearch.metrics import EPOCH, EPOCH_SECONDS, VAL_CS5, VAL_MAE_YEARS
from agesearch.search.run.watchdog import Death, Deaths
from agesearch.search.space.limits import Latencies
from agesearch.search.space.space import trial_spec
from agesearch.search.stopping.curves import Learning, trained_seconds
from agesearch.search.stopping.rungs import KEEP, Keep, Pause, Stop, decide, rung_epochs, rungs_of
from agesearch.search.store.events import (
    EventListener,
    Note,
    StudyStopping,
    TrialFinished,
    TrialParked,
    TrialPaused,
    TrialProgress,
    TrialRetried,
    TrialStarted,
)
from agesearch.search.store.history import History, Spent
from agesearch.search.store.records import State, StudyFolder, TrialRecord
from agesearch.specs import StudySpec, TrainSpec

#: Keys of a trial's last report besides its metrics.
OUTCOME, REASON, SECONDS, NOTE = "outcome", "reason", "train_s", "note"
COMPLETED, FAILED, CUT = "completed", "failed", "cut"

#: What a COMPLETE trial is known by, the first of them always.
_RESULTS = (VAL_MAE_YEARS, VAL_CS5)

#: So many of the newest trials are what rungs compare with, so that a decision takes as long in any study.
RIVALS = 300

#: What the names of a report's figures begin with.
_METRICS = ("train_", "val_", EPOCH_SECONDS)

#: ``trials.parquet`` is rewritten at most this often while trials run, in at most this share of the time.
_WRITE_INTERVAL_S = 2.0
_WRITE_SHARE = 0.02


class Keeper:
    """The books of one run: it ends at the spec's number of trials, those of earlier runs included."""

    def __init__(
        self,
        folder: StudyFolder,
        history: History,
        spec: StudySpec,
        *,
        latencies: Latencies,
        on_event: EventListener,
    ) -> None:
        self.total = spec.trials
        self.stop_reason: str | None = None
        self.winding_down = False
        self.halted = ""  # why no more can be written
        self._folder = folder
        self._history = history
        self._spec = spec
        self._latencies = history.latencies = latencies
        self._on_event = on_event
        self._again = deque(record.number for record in history.running)
        self._live: dict[int, int] = {}  # number -> epochs finished
        self._next_write = 0.0
        self._front = history.front()
        self._learning = Learning(folder, spec)
        self._rungs = rungs_of(spec)
        self._verdicts: dict[int, tuple[State, str]] = {}
        self._deaths = Deaths()

    @property
    def live(self) -> int:
        """Trials that are handed out and not over."""
        return len(self._live)

    @property
    def exhausted(self) -> bool:
        """Whether nothing runs and nothing is left to run."""
        stopped = self.stop_reason is not None or self.winding_down
        return not self._live and (stopped or (not self._again and self._history.finished >= self.total))

    @property
    def complete(self) -> bool:
        """Whether every trial of the study is finished."""
        return not self._again and self._history.finished >= self.total

    @property
    def records(self) -> list[TrialRecord]:
        return self._history.records

    @property
    def front(self) -> list[TrialRecord]:
        """The front so far, by rising latency."""
        return self._front

    def next_trial(self) -> TrialRecord | None:
        """A trial to run: one to take up again, else a new one; None where none may start now.

        A trial whose network has no latency FAILs at once, and the next is handed out.
        """
        while self.stop_reason is None and not self.winding_down:
            record = self._next()
            if record is None:
                return None
            model = self.spec_of(record).model
            latency = self._latencies[model.arch, model.input_size]
            if not isinstance(latency, str):
                record = self._history.knows_latency(record.number, latency)
                self._live[record.number] = self._learning.epochs(record.number)
                return record
            self._told(self._history.fail(record.number, f"its latency is not known: {latency}"))
        return None

    @property
    def _may_begin(self) -> bool:
        """Whether the study has new trials left to begin."""
        return self._history.finished + self._history.paused + self.live < self.total

    def _next(self) -> TrialRecord | None:
        """One that was interrupted, else a new one or a paused one, whichever promises more. What goes on is
        judged again first, by what is known now: a kill may have come between its last epoch and the verdict.
        """
        while self._again or self._others_wait:
            if self._again:
                record = self._history.take_up(self._again.popleft())
                self._learning.go_on(record)
            else:
                record = self._history.suggest(new=self._may_begin)
                if record.state is State.RUNNING:
                    return record
            verdict = self._verdict(record)
            if isinstance(verdict, Stop):
                spent = self._spent(record)
                self._told(self._prune(record.number, verdict.reason, spent, spent.curve[-1]))
            elif record.state is State.PAUSED:
                self._learning.go_on(record)
                return self._history.unpause(record.number)
            elif isinstance(verdict, Pause) and self._others_wait:
                self._pause(record.number, verdict.reason, self._spent(record))
            else:
                return record
        return None

    @property
    def _others_wait(self) -> bool:
        """Whether a slot that a trial gives away has another to train."""
        return self._may_begin or self._history.paused > 0

    def _spent(self, record: TrialRecord) -> Spent:
        """What a trial that does not run has cost so far."""
        if record.state is State.PAUSED:
            return Spent(record.epochs, record.seconds, record.curve)
        seconds = trained_seconds(self._folder.trial_folder(record))
        curve = self._learning.end(record.number)
        return Spent(len(curve), round(seconds, 3), curve)

    def spec_of(self, record: TrialRecord) -> TrainSpec:
        """What the trial trains."""
        parent = None if record.inherited is None else self._folder.trial_folder(record.inherited)
        return trial_spec(self._spec, record.params, parent)

    def began(self, number: int) -> None:
        """A trial's training starts."""
        record = self._history.record(number)
        self._write()
        self._on_event(TrialStarted(record, self.spec_of(record).optim.epochs))

    def progressed(self, number: int, report: Mapping[str, Any]) -> None:
        """A trial reports an epoch."""
        self._hear(number, report)
        record, epoch = self._history.record(number), _epoch(report)
        if report.get(NOTE):
            self._on_event(Note(f"{record.name}: {report[NOTE]}"))
        if OUTCOME in report or not epoch:
            return
        self._live[number] = epoch
        self._deaths.progressed(number)
        metrics = {name: float(report[name]) for name in report if _is_metric(name, report[name])}
        epochs = self.spec_of(record).optim.epochs
        self._on_event(TrialProgress(number, epoch, epochs, metrics.get(VAL_MAE_YEARS), metrics))

    def judged(self, number: int, report: Mapping[str, Any]) -> bool:
        """Whether a trial ends with this epoch: it has no error in years, or cannot reach the front any
        more.
        """
        epoch = _epoch(report)
        if OUTCOME in report or not epoch:
            return False
        self._hear(number, report)
        fault = _fault(report)
        if fault:
            self._verdicts[number] = State.FAIL, f"{fault} after epoch {epoch}"
        else:
            verdict = self._verdict(self._history.record(number))
            if isinstance(verdict, Stop):
                self._verdicts[number] = State.PRUNED, verdict.reason
            elif isinstance(verdict, Pause) and self._others_wait:
                self._verdicts[number] = State.PAUSED, verdict.reason
        return number in self._verdicts

    def _verdict(self, record: TrialRecord) -> Keep | Pause | Stop:
        """What the rungs say of a trial, beside those that run, the front, and the newest others."""
        rungs, trial = self._rungs, self._learning.curve(record)
        if rungs is None or len(trial.best) not in rung_epochs(trial.epochs, rungs):
            return KEEP
        rivals = {other.number: other for other in self._history.newest(RIVALS + self.live)}
        rivals |= {other.number: other for other in self._front}
        rivals |= {number: self._history.record(number) for number in self._live}
        trial, others = self._learning.curves(record, rivals.values())
        return decide(trial, others, rungs, self._spec.max_mae_years)

    def may_stop(self, number: int, report: Mapping[str, Any]) -> bool:
        """Whether a trial with this report has epochs left that it can be stopped before."""
        epochs = self.spec_of(self._history.record(number)).optim.epochs
        return OUTCOME not in report and 0 < _epoch(report) < epochs

    def ended(self, number: int, report: Mapping[str, Any]) -> None:
        """A trial is over; ``report`` is the last it gave. Cut for want of room, it stays RUNNING."""
        outcome = report.get(OUTCOME)
        if outcome == CUT:
            self.halted = self.halted or str(report.get(REASON))
            self.parked(number, report)
            return
        self._tell_last_epoch(number, report)
        self._live.pop(number, None)
        self._deaths.progressed(number)
        self._hear(number, report)
        curve = self._learning.end(number)
        spent = Spent(_epoch(report), round(_number(report.get(SECONDS)), 3), curve)
        verdict = self._verdicts.pop(number, None)
        if verdict and verdict[0] is State.PAUSED and outcome is None:
            self._pause(number, verdict[1], spent)
        else:
            self._told(self._settled(number, report, spent, verdict))

    def _settled(
        self, number: int, report: Mapping[str, Any], spent: Spent, verdict: tuple[State, str] | None
    ) -> TrialRecord:
        """Tell the history how a trial ended."""
        outcome, fault = report.get(OUTCOME), _fault(report)
        if outcome == COMPLETED and fault:
            return self._history.fail(number, fault, spent)
        if outcome == COMPLETED:
            metrics = {name: float(report[name]) for name in _RESULTS if isinstance(report.get(name), Real)}
            return self._history.complete(number, metrics, spent)
        if outcome == FAILED:
            return self._history.fail(number, str(report[REASON]), spent)
        if verdict and verdict[0] is State.FAIL:
            return self._history.fail(number, verdict[1], spent)
        if verdict:
            return self._prune(number, verdict[1], spent, _error(report))
        if self.stop_reason is not None:
            reason = f"{self.stop_reason} after epoch {spent.epochs}"
            return self._history.prune(number, reason, spent, _error(report))
        return self._history.fail(number, "it ended without a result", spent)

    def _pause(self, number: int, reason: str, spent: Spent) -> None:
        """A trial waits at its rung, with its checkpoint."""
        record = self._history.pause(number, reason, spent)
        self._write()
        self._on_event(TrialPaused(record))

    def _prune(self, number: int, reason: str, spent: Spent, error: float | None) -> TrialRecord:
        """A trial that the rungs stopped, which never goes on."""
        record = self._history.prune(number, reason, spent, error)
        self._learning.forget_checkpoint(number)
        return record

    def died(self, number: int, death: Death) -> None:
        """A trial's process is gone: take the trial up again, or FAIL it where it seems to be the cause."""
        reported, curve = self._live.pop(number, 0), self._learning.end(number)
        epochs = max(reported, len(curve))
        self._verdicts.pop(number, None)
        if self._deaths.died(number, death) and self.stop_reason is None:
            self._again.append(number)
            self._on_event(TrialRetried(self._history.retried(number), death.reason))
        else:
            reason = self._deaths.verdict(number, epochs)
            self._deaths.progressed(number)
            self._told(self._history.fail(number, reason, Spent(epochs, curve=curve)))

    def wind_down(self, by: str, *, at_once: bool = False) -> None:
        """Hand out no more trials: those that run are to be parked, for a later run to take up."""
        self.winding_down = True
        self._on_event(StudyStopping(by, 0 if at_once else self.live, at_once))

    def parked(self, number: int, report: Mapping[str, Any] | None = None) -> None:
        """A running trial was interrupted after its last report; it stays RUNNING, with its checkpoint."""
        self._tell_last_epoch(number, report or {})
        self._learning.end(number)
        self._verdicts.pop(number, None)
        self._on_event(TrialParked(self._history.record(number), self._live.pop(number, 0)))

    def park_all(self) -> None:
        """Park whatever still runs."""
        for number in list(self._live):
            self.parked(number)

    def _tell_last_epoch(self, number: int, report: Mapping[str, Any]) -> None:
        """Whoever stops a trial at an epoch tells of that epoch here only."""
        if _epoch(report) > self._live.get(number, 0):
            self.progressed(number, report)

    def close(self) -> None:
        """Write the records as they are now."""
        self._write(force=True)
        self._folder.write_front(self._front)

    def _hear(self, number: int, report: Mapping[str, Any]) -> None:
        epoch = _epoch(report)
        if OUTCOME not in report and epoch and not _fault(report):
            self._learning.hear(number, epoch, float(report[VAL_MAE_YEARS]))

    def _told(self, record: TrialRecord) -> None:
        if record.state is State.COMPLETE:
            self._front = self._history.front()
            self._folder.write_front(self._front)
        self._write()
        self._on_event(TrialFinished(record, self._history.finished, self.total, tuple(self._front)))

    def _write(self, *, force: bool = False) -> None:
        if force or time.monotonic() >= self._next_write:
            started = time.monotonic()
            self._folder.write_trials(self._history.records)
            ended = time.monotonic()
            self._next_write = ended + max(_WRITE_INTERVAL_S, (ended - started) / _WRITE_SHARE)


def _is_metric(name: str, value: Any) -> bool:
    """Whether a report's entry is a figure of training, and not one of those that Tune adds."""
    return name.startswith(_METRICS) and isinstance(value, int | float) and math.isfinite(value)


def _fault(report: Mapping[str, Any]) -> str:
    """Why a report has no error in years; empty where it has one."""
    mae = report.get(VAL_MAE_YEARS)
    if mae is None:
        return f"{VAL_MAE_YEARS} is missing"
    if not isinstance(mae, Real):
        return f"{VAL_MAE_YEARS} is {mae!r:.40}, no number"
    if mae < 0:
        return f"{VAL_MAE_YEARS} is {mae}, but an error is not negative"
    return "" if math.isfinite(mae) else f"{VAL_MAE_YEARS} is {mae}"


def _error(report: Mapping[str, Any]) -> float | None:
    """A report's error in years, where it has one."""
    return None if _fault(report) else float(report[VAL_MAE_YEARS])


def _epoch(report: Mapping[str, Any]) -> int:
    """How many epochs are finished by a report; 0 where it does not say so in a number."""
    return max(0, int(_number(report.get(EPOCH))))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, Real) and math.isfinite(value) else 0.0
