"""What a study runs next: its history, as far as the sampler may see it, and what the sampler makes of that.

A suggestion is a pure function of the spec, the seed, the trial's number and what was told before (see
``agesearch.search.sampler.sampler``), so a study that was cut and resumed goes on as it would have. What was
tried is not suggested again: all trials share the student's seed, so the same configuration is the same
training. The history below knows no sampler, the sampler no history.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from agesearch.search.model.error_prior import TABLES, ErrorPrior
from agesearch.search.model.trial_model import Fit
from agesearch.search.sampler.ehvi import Proposal
from agesearch.search.sampler.judge import Standing, Verdict
from agesearch.search.sampler.sampler import StudySampler
from agesearch.search.sampler.window import TrialWindow
from agesearch.search.space.conditions import has_all, setting
from agesearch.search.space.limits import Fitting
from agesearch.search.space.space import ARCH, Params, configuration_key
from agesearch.search.stopping.rungs import LearningCurve
from agesearch.search.store.history import History
from agesearch.search.store.records import INHERITED, State, TrialRecord
from agesearch.specs import StudySpec

#: Attribute of the study that holds what the model of the errors was last fitted to.
FIT = "fit"

_INHERIT = "model.inherit"


class Suggests(Protocol):
    """What a manager asks for trials; see ``Suggester``."""

    def suggest(self, *, new: bool = True) -> TrialRecord | None: ...

    def complete_params(self, number: int) -> TrialRecord: ...

    def verdict(self, trial: LearningCurve) -> Verdict: ...


class Suggester:
    """Suggests the trials of one study, only networks of ``fitting``."""

    def __init__(
        self,
        history: History,
        spec: StudySpec,
        fitting: Fitting | None = None,
        error_prior: ErrorPrior = TABLES,
    ) -> None:
        self._history = history
        self._spec = spec
        self._fit = Fit.of(history.attribute(FIT))
        self._sampler = StudySampler(spec, fitting or Fitting(), self._fit, error_prior)
        self._window = TrialWindow()
        self._tried: set[tuple[Hashable, ...]] = set()
        self._losses: dict[int, float] = {}
        self._spent = 0.0
        for record in history.all():
            self._see(record)
        history.watch(self._see)

    def suggest(self, *, new: bool = True) -> TrialRecord | None:
        """What to run next: a trial that was begun just now with the parameters that are proposed, or one
        that is PAUSED and worth more. Where no ``new`` ones may begin, there must be a PAUSED one. None where
        every configuration of the space was tried and none is PAUSED.
        """
        proposal = self.propose(None if new else ())
        if proposal is None:
            return None
        if proposal.paused is not None:
            return self._history.record(proposal.paused)
        notes: dict[str, Any] = {"redrawn": proposal.redrawn} if proposal.redrawn else {}
        parent = self._parent(proposal.params)
        return self._history.begin(proposal.params, notes if parent is None else notes | {INHERITED: parent})

    def propose(self, offered: Sequence[Params] | None = None) -> Proposal | None:
        """What ``suggest`` would run. A replay has only the configurations ``offered``; where those are none,
        it is a PAUSED trial. See ``agesearch.search.sampler.sampler``.
        """
        proposal = self._sampler.propose(
            self._history.begun,
            self._window.shown(),
            latencies=self._history.latencies,
            offered=offered,
            paused=self._history.paused,
            is_tried=self._is_tried,
        )
        fit = self._sampler.fit
        if fit is not None and fit != self._fit:  # trials go on and end meanwhile: it could not be made again
            self._history.set_attribute(FIT, fit.as_json())
            self._fit = fit
        return proposal

    def verdict(self, trial: LearningCurve) -> Verdict:
        """Whether a trial goes on after the last epoch of its curve, by what the study's own trials tell
        (``agesearch.search.sampler.judge``).
        """
        judge = self._sampler.judge(self._history.latencies)
        shown = self._window.shown(besides=trial.number)
        standing = Standing(self._spec.trials, self._history.begun, self._history.finished, self._spent)
        return judge.verdict(self._history.record(trial.number), trial, shown, standing)

    def complete_params(self, number: int) -> TrialRecord:
        """A RUNNING trial that is taken up again; one that another tool began and left without parameters is
        given some.
        """
        record = self._history.record(number)
        if has_all(self._spec, record.params):
            return record
        proposal = self._sampler.propose(number, self._window.shown(besides=number), record.params)
        assert proposal is not None  # what is given is never refused as tried
        return self._history.set_params(number, proposal.params | record.params)

    def _see(self, record: TrialRecord) -> None:
        self._window.take(record)
        if record.params:
            self._tried.add(record.configuration)
        if record.expected_loss:
            self._losses[record.number] = record.expected_loss
            self._spent = math.fsum(self._losses.values())

    def _is_tried(self, params: Params) -> bool:
        """Whether a trial with these parameters, and the parent that it would have, was begun before."""
        return (*configuration_key(params), self._parent(params)) in self._tried

    def _parent(self, params: Params) -> int | None:
        """The trial whose weights a new one starts from: the COMPLETE one of its architecture with the
        smallest error, the first of several. None where it asks for none, or there is none.

        Asked of each candidate: only the two fields that decide are looked up, no spec is made.
        """
        if setting(self._spec, params, _INHERIT) == "none":
            return None
        arch = setting(self._spec, params, ARCH)
        alike = [
            record for record in self._history.all() if record.state is State.COMPLETE and record.arch == arch
        ]
        best = min(alike, key=lambda record: (_error(record), record.number), default=None)
        return None if best is None else best.number


def _error(record: TrialRecord) -> float:
    return math.inf if record.val_mae_years is None else record.val_mae_years
