"""Proposals by expected hypervolume improvement, with latency known and the error modelled.

A student's latency is known before it trains, so that two objectives become one question: what will the error
be? A Gaussian process answers it from the trials that ended (``agesearch.search.model.trial_model``), and
of a few hundred configurations the one with the largest expected gain in hypervolume is proposed (Emmerich
2006; exact, see ``agesearch.search.model.acquisition``). Running trials are believed to end where the model
expects them to: they stand on the front there, and what is near them is surer, so that others look elsewhere.
What counts is the gain of a configuration's expected error: that one more training of much the same may be
luckier is no reason to run it.

A paused trial is weighed against the new ones: the gain in hypervolume that is expected of it, by its own
curve and those of COMPLETE trials, for each epoch it has left, against that of the best new one for each
epoch that a trial of the study takes on average, stopped ones included. The larger runs (after the freezing
and thawing of Swersky 2014). Where a study is charged by the second, an epoch counts as what it is learnt to
cost (``agesearch.search.model.epoch_prices``), of new trials and of paused ones.

The reference point is a tenth beyond the nadir of the front that the model expects, or ``max_mae_years``
where that is lower; other limits of the front count as chances (``feasibility``). Half of the
``startup_trials`` are drawn at random, their networks in turn (``startup``); from then on the model counts,
which knows what earlier studies let expect (``agesearch.search.model.error_prior``). Where these tell nothing
of the space, all of them are drawn, and more until three trials are COMPLETE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agesearch.search.model.acquisition import Point, reference_beyond
from agesearch.search.model.feasibility import chance_within
from agesearch.search.model.gaussian_process import GaussianProcess, single_threaded
from agesearch.search.model.trial_model import (
    LEAST,
    Chances,
    Fit,
    Seen,
    TrialModel,
    chances,
    points_of,
)
from agesearch.search.sampler.prior import Priors
from agesearch.search.space.space import Params, Value
from agesearch.search.store.pareto import front
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import StudySpec

Array = npt.NDArray[np.float64]

#: Random configurations that are weighed for a proposal, and variations of front trials beside them.
DRAWN, VARIED = 320, 64


@dataclass(frozen=True)
class Proposal:
    """What to run next: a new trial with these parameters, drawn ``redrawn`` times anew for the study's
    limits; or the PAUSED trial of this number.
    """

    params: Params
    redrawn: int = 0
    paused: int | None = None


class EhviSampler:
    """Proposes by what the trials so far tell."""

    def __init__(self, study: StudySpec, model: TrialModel) -> None:
        self._study = study
        self._model = model
        self._encoding = model.encoding
        self._priors = Priors(study)
        self._offered: dict[tuple[tuple[str, Value], ...], tuple[Array, float]] = {}

    @property
    def fit(self) -> Fit | None:
        """What the model was fitted to last."""
        return self._model.fit

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
        ended = [self._model.view(record) for record in known if record.state is not State.RUNNING]
        if self._draws(number, ended) or not self._encoding.usable:
            return None
        waiting = [self._model.view(record) for record in paused]
        self._model.forget([*ended, *waiting])
        with single_threaded():
            model = self._model.errors(ended, number)
            running = [self._model.view(record) for record in known if record.state is State.RUNNING]
            points = self._model.points_within(ended, known) + self._expected(model, running)
            believing = model.believing(self._model.features(running)) if running else model
            places, features, new = self._new(believing, ended, seed, offered)
            kept = self._chance_within(known, features)
            old = self._gone_on(waiting, ended)
            price, price_waiting = self._prices(ended, waiting, features)
        reference = self._reference(points, (new, old))
        worth = new.worth(points, reference) * kept / price
        if self._priors and len(worth):
            worth = worth * self._priors.weights(places, number)
        left = np.array([seen.curve.epochs - len(seen.curve.best) for seen in waiting])
        rates = old.worth(points, reference) / (np.maximum(left, 1) * price_waiting)
        best_new = float(worth.max()) / _mean_epochs(ended) if len(worth) else -1.0
        chosen = int(rates.argmax()) if len(rates) and rates.max() >= best_new else None
        if chosen is not None:
            return Proposal(paused[chosen].params, paused=paused[chosen].number)
        return self._best_new(places, worth, is_tried)

    def _prices(self, ended: Sequence[Seen], waiting: Sequence[Seen], features: Array) -> tuple[Array, Array]:
        """What an epoch of new places of ``features [n, f]`` and of waiting trials costs beside others."""
        rows = np.vstack([features, self._model.features(waiting)])
        prices = self._model.prices([*ended, *waiting], rows)
        return prices[: len(features)], prices[len(features) :]

    def _draws(self, number: int, ended: Sequence[Seen]) -> bool:
        """Whether trial ``number`` is drawn, so that a study where nothing is as earlier ones were is not
        misled: of the first trials half, besides those that are given, or all of them where earlier studies
        tell nothing of this space.
        """
        startup = self._study.startup_trials
        if self._encoding.expects:
            return number < min(startup, len(self._study.first) + startup // 2)
        return number < startup or len(points_of(ended)) < LEAST

    def _chance_within(self, records: Sequence[TrialRecord], features: Array) -> Array:
        """The chance that each new place of ``features [n, f]`` keeps what is limited besides its error."""
        if not self._model.limits.highest or not len(features) or self.fit is None:
            return np.ones(len(features))
        complete = [record for record in records if record.state is State.COMPLETE]
        known = self._model.features([self._model.view(record) for record in complete])
        groups = self._encoding.groups
        return chance_within(self._model.limits, complete, known, features, groups, self.fit.lengths)

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
        self, model: GaussianProcess, ended: Sequence[Seen], seed: int, offered: Sequence[Params] | None
    ) -> tuple[Array, Array, Chances]:
        """Places and features of the configurations that may begin, and what is believed of them."""
        if offered is None:
            places, latencies = self._candidates(ended, np.random.default_rng(seed))
        elif offered:
            places, latencies = self._placed(offered)
        else:
            places, latencies = np.empty((0, len(self._encoding.names))), np.empty(0)
        features = self._encoding.features(places, latencies)
        return places, features, Chances(*model.predict(features, noisy=False), latencies)

    def _placed(self, offered: Sequence[Params]) -> tuple[Array, Array]:
        """Places and latencies of configurations; worked out once each, since a replay offers them again."""
        keys = [tuple(params.items()) for params in offered]
        for key, params in zip(keys, offered, strict=True):
            if key not in self._offered:
                self._offered[key] = self._encoding.place(params), self._encoding.latency(params)
        found = [self._offered[key] for key in keys]
        return np.stack([place for place, _ in found]), np.array([latency for _, latency in found])

    def _gone_on(self, paused: Sequence[Seen], ended: Sequence[Seen]) -> Chances:
        """What is believed of paused trials."""
        if not paused:
            return Chances(np.empty(0), np.empty(0), np.empty(0))
        return chances(self._model.ends(ended).forecast(paused), paused)

    def _expected(self, model: GaussianProcess, running: Sequence[Seen]) -> list[Point]:
        """Where running trials are expected to end."""
        if not running:
            return []
        mean, _ = model.predict(self._model.features(running))
        return [
            (float(np.exp(error)), seen.curve.latency_ms)
            for error, seen in zip(mean.tolist(), running, strict=True)
        ]

    def _candidates(self, ended: Sequence[Seen], rng: np.random.Generator) -> tuple[Array, Array]:
        """Random configurations, and variations of the COMPLETE trials of the front."""
        places, latencies = self._encoding.drawn(DRAWN, rng)
        if self._priors:
            self._priors.draw_into(places, rng, self._encoding.of_networks)
        done = [seen for seen in ended if seen.error is not None]
        best = [done[index] for index in front(points_of(done))]
        share = -(-VARIED // max(len(best), 1))
        for seen in best:
            near = self._encoding.near(seen.place, share, rng)
            known = self._encoding.latencies(near) if self._encoding.moves_network else seen.curve.latency_ms
            places = np.vstack([places, near])
            latencies = np.append(latencies, np.broadcast_to(known, share))
        known_all = np.isfinite(latencies)
        return places[known_all], latencies[known_all]

    def _reference(self, points: Iterable[Point], chances: Iterable[Chances]) -> Point:
        expected = [
            point
            for some in chances
            for point in zip(some.optimistic.tolist(), some.latencies.tolist(), strict=True)
        ]
        error, latency = reference_beyond([*points, *expected])
        limit = self._study.max_mae_years
        return error if limit is None else min(error, limit), latency


def _mean_epochs(ended: Iterable[Seen]) -> float:
    """Epochs that a trial took on average, those that were stopped and those that trained to their end."""
    spent = [
        len(seen.curve.best) or seen.curve.epochs
        for seen in ended
        if seen.curve.state in (State.COMPLETE, State.PRUNED)
    ]
    return sum(spent) / len(spent) if spent else 1.0
