"""What a study's trials tell of others: of configurations that were never trained, and of trials that are not
over.

A Gaussian process of the logarithm of the error (``agesearch.search.model.gaussian_process``), about what
earlier studies let expect (``agesearch.search.model.error_prior``), is told of

- COMPLETE trials, by the logarithm of their best error;
- trials that were stopped or are paused, by the end that is forecast for them from their curve
  (``agesearch.search.stopping.forecast``), and the less the less their curve has told;
- FAILed trials, as the worst.

Errors far above the median are drawn in: how bad a bad trial is says nothing of the good ones.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.metrics import or_nan
from agesearch.search.model.acquisition import Point, expected_improvement
from agesearch.search.model.encoding import Encoding
from agesearch.search.model.epoch_prices import EpochPrices
from agesearch.search.model.error_prior import TABLES, ErrorPrior
from agesearch.search.model.gaussian_process import GaussianProcess, Lengths
from agesearch.search.space.conditions import setting
from agesearch.search.space.limits import Fitting, Latencies
from agesearch.search.stopping.falls import FarthestFalls
from agesearch.search.stopping.forecast import CurveForecaster, Forecast
from agesearch.search.stopping.rungs import TINY, LearningCurve
from agesearch.search.store.front_limits import FrontLimits
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import StudySpec

Array = npt.NDArray[np.float64]

#: COMPLETE trials without which nothing is modelled.
LEAST = 3

#: The model's lengths are fitted again each time there are so many more ended trials, up to ``_FITTED``.
_GROWTH = 1.3
_FITTED = 128

#: Errors above the median count at most so many times as far from it as the smallest (logarithms).
_DRAWN_IN = 1.0

#: The front that is expected for the reference lies so many deviations below the mean.
_HOPE = 2.0

#: The last share of a budget that the slope of a curve is taken over.
_LATE = 0.1

#: Trials whose curve ends before their budget does.
_CUT = (State.PRUNED, State.PAUSED)

#: The variance of what is told of a trial whose curve says nothing.
_UNKNOWN = 1.0


#: How a curve stands: level and slope, of logarithms.
Standing = tuple[float, float]


@dataclass(frozen=True)
class Seen:
    """A trial as the model sees it."""

    number: int
    place: Array
    curve: LearningCurve
    error: float | None  # in years, of a COMPLETE trial
    epoch_s: float = 0.0  # seconds of an epoch; 0: not known

    @property
    def share(self) -> float:
        """How much of its budget is trained."""
        return len(self.curve.best) / self.curve.epochs


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
class Chances:
    """What is believed of trials ``[n]``: mean and deviation of the logarithm of their error, and latency."""

    mean: Array
    deviation: Array
    latencies: Array

    @property
    def optimistic(self) -> Array:
        """Errors that few will stay below."""
        return np.exp(self.mean - _HOPE * self.deviation)

    def worth(self, points: Sequence[Point], reference: Point) -> Array:
        """Expected gain in hypervolume of each."""
        found = expected_improvement(self.mean, self.deviation, self.latencies, points, reference)
        return np.where(np.isfinite(found), found, -1.0)


class TrialModel:
    """Besides its ``fit``, what it keeps between calls is for speed only."""

    def __init__(
        self,
        study: StudySpec,
        fitting: Fitting,
        latencies: Latencies,
        fit: Fit | None = None,
        error_prior: ErrorPrior = TABLES,
    ) -> None:
        known = {network: ms for network, ms in latencies.items() if not isinstance(ms, str)}
        self._study = study
        self.limits = FrontLimits.of(study).besides_the_error
        self.encoding = Encoding(study, fitting, known, error_prior)
        self.fit = fit if fit and len(fit.lengths.lengths) == len(self.encoding.groups) else None
        self._seen: dict[int, tuple[TrialRecord, Seen]] = {}
        self._ends: tuple[tuple[object, ...], Ends] | None = None
        self._standings: dict[tuple[int, float], Standing] = {}

    def points_within(self, ended: Iterable[Seen], records: Iterable[TrialRecord]) -> list[Point]:
        """(error, latency) of the COMPLETE ones that keep what is limited besides the error: only these stand
        in another one's way.
        """
        if not self.limits.highest:
            return points_of(ended)
        inside = {record.number for record in records if self.limits.hold(record)}
        return points_of(seen for seen in ended if seen.number in inside)

    def view(self, record: TrialRecord) -> Seen:
        """A record with its place and curve; made once a state."""
        kept = self._seen.get(record.number)
        if kept is None or (kept[0] is not record and kept[0] != record):
            epochs = int(setting(self._study, record.params, "optim.epochs"))
            curve = LearningCurve.of(
                record.number, or_nan(record.latency_ms_p50), epochs, record.curve, record.state
            )
            error = record.val_mae_years if record.state is State.COMPLETE else None
            place = kept[1].place if kept else self.encoding.place(record.params)
            epoch_s = record.seconds / record.epochs if record.epochs else 0.0
            kept = record, Seen(record.number, place, curve, error, epoch_s)
            self._seen[record.number] = kept
        return kept[1]

    def forget(self, used: Sequence[Seen]) -> None:
        """Keep what is still used, so that memory stays bounded."""
        if len(self._seen) > 4 * len(used) + _FITTED:
            shown = {seen.number for seen in used}
            self._seen = {number: kept for number, kept in self._seen.items() if number in shown}
            self._standings.clear()

    def errors(self, ended: Sequence[Seen], number: int) -> GaussianProcess:
        """The model of all that ended; its lengths are those of the first of them, a growing part.

        Trials end in another order than they began in, and are paused and go on, so that the first of them
        change: lengths are kept until that part or the study has grown by ``_GROWTH``.
        """
        most = min(scheduled(len(ended)), _FITTED)
        moment = most, scheduled(number)
        if self.fit is None or self.fit.moment != moment:
            targets, variance = self._evidence(ended)
            first = _process(self.encoding, ended[:most], targets[:most], variance[:most], None)
            self.fit = Fit(moment, first.lengths)
        targets, variance = self._evidence(ended)
        return _process(self.encoding, ended, targets, variance, self.fit.lengths)

    def prices(self, known: Sequence[Seen], features: Array) -> Array:
        """``[n]``: what an epoch of trials with ``features [n, f]`` costs beside others, by the ``known``
        ones; 1 where the study is charged by the epoch.
        """
        if self._study.charge == "epochs":
            return np.ones(len(features))
        timed = [seen for seen in known if seen.epoch_s > 0.0]
        decides = [name in self.encoding.of_networks for name in self.encoding.names]
        seconds = np.array([seen.epoch_s for seen in timed])
        return EpochPrices(self.features(timed), seconds, self.encoding.groups, decides).of(features)

    def features(self, trials: Sequence[Seen]) -> Array:
        """``[n, f]`` of trials."""
        return _features(self.encoding, trials)

    def ends(self, ended: Sequence[Seen]) -> Ends:
        """What COMPLETE and FAILed trials tell of the ends of those that are not over."""
        over = [seen for seen in ended if seen.error is not None or seen.curve.state is State.FAIL]
        key = (self.fit, *(seen.number for seen in over))
        if self._ends is None or self._ends[0] != key:
            self._ends = (
                key,
                Ends(self.encoding, over, self.fit.lengths if self.fit else None, self._standings),
            )
        return self._ends[1]

    def _evidence(self, ended: Sequence[Seen]) -> tuple[Array, Array]:
        """Logarithm of the error that each trial reached or would have, and the variance of that."""
        targets, variance = final_errors(ended), np.zeros(len(ended))
        cut = [row for row, seen in enumerate(ended) if seen.curve.state in _CUT and seen.curve.best]
        if cut:
            told = self.ends(ended).forecast([ended[row] for row in cut])
            targets[cut] = told.mean
            # What the curve adds to what the model of the configurations expects anyway.
            rest = 1.0 - np.clip(told.told, 0.0, 1.0)
            variance[cut] = np.minimum(told.deviation**2 / np.maximum(1.0 - rest, 1e-3), _UNKNOWN)
        return drawn_in(targets), variance


class Ends:
    """What COMPLETE trials tell of the ends of those that are not over. FAILed ones are ``over``, too.

    ``standings`` are how COMPLETE curves stood after a share of their budget, by trial and share, as far as
    that was asked: nothing changes it.
    """

    def __init__(
        self,
        encoding: Encoding,
        over: Sequence[Seen],
        lengths: Lengths | None,
        standings: dict[tuple[int, float], Standing] | None = None,
    ) -> None:
        self._encoding = encoding
        self._standings = {} if standings is None else standings
        targets = drawn_in(final_errors(over))
        self._model = _process(encoding, over, targets, np.zeros(len(over)), lengths)
        expected = self._model.left_out()
        rows = [row for row, seen in enumerate(over) if seen.error is not None and seen.curve.best]
        self._complete = [over[row] for row in rows]
        self._targets, self._expected = targets[rows], expected[rows]
        self._at: dict[float, CurveForecaster | None] = {}
        self._falls: FarthestFalls | None = None

    def forecast(self, trials: Sequence[Seen]) -> Forecast:
        """What is expected of trials with a curve: ``[n]``, see ``CurveForecaster``."""
        latencies = np.array([seen.curve.latency_ms for seen in trials])
        places = np.stack([seen.place for seen in trials])
        priors, spread = self._model.predict(self._encoding.features(places, latencies))
        found = np.stack([priors, spread, priors, spread, np.zeros(len(trials))])
        alike = defaultdict[float, list[int]](list)
        for row, seen in enumerate(trials):
            alike[seen.share].append(row)
        for share, rows in alike.items():
            forecaster = self._forecaster(share)
            if forecaster is not None:
                levels = np.array([_log(trials[row].curve.best[-1]) for row in rows])
                slopes = np.array([_slope(trials[row].curve, share) for row in rows])
                told = forecaster.forecast(levels, slopes, priors[rows])
                found[:, rows] = told.mean, told.deviation, told.prior, told.unaided, told.near
        return Forecast(*found)

    def best_end(self, trial: Seen) -> float:
        """The smallest error (years) that a trial with a curve may end at, by how far curves have fallen; 0
        where none has stood as it does.
        """
        if self._falls is None:
            self._falls = FarthestFalls([seen.curve for seen in self._complete])
        error = trial.curve.best[-1]
        return error * math.exp(-self._falls.of(error, trial.share))

    def _forecaster(self, share: float) -> CurveForecaster | None:
        """What is known after this share of the budget; None of too few."""
        if share not in self._at:
            then = [self._standing(seen, share) for seen in self._complete]
            rows = [row for row, (level, _) in enumerate(then) if not math.isnan(level)]
            levels, slopes = np.array([then[row] for row in rows]).reshape(-1, 2).T
            self._at[share] = (
                CurveForecaster(levels, slopes, self._targets[rows], self._expected[rows])
                if len(rows) >= LEAST
                else None
            )
        return self._at[share]

    def _standing(self, seen: Seen, share: float) -> Standing:
        """The logarithm of a COMPLETE curve's error after a share of the budget (NaN: not known), and its
        slope there.
        """
        key = (seen.number, share)
        if key not in self._standings:
            error = seen.curve.after(share)
            level = math.nan if error is None else _log(error)
            self._standings[key] = level, _slope(seen.curve, share)
        return self._standings[key]


def chances(forecast: Forecast, trials: Sequence[Seen]) -> Chances:
    """What is believed of trials with a curve."""
    latencies = np.array([seen.curve.latency_ms for seen in trials])
    return Chances(forecast.mean, forecast.deviation, latencies)


def points_of(trials: Iterable[Seen]) -> list[Point]:
    """(error, latency) of the COMPLETE ones."""
    return [(seen.error, seen.curve.latency_ms) for seen in trials if seen.error is not None]


def final_errors(trials: Sequence[Seen]) -> Array:
    """The logarithm of the error of each COMPLETE trial, NaN of the others."""
    return np.array([math.nan if seen.error is None else _log(seen.error) for seen in trials])


def drawn_in(targets: Array) -> Array:
    """The targets, those far above the median and those that are NaN among the highest that remain."""
    known = targets[np.isfinite(targets)]
    if not len(known):
        return np.zeros(len(targets))
    middle = float(np.median(known))
    highest = middle + _DRAWN_IN * (middle - float(known.min())) + 0.05
    return np.fmin(targets, highest)


def scheduled(count: int) -> int:
    """The largest step of the schedule that is not above ``count``."""
    step = float(LEAST)
    while step * _GROWTH <= count:
        step *= _GROWTH
    return int(step)


def _process(
    encoding: Encoding, trials: Sequence[Seen], targets: Array, variance: Array, lengths: Lengths | None
) -> GaussianProcess:
    features = _features(encoding, trials)
    return GaussianProcess(features, targets, variance, encoding.groups, lengths, encoding.length_priors)


def _features(encoding: Encoding, trials: Sequence[Seen]) -> Array:
    places = np.array([seen.place for seen in trials]).reshape(len(trials), len(encoding.names))
    return encoding.features(places, np.array([seen.curve.latency_ms for seen in trials]))


def _log(error: float) -> float:
    return math.log(max(error, TINY))


def _slope(curve: LearningCurve, share: float) -> float:
    """How much a curve has fallen of late, as a logarithm."""
    now, before = curve.after(share), curve.after(share - _LATE)
    return 0.0 if now is None or before is None else _log(before) - _log(now)
