"""Proposals by expected hypervolume improvement, with latency known and the error modelled.

A student's latency is known before it trains, so that two objectives become one question: what will the error
be? A Gaussian process answers it from the trials that ended, and of a few hundred configurations the one with
the largest expected gain in hypervolume is proposed (Emmerich 2006; exact, see
``agesearch.search.sampler.acquisition``). What it is told:

- COMPLETE trials, by the logarithm of their best error;
- trials that were stopped or are paused, by the error they would have reached: theirs so far, less the mean
  gain of COMPLETE trials from the same share of the budget, and less certain by the spread of those gains;
- FAILed trials, as the worst;
- running trials, at the error the model expects of them, so that others look elsewhere.

A paused trial is weighed against the new ones: the gain in hypervolume that is expected of it, by its own
curve and the gains of COMPLETE trials from there on, for each epoch it has left, against that of the best new
one for each epoch that a trial of the study takes on average, stopped ones included. The larger runs (after
the freezing and thawing of Swersky 2014).

Errors far above the median are drawn in: how bad a bad trial is says nothing of the good ones. The reference
point is a tenth beyond the nadir of the front that the model expects, or ``max_mae_years`` where that is
lower. Until ``startup_trials`` trials have begun and three are COMPLETE, draws are random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.metrics import or_nan
from agesearch.search.sampler.acquisition import Point, expected_improvement, reference_beyond
from agesearch.search.sampler.encoding import Encoding
from agesearch.search.sampler.gaussian_process import GaussianProcess, Lengths, single_threaded
from agesearch.search.sampler.prior import Priors
from agesearch.search.space.conditions import setting
from agesearch.search.space.limits import Fitting, Latencies
from agesearch.search.space.space import Params, Value
from agesearch.search.stopping.rungs import TINY, LearningCurve, gains_from
from agesearch.search.store.pareto import front
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import StudySpec

Array = npt.NDArray[np.float64]

#: Random configurations that are weighed for a proposal, and variations of front trials beside them.
DRAWN, VARIED = 320, 64

#: COMPLETE trials without which nothing is modelled.
_LEAST = 3

#: The model's lengths are fitted again each time there are so many more ended trials, up to ``_FITTED``.
_GROWTH = 1.3
_FITTED = 128

#: Errors above the median count at most so many times as far from it as the smallest (logarithms).
_DRAWN_IN = 1.0

#: The front that is expected for the reference lies so many deviations below the mean.
_HOPE = 2.0


#: Trials whose curve ends before their budget does.
_CUT = (State.PRUNED, State.PAUSED)


@dataclass(frozen=True)
class _Seen:
    """A trial as the model sees it."""

    number: int
    place: Array
    curve: LearningCurve
    error: float | None  # in years, of a COMPLETE trial


@dataclass(frozen=True)
class Proposal:
    """What to run next: a new trial with these parameters, drawn ``redrawn`` times anew for the study's
    limits; or the PAUSED trial of this number.
    """

    params: Params
    redrawn: int = 0
    paused: int | None = None


@dataclass(frozen=True)
class Fit:
    """The model's lengths, and the moment of the study they were fitted at."""

    moment: tuple[int, int]
    lengths: Lengths

    def as_json(self) -> dict[str, Any]:
        """The fit as a JSON object."""
        return {"moment": self.moment, "lengths": self.lengths.lengths, "noise": self.lengths.noise}

    @classmethod
    def of(cls, document: Any) -> Fit | None:
        """The fit of a JSON object; None where it is none."""
        try:
            first, second = map(int, document["moment"])
            lengths = Lengths(tuple(map(float, document["lengths"])), float(document["noise"]))
        except (KeyError, TypeError, ValueError):
            return None
        return cls((first, second), lengths)


@dataclass(frozen=True)
class _Chances:
    """What is believed of trials ``[n]``: mean and deviation of the logarithm of their error, and latency."""

    mean: Array
    deviation: Array
    latencies: Array

    @property
    def optimistic(self) -> Array:
        return np.exp(self.mean - _HOPE * self.deviation)

    def worth(self, points: Sequence[Point], reference: Point) -> Array:
        """Expected gain in hypervolume of each."""
        found = expected_improvement(self.mean, self.deviation, self.latencies, points, reference)
        return np.where(np.isfinite(found), found, -1.0)


class EhviSampler:
    """Proposes by what the trials so far tell; besides its ``fit``, what it keeps between calls is for speed
    only.
    """

    def __init__(
        self, study: StudySpec, fitting: Fitting, latencies: Latencies, fit: Fit | None = None
    ) -> None:
        known = {network: ms for network, ms in latencies.items() if not isinstance(ms, str)}
        self._study = study
        self._encoding = Encoding(study, fitting, known)
        self._priors = Priors(study)
        self._seen: dict[int, tuple[TrialRecord, _Seen]] = {}
        self.fit = fit if fit and len(fit.lengths.lengths) == len(self._encoding.groups) else None
        self._offered: dict[tuple[tuple[str, Value], ...], tuple[Array, float]] = {}

    def propose(
        self,
        number: int,
        records: Sequence[TrialRecord],
        seed: int,
        offered: Sequence[Params] | None = None,
        paused: Sequence[TrialRecord] = (),
        is_tried: Callable[[Params], bool] | None = None,
    ) -> Proposal | None:
        """What to run as trial ``number`` after ``records`` (by number), or which of the ``paused`` trials;
        None where there is too little to model, or no candidate that is not ``is_tried``. Where only some
        configurations are ``offered``, it is one of those.
        """
        known = [record for record in records if record.params and record.latency_ms_p50 is not None]
        ended = [self._view(record) for record in known if record.state is not State.RUNNING]
        early = number < self._study.startup_trials or len(_points(ended)) < _LEAST
        if early or not self._encoding.usable:
            return None
        waiting = [self._view(record) for record in paused]
        self._forget([*ended, *waiting])
        with single_threaded():
            model = self._model(ended, number)
            running = [self._view(record) for record in known if record.state is State.RUNNING]
            points = _points(ended) + self._expected(model, running)
            places, new = self._new(model, ended, seed, offered)
        old = _gone_on(waiting, ended)
        reference = self._reference(points, (new, old))
        worth = new.worth(points, reference)
        if self._priors and len(worth):
            worth = worth * self._priors.weights(places, number)
        if waiting:
            left = [seen.curve.epochs - len(seen.curve.best) for seen in waiting]
            rates = old.worth(points, reference) / np.maximum(left, 1)
            best = int(rates.argmax())
            if not len(worth) or rates[best] >= worth.max() / _mean_epochs(ended):
                return Proposal(paused[best].params, paused=paused[best].number)
        return self._best_new(places, worth, is_tried)

    def _best_new(
        self, places: Array, worth: Array, is_tried: Callable[[Params], bool] | None
    ) -> Proposal | None:
        """The candidate of the largest worth that was not tried; None where all were."""
        for row in np.argsort(-worth, kind="stable"):
            params = self._encoding.params(places[row])
            if is_tried is None or not is_tried(params):
                return Proposal(params)
        return None

    def _new(
        self, model: GaussianProcess, ended: Sequence[_Seen], seed: int, offered: Sequence[Params] | None
    ) -> tuple[Array, _Chances]:
        """Places of the configurations that may begin, and what is believed of them."""
        if offered is None:
            places, latencies = self._candidates(ended, np.random.default_rng(seed))
        elif offered:
            places, latencies = self._placed(offered)
        else:
            return np.empty((0, 0)), _Chances(np.empty(0), np.empty(0), np.empty(0))
        return places, _Chances(*model.predict(self._encoding.features(places, latencies)), latencies)

    def _view(self, record: TrialRecord) -> _Seen:
        """A record with its place and curve; made once a state."""
        kept = self._seen.get(record.number)
        if kept is None or (kept[0] is not record and kept[0] != record):
            epochs = int(setting(self._study, record.params, "optim.epochs"))
            curve = LearningCurve.of(
                record.number, or_nan(record.latency_ms_p50), epochs, record.curve, record.state
            )
            error = record.val_mae_years if record.state is State.COMPLETE else None
            place = kept[1].place if kept else self._encoding.place(record.params)
            kept = record, _Seen(record.number, place, curve, error)
            self._seen[record.number] = kept
        return kept[1]

    def _placed(self, offered: Sequence[Params]) -> tuple[Array, Array]:
        """Places and latencies of configurations; worked out once each, since a replay offers them again."""
        keys = [tuple(params.items()) for params in offered]
        for key, params in zip(keys, offered, strict=True):
            if key not in self._offered:
                self._offered[key] = self._encoding.place(params), self._encoding.latency(params)
        found = [self._offered[key] for key in keys]
        return np.stack([place for place, _ in found]), np.array([latency for _, latency in found])

    def _forget(self, used: Sequence[_Seen]) -> None:
        """Keep what is still used, so that memory stays bounded."""
        if len(self._seen) > 4 * len(used) + _FITTED:
            shown = {seen.number for seen in used}
            self._seen = {number: kept for number, kept in self._seen.items() if number in shown}

    def _model(self, ended: Sequence[_Seen], number: int) -> GaussianProcess:
        """The model of all that ended; its lengths are those of the first of them, a growing part.

        Trials end in another order than they began in, and are paused and go on, so that the first of them
        change: lengths are kept until that part or the study has grown by ``_GROWTH``.
        """
        most = min(_scheduled(len(ended)), _FITTED)
        moment = most, _scheduled(number)
        if self.fit is None or self.fit.moment != moment:
            self.fit = Fit(moment, self._conditioned(ended[:most], None).lengths)
        return self._conditioned(ended, self.fit.lengths)

    def _conditioned(self, ended: Sequence[_Seen], lengths: Lengths | None) -> GaussianProcess:
        targets, variance = _evidence(ended)
        places = np.stack([seen.place for seen in ended])
        latencies = np.array([seen.curve.latency_ms for seen in ended])
        features = self._encoding.features(places, latencies)
        return GaussianProcess(features, targets, variance, self._encoding.groups, lengths)

    def _expected(self, model: GaussianProcess, running: Sequence[_Seen]) -> list[Point]:
        """Where running trials are expected to end."""
        if not running:
            return []
        latencies = np.array([seen.curve.latency_ms for seen in running])
        features = self._encoding.features(np.stack([seen.place for seen in running]), latencies)
        mean, _ = model.predict(features)
        return [(math.exp(error), ms) for error, ms in zip(mean.tolist(), latencies.tolist(), strict=True)]

    def _candidates(self, ended: Sequence[_Seen], rng: np.random.Generator) -> tuple[Array, Array]:
        """Random configurations, and variations of the COMPLETE trials of the front."""
        places, latencies = self._encoding.drawn(DRAWN, rng)
        if self._priors:
            self._priors.draw_into(places, rng, self._encoding.of_networks)
        done = [seen for seen in ended if seen.error is not None]
        best = [done[index] for index in front(_points(done))]
        share = -(-VARIED // max(len(best), 1))
        for seen in best:
            near = self._encoding.near(seen.place, share, rng)
            known = self._encoding.latencies(near) if self._encoding.moves_network else seen.curve.latency_ms
            places = np.vstack([places, near])
            latencies = np.append(latencies, np.broadcast_to(known, share))
        known_all = np.isfinite(latencies)
        return places[known_all], latencies[known_all]

    def _reference(self, points: Iterable[Point], chances: Iterable[_Chances]) -> Point:
        expected = [
            point
            for some in chances
            for point in zip(some.optimistic.tolist(), some.latencies.tolist(), strict=True)
        ]
        error, latency = reference_beyond([*points, *expected])
        limit = self._study.max_mae_years
        return error if limit is None else min(error, limit), latency


def _points(trials: Iterable[_Seen]) -> list[Point]:
    """(error, latency) of the COMPLETE ones."""
    return [(seen.error, seen.curve.latency_ms) for seen in trials if seen.error is not None]


def _evidence(trials: Sequence[_Seen]) -> tuple[Array, Array]:
    """Logarithm of the error that each trial reached or would have, and the variance of that."""
    complete = [seen.curve for seen in trials if seen.error is not None]
    targets, variance = np.full(len(trials), np.nan), np.zeros(len(trials))
    cut = [row for row, seen in enumerate(trials) if seen.curve.state in _CUT and seen.curve.best]
    for row, reached in zip(cut, _reached([trials[row].curve for row in cut], complete), strict=True):
        targets[row], variance[row] = reached
    for row, seen in enumerate(trials):
        if seen.error is not None:
            targets[row] = math.log(max(seen.error, TINY))
    known = targets[np.isfinite(targets)]
    middle = float(np.median(known))
    highest = middle + _DRAWN_IN * (middle - float(known.min())) + 0.05
    return np.fmin(targets, highest), variance  # FAILed ones, which have none, among the highest


def _reached(curves: Iterable[LearningCurve], complete: Sequence[LearningCurve]) -> list[tuple[float, float]]:
    """What curves that were cut short would have reached: mean and variance of the logarithm of the error."""
    gains: dict[float, tuple[float, float]] = {}
    found: list[tuple[float, float]] = []
    for curve in curves:
        share = len(curve.best) / curve.epochs
        if share not in gains:
            gains[share] = _gain(share, complete)
        found.append((math.log(max(curve.best[-1], TINY)) - gains[share][0], gains[share][1]))
    return found


def _gone_on(paused: Iterable[_Seen], ended: Iterable[_Seen]) -> _Chances:
    """What is believed of paused trials: their error less the gain of others from there on."""
    complete = [seen.curve for seen in ended if seen.error is not None]
    curves = [seen.curve for seen in paused]
    reached = np.array(_reached(curves, complete)).reshape(-1, 2)
    latencies = np.array([curve.latency_ms for curve in curves])
    return _Chances(reached[:, 0], np.sqrt(reached[:, 1]), latencies)


def _mean_epochs(ended: Iterable[_Seen]) -> float:
    """Epochs that a trial took on average, those that were stopped and those that trained to their end."""
    spent = [
        len(seen.curve.best) or seen.curve.epochs
        for seen in ended
        if seen.curve.state in (State.COMPLETE, State.PRUNED)
    ]
    return sum(spent) / len(spent)


def _gain(share: float, complete: Sequence[LearningCurve]) -> tuple[float, float]:
    """Mean and variance of what is still gained from a share of the budget on (logarithms of errors)."""
    gains = gains_from(share, complete)
    if len(gains) < 2:
        return 0.0, 1.0
    return float(np.mean(gains)), float(np.var(gains, ddof=1)) * (1 + 1 / len(gains)) + 1e-4


def _scheduled(count: int) -> int:
    """The largest step of the schedule that is not above ``count``."""
    step = float(_LEAST)
    while step * _GROWTH <= count:
        step *= _GROWTH
    return int(step)
