"""Keeps a running study's books: hands out trials, decides which go on, settles how each ended, writes the
records, tells watchers.

No Ray: whoever runs the trials calls ``next_trial``, ``began``, ``report``, ``ended`` and ``died``. The way
of one report is ``TrialManager.report``, top to bottom; below it are pure pieces: ``run.reports`` reads it,
``stopping.curves`` continues the curve, ``stopping.rungs`` decides, ``store.history`` remembers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from agesearch.metrics import AT_END, VAL_CS5, VAL_MAE_YEARS
from agesearch.models.architectures import Network
from agesearch.search.choice.kept import KeptWeights
from agesearch.search.run.reports import COMPLETED, CUT, MISPLACED, STOPPED, Report, Verdict, ending_of
from agesearch.search.run.suggester import Suggester, Suggests
from agesearch.search.run.watchdog import Death, Deaths
from agesearch.search.space.limits import Fitting, Latencies
from agesearch.search.space.space import trial_spec
from agesearch.search.stopping.curves import StudyCurves
from agesearch.search.stopping.rungs import (
    KEEP,
    Keep,
    LearningCurve,
    Pause,
    Stop,
    decide,
    is_at_rung,
    rungs_of,
)
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
    TrialWithin,
)
from agesearch.search.store.front_limits import FrontLimits
from agesearch.search.store.history import History, TrialCost
from agesearch.search.store.records import State, StudyFolder, TrialRecord
from agesearch.specs import StudySpec, TrainSpec
from agesearch.training.curve import trained_seconds
from agesearch.training.standing import Standing
from agesearch.training.stopping import request_stop, withdraw_stop

#: So many of the newest trials are what rungs compare with, so that a decision takes as long in any study.
COMPARED = 300

#: Once the time is up, an epoch that takes longer than so many seconds is not waited for.
_PATIENCE_S = 60.0

#: ``trials.parquet`` is rewritten at most this often while trials run, in at most this share of the time.
_WRITE_INTERVAL_S = 2.0
_WRITE_SHARE = 0.02


class TrialManager:
    """The books of one run: it ends at the spec's number of trials, those of earlier runs included, or where
    every configuration of the space was tried. Trials that inherit weights have them from ``parents``.
    ``weights`` removes those that nobody will need (None: all are kept).
    """

    def __init__(
        self,
        folder: StudyFolder,
        history: History,
        spec: StudySpec,
        *,
        latencies: Latencies,
        on_event: EventListener,
        fitting: Fitting | None = None,
        suggester: Suggests | None = None,
        parents: StudyFolder | None = None,
        weights: KeptWeights | None = None,
    ) -> None:
        self.total = spec.trials
        self.stop_reason: str | None = None
        self.winding_down = False
        self.halted = ""  # why no more can be written
        self.suggester: Suggests = suggester or Suggester(history, spec, fitting)
        self._folder = folder
        self._parents = parents or folder
        self._weights = weights
        self._history = history
        self._spec = spec
        self._latencies = history.latencies = latencies
        self._on_event = on_event
        self._again = deque(record.number for record in history.running)
        self._live: dict[int, int] = {}  # number -> epochs finished
        self._nodes: dict[int, str] = {}  # where they run
        self._next_write = 0.0
        self._front = history.front()
        self._curves = StudyCurves(folder, spec)
        self._rungs = rungs_of(spec)
        self._verdicts: dict[int, Verdict] = {}
        self._deaths = Deaths()
        self._told: set[str] = set()

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
            latency = self._latencies.get(Network.of(model), "its network was not timed")
            if not isinstance(latency, str):
                record = self._history.knows_latency(record.number, latency)
                self._live[record.number] = self._curves.epochs(record.number)
                withdraw_stop(self._folder.working_folder(record.number))
                return record
            self._tell_end(self._history.fail(record.number, f"its latency is not known: {latency}"))
        return None

    @property
    def _may_begin(self) -> bool:
        """Whether the study has new trials left to begin."""
        return self._history.finished + len(self._history.paused) + self.live < self.total

    def _next(self) -> TrialRecord | None:
        """One that was interrupted, else a new one or a paused one, whichever promises more. What goes on is
        judged again first, by what is known now: a kill may have come between its last epoch and the verdict.
        """
        while self._again or self._others_wait:
            if self._again:
                record = self.suggester.complete_params(self._again.popleft())
                self._curves.go_on(record)
            else:
                suggested = self.suggester.suggest(new=self._may_begin)
                if suggested is None:
                    self._end_of_space()
                    return None
                if suggested.state is State.RUNNING:
                    return suggested
                record = suggested
            verdict = self._at_rung(record)
            if isinstance(verdict, Stop):
                spent = self._spent(record)
                self._tell_end(self._prune(record.number, verdict, spent, spent.curve[-1]))
            elif record.state is State.PAUSED:
                self._curves.go_on(record)
                return self._history.unpause(record.number)
            elif isinstance(verdict, Pause) and self._others_wait:
                self._pause(record.number, verdict.reason, self._spent(record))
            else:
                return record
        return None

    def _end_of_space(self) -> None:
        """Nothing is left to try: the study is as long as it has become."""
        self.total = self._history.finished + self.live
        self._on_event(
            Note(
                f"Every configuration of the space within its limits was tried: the study ends with "
                f"{self.total} trials, not {self._spec.trials}."
            )
        )

    @property
    def _others_wait(self) -> bool:
        """Whether a slot that a trial gives away has another to train."""
        return self._may_begin or bool(self._history.paused)

    def _spent(self, record: TrialRecord) -> TrialCost:
        """What a trial that does not run has cost so far."""
        if record.state is State.PAUSED:
            return TrialCost(record.epochs, record.seconds, record.curve, record.node)
        seconds = trained_seconds(self._folder.trial_folder(record))
        curve = self._curves.end(record.number)
        return TrialCost(len(curve), round(seconds, 3), curve, self._nodes.get(record.number, record.node))

    def spec_of(self, record: TrialRecord) -> TrainSpec:
        """What the trial trains."""
        parent = None if record.inherited is None else self._parents.trial_folder(record.inherited)
        return trial_spec(self._spec, record.params, parent)

    def began(self, number: int) -> None:
        """A trial's training starts."""
        record = self._history.record(number)
        self._write()
        self._on_event(TrialStarted(record, self.spec_of(record).optim.epochs))

    def report(self, number: int, raw: Mapping[str, Any]) -> bool:
        """The way of one report: what it says, the curve that it continues, what is shown of it, and whether
        the trial ends or waits with it. If so, whoever runs the trial stops it and calls ``ended``.
        """
        report, record = Report.of(raw), self._history.record(number)
        epochs = self.spec_of(record).optim.epochs if report.is_epoch else 0
        self._hear(number, report)
        self._show(record, report, epochs)
        verdict = self._verdict(record, report, epochs)
        if verdict is not None:
            self._verdicts[number] = verdict
        return verdict is not None

    def _hear(self, number: int, report: Report) -> None:
        """Continue the trial's curve, and know where it runs."""
        if report.node:
            self._nodes[number] = report.node
        if report.is_epoch:
            self._live[number] = report.epoch
            self._deaths.progressed(number)
            if report.error is not None:
                self._curves.hear(number, report.epoch, report.error)

    def stands(self, number: int, standing: Standing) -> None:
        """A running trial's epoch stands here. Once the time is up, one that would go on for long is asked
        for a checkpoint, and is parked.
        """
        self._on_event(TrialWithin(number, standing))
        if self.stop_reason is not None and standing.seconds_left(standing.epoch) > _PATIENCE_S:
            request_stop(self._folder.working_folder(number))

    def _show(self, record: TrialRecord, report: Report, epochs: int) -> None:
        """Tell watchers of an epoch, and of what its training warned of."""
        if report.note:
            self._on_event(Note(f"{record.title}: {report.note}"))
        if report.is_epoch:
            error = report.metrics.get(VAL_MAE_YEARS)
            self._on_event(TrialProgress(record.number, report.epoch, epochs, error, report.metrics))

    def _verdict(self, record: TrialRecord, report: Report, epochs: int) -> Verdict | None:
        """Why a trial does not train on after this epoch: it has no error in years, the time is up, the rungs
        say so, or the study is to stop. None where it does.
        """
        if not report.is_epoch:
            return None
        if report.fault:
            return Verdict(State.FAIL, f"{report.fault} after epoch {report.epoch}")
        has_more = report.epoch < epochs
        if self.stop_reason is not None and has_more:
            return Verdict(State.PRUNED, f"{self.stop_reason} after epoch {report.epoch}")
        decision = self._at_rung(record)
        if isinstance(decision, Stop):
            return Verdict(State.PRUNED, decision.reason, decision.loss)
        if isinstance(decision, Pause) and self._others_wait:
            return Verdict(State.PAUSED, decision.reason)
        return Verdict(State.RUNNING) if self.winding_down and has_more else None

    def _at_rung(self, record: TrialRecord) -> Keep | Pause | Stop:
        """What the rungs say of a trial, beside those that run, the front, and the newest others."""
        rungs, trial = self._rungs, self._curves.curve(record)
        if rungs is None:
            return self._judged(trial)
        if not is_at_rung(trial, rungs):
            return KEEP
        compared = {other.number: other for other in self._history.newest(COMPARED + self.live)}
        compared |= {other.number: other for other in self._front}
        compared |= {number: self._history.record(number) for number in self._live}
        limits = FrontLimits.of(self._spec).besides_the_error
        rivals = [
            other for other in compared.values() if other.state is not State.COMPLETE or limits.hold(other)
        ]
        trial, others = self._curves.curves(record, rivals)
        return decide(trial, others, rungs, self._spec.max_mae_years)

    def _judged(self, trial: LearningCurve) -> Keep | Pause | Stop:
        """What the study's own COMPLETE curves say of a trial; why they say nothing is told once a kind."""
        verdict = self.suggester.verdict(trial)
        if isinstance(verdict, Keep) and verdict.why and verdict.why not in self._told:
            self._told.add(verdict.why)
            self._on_event(Note(f"Nothing is stopped early: {verdict.why}."))
        return verdict

    def ended(self, number: int, raw: Mapping[str, Any]) -> None:
        """A trial is over or waits; ``raw`` is the last report it gave. Cut for want of room, stopped within
        an epoch, or on a node that cannot train it, it stays RUNNING.
        """
        report = Report.of(raw)
        if report.is_epoch and report.epoch > self._live.get(number, 0):
            self.report(number, raw)  # whoever stopped it did not ask
        verdict = self._verdicts.pop(number, None)
        if report.outcome == CUT:
            self.halted = self.halted or report.reason
        if report.outcome == MISPLACED and self._goes_on:
            self._live.pop(number, None)
            self._curves.end(number)
            self._verdicts.pop(number, None)
            self._take_up_again(number, report.reason)
            return
        waits = report.outcome in (CUT, STOPPED, MISPLACED)
        if waits or (report.outcome is None and verdict == Verdict(State.RUNNING)):
            self.parked(number)
            if report.outcome == STOPPED and self._goes_on:
                # nobody of this run asked it to
                self._again.append(number)
            return
        self._live.pop(number, None)
        self._deaths.progressed(number)
        curve = self._curves.end(number)
        cost = TrialCost(report.epoch, report.seconds, curve, report.node or self._nodes.pop(number, ""))
        if verdict and verdict.state is State.PAUSED and report.outcome is None:
            self._pause(number, verdict.reason, cost)
        else:
            self._tell_end(self._settle(number, report, cost, verdict))

    @property
    def _goes_on(self) -> bool:
        """Whether trials that were interrupted are taken up again by this run."""
        return not self.winding_down and not self.halted and self.stop_reason is None

    def _take_up_again(self, number: int, why: str) -> None:
        """A trial was interrupted by what is no fault of its own: another process goes on with it."""
        self._again.append(number)
        self._on_event(TrialRetried(self._history.retried(number), why))

    def _settle(self, number: int, report: Report, cost: TrialCost, verdict: Verdict | None) -> TrialRecord:
        """Write down how a trial ended."""
        if report.outcome == COMPLETED and report.error is not None:
            known = {name: report.metrics[name] for name in (VAL_CS5, *AT_END) if name in report.metrics}
            return self._history.complete(number, known | {VAL_MAE_YEARS: report.error}, cost)
        ending = ending_of(report, verdict, self.stop_reason)
        if ending.state is State.PRUNED:
            return self._prune(number, ending, cost, report.error)
        return self._history.fail(number, ending.reason, cost)

    def _pause(self, number: int, reason: str, cost: TrialCost) -> None:
        """A trial waits at its rung, with its checkpoint."""
        record = self._history.pause(number, reason, cost)
        self._write()
        self._on_event(TrialPaused(record))

    def _prune(
        self, number: int, verdict: Stop | Verdict, cost: TrialCost, error: float | None
    ) -> TrialRecord:
        """A trial that was stopped never goes on: its checkpoint is not kept."""
        record = self._history.prune(number, verdict.reason, cost, error, verdict.loss)
        self._curves.forget_checkpoint(number)
        return record

    def died(self, number: int, death: Death) -> None:
        """A trial's process is gone: take the trial up again, or FAIL it where it seems to be the cause."""
        reported, curve = self._live.pop(number, 0), self._curves.end(number)
        epochs = max(reported, len(curve))
        self._verdicts.pop(number, None)
        if self._deaths.died(number, death) and self.stop_reason is None:
            self._take_up_again(number, death.reason)
        else:
            reason = self._deaths.verdict(number, epochs)
            self._deaths.progressed(number)
            cost = TrialCost(epochs, curve=curve, node=self._nodes.pop(number, ""))
            self._tell_end(self._history.fail(number, reason, cost))

    def wind_down(self, by: str, *, at_once: bool = False) -> None:
        """Hand out no more trials: those that run are asked for a checkpoint, within their epoch too, and
        parked, for a later run to take up.
        """
        self.winding_down = True
        if not at_once:
            for number in self._live:
                request_stop(self._folder.working_folder(number))
        self._on_event(StudyStopping(by, 0 if at_once else self.live, at_once))

    def parked(self, number: int) -> None:
        """A running trial was interrupted after its last report; it stays RUNNING, with its checkpoint."""
        self._curves.end(number)
        self._verdicts.pop(number, None)
        self._on_event(TrialParked(self._history.record(number), self._live.pop(number, 0)))

    def park_all(self) -> None:
        """Park whatever still runs."""
        for number in list(self._live):
            self.parked(number)

    def close(self) -> None:
        """Write the records as they are now."""
        self._write(force=True)
        self._folder.write_front(self._front)

    def _tell_end(self, record: TrialRecord) -> None:
        """Write and show that a trial is over."""
        if record.state is State.COMPLETE:
            self._front = self._history.front()
            self._folder.write_front(self._front)
            if self._weights is not None:
                going_on = [self._history.record(number) for number in (*self._live, *self._again)]
                self._weights.ended(record, self._front, [*going_on, *self._history.paused])
        self._write()
        self._on_event(TrialFinished(record, self._history.finished, self.total, tuple(self._front)))

    def _write(self, *, force: bool = False) -> None:
        if force or time.monotonic() >= self._next_write:
            started = time.monotonic()
            self._folder.write_trials(self._history.records)
            ended = time.monotonic()
            self._next_write = ended + max(_WRITE_INTERVAL_S, (ended - started) / _WRITE_SHARE)
