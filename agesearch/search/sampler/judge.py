"""Whether a trial is worth its next epochs: early stopping and pausing by evidence of this study alone.

After an epoch the end of a trial is forecast from its curve and its configuration, by the COMPLETE trials of
the study (``agesearch.search.stopping.forecast``). Its latency is known, so that the forecast tells the gain
in hypervolume that is expected of it.

- It is **stopped** where that gain, as a share of the front's hypervolume, is no more than its even part of
  what the study may lose, ``max_loss`` by all trials, or of what is left of it, by those not over yet. What
  stopping was expected to cost is added up over the study, so that all of it stays below ``max_loss``. That
  curves near its own may mislead counts, too: for one in so many of them it would end as its configuration
  alone lets expect. And even if it fell farther than any COMPLETE curve did from where it stands
  (``agesearch.search.stopping.falls``), it must gain no more than its even part.
- It is **paused** where it is no more than ``_UNLIKELY`` times a trial's even part of ``max_loss``. That
  costs nothing: it goes on once it is worth more than a new trial, at the latest when no new ones are left,
  and is judged again before it does.

Where the study is charged by the second, an even part grows with what an epoch of the trial costs: what may
be lost is spent where it saves most.

Nothing is stopped or paused

- before ``evidence`` trials are COMPLETE;
- of the ``startup_trials`` and the ``controls``, drawn by the seed: they train to their end whatever is
  expected of them, so that what is learnt is not of survivors alone;
- where curves near the trial's have told little of their ends: a warm-up, a plateau at the error of always
  the median, a schedule that decides late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agesearch.search.model.acquisition import Point, reference_beyond
from agesearch.search.model.gaussian_process import single_threaded
from agesearch.search.model.trial_model import Chances, Seen, TrialModel, chances, points_of
from agesearch.search.stopping.forecast import Forecast
from agesearch.search.stopping.rungs import (
    KEEP,
    OUT_OF_REACH,
    UNLIKELY,
    Keep,
    LearningCurve,
    Pause,
    Stop,
)
from agesearch.search.store.pareto import front, hypervolume
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import StoppingSpec, StudySpec

Verdict = Keep | Pause | Stop

#: A trial is judged at most so many times on its way.
_TIMES = 12

#: The share of the configurations' own squared miss that curves must have taken away to be evidence.
_TELLS = 0.1

#: A trial is paused where no more is at stake than so many even parts of what the study may lose.
_UNLIKELY = 10.0


@dataclass(frozen=True)
class Standing:
    """How the study stands: trials in all, those begun and those over, and the expected loss so far."""

    trials: int
    begun: int
    finished: int
    spent: float


class Judge:
    """Judges the trials of one study; what it keeps between calls is for speed only."""

    def __init__(self, study: StudySpec, model: TrialModel) -> None:
        self._study = study
        self._model = model

    def verdict(
        self, record: TrialRecord, curve: LearningCurve, shown: Sequence[TrialRecord], standing: Standing
    ) -> Verdict:
        """Whether a trial goes on after the last epoch of its ``curve``, beside the trials ``shown``."""
        rule = self._study.stopping
        if rule is None or not is_judged(curve) or record.number < self._study.startup_trials:
            return KEEP
        if is_control(self._study.seed, record.number, rule.controls):
            return KEEP
        known = [other for other in shown if other.params and other.latency_ms_p50 is not None]
        ended = [self._model.view(other) for other in known if other.state is not State.RUNNING]
        points = points_of(ended)
        if len(points) < rule.evidence:
            return Keep(f"{len(points)} of {rule.evidence} trials are COMPLETE that the evidence needs")
        place = self._model.view(record).place
        trial = Seen(record.number, place, curve, None)
        with single_threaded():
            ends = self._model.ends(ended)
            forecast = ends.forecast([trial])
        if forecast.told[0] < _TELLS:
            return Keep(f"after {trial.share:.0%} of their epochs such curves tell nothing of their ends")
        within = self._model.points_within(ended, known)
        if not within:
            return KEEP
        # No more of them decides: the others add nothing to a hypervolume, nor to where it is counted from.
        ahead = [within[index] for index in front(within)]
        price = 1.0
        if self._study.charge == "seconds":
            price = float(self._model.prices(ended, self._model.features([trial]))[0])
        return self._weighed(trial, forecast, ends.best_end(trial), ahead, rule, standing, price)

    def _weighed(
        self,
        trial: Seen,
        forecast: Forecast,
        at_best: float,
        points: Sequence[Point],
        rule: StoppingSpec,
        standing: Standing,
        price: float,
    ) -> Verdict:
        end = chances(forecast, [trial])
        alone = Chances(forecast.prior, forecast.unaided, end.latencies)
        misled = 1.0 / (2.0 + float(forecast.near[0]))  # none of those near did; the next one may (Laplace)
        epoch, error = len(trial.curve.best), float(np.exp(end.mean[0]))
        likely = f"{trial.curve.best[-1]:.2f} years after epoch {epoch} of {trial.curve.epochs} at "
        likely += f"{trial.curve.latency_ms:.2f} ms, {error:.2f} expected in the end"
        reference = self._reference(points, (error, trial.curve.latency_ms))
        expected = (1.0 - misled) * end.worth(points, reference) + misled * alone.worth(points, reference)
        loss = float(expected[0]) / max(hypervolume(points, reference), 1e-12)
        staked = f"{likely}, {loss:.2g} of the hypervolume at stake"
        even = price * rule.max_loss / standing.trials
        left = price * (rule.max_loss - standing.spent) / max(1, standing.trials - standing.finished)
        if loss <= min(even, left) and self._gained(points, (at_best, trial.curve.latency_ms)) <= even:
            return Stop(f"{OUT_OF_REACH}: {staked}, {at_best:.2f} years at best", epoch, loss)
        pauses = self._study.sampler == "ehvi" and standing.begun < standing.trials
        if pauses and loss <= _UNLIKELY * even:
            return Pause(f"{UNLIKELY}: {staked}", epoch)
        return KEEP

    def _gained(self, points: Sequence[Point], point: Point) -> float:
        """What the front gains by one more point, as a share of its hypervolume."""
        reference = self._reference(points, point)
        before = hypervolume(points, reference)
        return (hypervolume([*points, point], reference) - before) / max(before, 1e-12)

    def _reference(self, points: Sequence[Point], expected: Point) -> Point:
        """A tenth of the front's extent beyond it, and beyond the trial, whose end may join it where it is
        not expected to.
        """
        error, latency = reference_beyond([*points, expected])
        slowest = max(latency, expected[1] + 0.1 * (expected[1] - min(ms for _, ms in points)))
        limit = self._study.max_mae_years
        return error if limit is None else min(error, limit), slowest


def is_judged(curve: LearningCurve) -> bool:
    """Whether a trial is judged where it stands: after each of ``_TIMES`` shares of its budget, not at its
    end.
    """
    epoch, parts = len(curve.best), _TIMES / curve.epochs
    return 0 < epoch < curve.epochs and int(epoch * parts + 1e-9) > int((epoch - 1) * parts + 1e-9)


def is_control(seed: int, number: int, share: float) -> bool:
    """Whether a trial is drawn to train to its end."""
    drawn = np.random.SeedSequence([seed, number, 1]).generate_state(1)[0]
    return bool(drawn < share * 2**32)
