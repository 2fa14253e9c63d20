"""The search strategies that replays compare, one row of ``STRATEGIES`` each.

Our own run with the code of a real search: ``Suggester`` suggests, ``History`` remembers, ``rungs.decide``
stops. Those of other libraries are in ``agesearch.search.replay.rivals``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Literal, Protocol

from agesearch.errors import unknown_name
from agesearch.metrics import VAL_MAE_YEARS
from agesearch.search.replay.curve_table import CurveRow, CurveTable
from agesearch.search.run.suggester import Suggester
from agesearch.search.space.conditions import setting
from agesearch.search.stopping.curves import EPOCH_FACES
from agesearch.search.stopping.rungs import KEEP, Keep, LearningCurve, Pause, Stop, decide
from agesearch.search.store.front_limits import LIMITED_AT_END
from agesearch.search.store.history import History, TrialCost
from agesearch.search.store.records import State
from agesearch.specs import RungSpec, StoppingSpec


class Strategy(Protocol):
    """What a replay asks: which trial next, and after each epoch whether it goes on."""

    def ask(self, left: Sequence[CurveRow]) -> Mapping[str, object] | int | None:
        """The parameters wanted next; the nearest of the rows ``left`` will stand for them. Or the number of
        a paused trial that goes on; None where no rows are left, nor such a trial.
        """
        ...

    def begin(self, row: CurveRow) -> int:
        """A trial of the row that stands for them begins; returns its number."""
        ...

    def goes_on(self, number: int, row: CurveRow, epoch: int) -> bool:
        """An epoch was trained, not the last one: False stops the trial, or pauses it."""
        ...

    def complete(self, number: int, row: CurveRow) -> None:
        """The last epoch was trained."""
        ...


class Own:
    """The searcher and the rungs of a real study, without Ray."""

    def __init__(
        self,
        record: CurveTable,
        seed: int,
        sampler: Literal["random", "tpe", "ehvi"],
        *,
        stops: bool = False,
        pauses: bool = False,
        learns: bool = False,
        chooses: bool = False,
        charge: Literal["epochs", "seconds"] = "epochs",
    ) -> None:
        rungs = (record.spec.rungs or RungSpec()) if stops else None
        if rungs is not None and not pauses:
            rungs = rungs.with_values({"pause_margin": None})
        startup = min(record.spec.startup_trials, _STARTUP)
        stopping = (record.spec.stopping or StoppingSpec()) if learns else None
        changes = {
            "trials": len(record.rows),
            "stopping": stopping,
            "seed": seed,
            "rungs": rungs,
            "sampler": sampler,
            "startup_trials": startup,
            "charge": charge,
            **dict.fromkeys(LIMITED_AT_END),  # a record has no such figures, and none would keep the limit
        }
        self._spec = record.spec.model_copy(update=changes)
        self._history = History.in_memory(self._spec)
        self._suggester = Suggester(self._history, self._spec, error_prior=record.error_prior)
        self._history.latencies = record.latencies
        self._curves: dict[int, LearningCurve] = {}
        self._rows: dict[int, CurveRow] = {}
        self._chooses = chooses
        self._has_new = True

    def ask(self, left: Sequence[CurveRow]) -> Mapping[str, object] | int | None:
        """What the study's sampler proposes, of the rows left where it ``chooses`` among them."""
        self._has_new = len(left) > 1  # once this one has begun
        while left or self._history.paused:
            chosen = self._chooses or not left
            proposal = self._suggester.propose([row.params for row in left] if chosen else None)
            if proposal is None:  # all of a finite space was tried: the table has some of it twice
                return left[0].params
            if proposal.paused is None:
                return proposal.params
            number = proposal.paused
            verdict = self._verdict(self._curves[number])
            if not isinstance(verdict, Stop):
                self._history.unpause(number)
                self._has_new = bool(left)
                return number
            self._prune(number, verdict)
        return None

    def begin(self, row: CurveRow) -> int:
        """A trial under the row's own parameters, with the latency it is known to have."""
        number = self._history.begin(row.params).number
        self._history.knows_latency(number, row.latency_ms)
        faces = setting(self._spec, row.params, EPOCH_FACES)
        self._curves[number] = LearningCurve(number, row.latency_ms, len(row.errors), (), epoch_faces=faces)
        self._rows[number] = row
        return number

    def goes_on(self, number: int, row: CurveRow, epoch: int) -> bool:
        """What the rungs say, where there are any."""
        curve = self._curves[number] = self._longer(number, row, epoch)
        verdict = self._verdict(curve)
        if isinstance(verdict, Stop):
            self._prune(number, verdict)
        elif isinstance(verdict, Pause) and (self._has_new or self._history.paused):
            self._history.pause(number, verdict.reason, self._spent(number))
        else:
            return True
        return False

    def complete(self, number: int, row: CurveRow) -> None:
        """The best error counts."""
        epochs = len(row.errors)
        self._curves[number] = _ended(self._longer(number, row, epochs), State.COMPLETE)
        self._history.complete(number, {VAL_MAE_YEARS: min(row.errors)}, self._spent(number))

    def _verdict(self, curve: LearningCurve) -> Keep | Pause | Stop:
        if self._spec.stopping is not None:
            return self._suggester.verdict(curve)
        if self._spec.rungs is None:
            return KEEP
        return decide(curve, list(self._curves.values()), self._spec.rungs, self._spec.max_mae_years)

    def _prune(self, number: int, verdict: Stop) -> None:
        spent = self._spent(number)
        self._history.prune(number, verdict.reason, spent, spent.curve[-1], verdict.loss)
        self._curves[number] = _ended(self._curves[number], State.PRUNED)

    def _spent(self, number: int) -> TrialCost:
        epochs = len(self._curves[number].best)
        row = self._rows[number]
        seconds = sum(row.seconds[:epochs]) if row.seconds else float(epochs)
        return TrialCost(epochs, seconds, row.errors[:epochs])

    def _longer(self, number: int, row: CurveRow, epoch: int) -> LearningCurve:
        before = self._curves[number]
        best = min(row.errors[epoch - 1], before.best[-1] if before.best else math.inf)
        return replace(before, best=(*before.best, best))


@dataclass(frozen=True)
class Made:
    """A row of the table: what the strategy is, and how to make it for a record and a seed.

    One that ``scores_rows`` knows which configurations the table has, which no real search can. ``package``
    is what it needs of the extra ``bench``.
    """

    about: str
    make: Callable[[CurveTable, int], Strategy]
    scores_rows: bool = False
    package: str = ""

    @property
    def is_here(self) -> bool:
        """Whether the package that it needs besides our own is installed."""
        return not self.package or find_spec(self.package) is not None


_SYNE_TUNE = "syne_tune"

_Maker = Callable[[CurveTable, int], Strategy]

#: A recorded study is all random; a strategy that learns begins to after so many trials at most.
_STARTUP = 8


def _own(
    sampler: Literal["random", "tpe", "ehvi"],
    *,
    stops: bool = False,
    pauses: bool = False,
    learns: bool = False,
    chooses: bool = False,
    charge: Literal["epochs", "seconds"] = "epochs",
) -> _Maker:
    return partial(
        Own, sampler=sampler, stops=stops, pauses=pauses, learns=learns, chooses=chooses, charge=charge
    )


def _optuna(sampler: str, *, knows_latency: bool = False, prunes: bool = False) -> _Maker:
    def make(record: CurveTable, seed: int) -> Strategy:
        from agesearch.search.replay.rivals.optuna_samplers import OptunaStudy

        return OptunaStudy(record, seed, sampler, knows_latency=knows_latency, prunes=prunes)

    return make


def _moasha(*, ranked: bool, ours: bool) -> _Maker:
    def make(record: CurveTable, seed: int) -> Strategy:
        from agesearch.search.replay.rivals.syne_tune_schedulers import SyneTune, moasha

        return SyneTune(record, seed, moasha(ranked=ranked, ours=ours))

    return make


def _evolution(population: int | None = None, *, knows_latency: bool = False) -> _Maker:
    def make(record: CurveTable, seed: int) -> Strategy:
        from agesearch.search.replay.rivals.syne_tune_schedulers import SyneTune, regularized_evolution

        return SyneTune(record, seed, regularized_evolution(population), knows_latency=knows_latency)

    return make


STRATEGIES: Mapping[str, Made] = {
    "default": Made(
        "what 'agesearch tune' does: expected hypervolume improvement over the whole space, then the nearest "
        "row; stops and pauses by what COMPLETE curves tell",
        _own("ehvi", learns=True),
    ),
    "default-seconds": Made(
        "the same with 'charge: seconds': gains are weighed by the second",
        _own("ehvi", learns=True, charge="seconds"),
    ),
    "ehvi-nearest": Made(
        "expected hypervolume improvement over the whole space, then the nearest row, every trial to its end",
        _own("ehvi"),
    ),
    "random": Made("random, every trial to its end", _own("random", stops=False)),
    "random-rungs": Made("random, hopeless trials stopped", _own("random", stops=True)),
    "random-stops": Made("random, stopped by what COMPLETE curves tell", _own("random", learns=True)),
    "tpe": Made("our bounded TPE, every trial to its end", _own("tpe", stops=False)),
    "tpe-rungs": Made("our bounded TPE, hopeless trials stopped", _own("tpe", stops=True)),
    "ehvi": Made(
        "expected hypervolume improvement over the rows left, every trial to its end",
        _own("ehvi", stops=False, chooses=True),
        scores_rows=True,
    ),
    "ehvi-rungs": Made(
        "expected hypervolume improvement over the rows left, hopeless trials stopped",
        _own("ehvi", stops=True, chooses=True),
        scores_rows=True,
    ),
    "ehvi-pausing": Made(
        "expected hypervolume improvement over the rows left, hopeless trials stopped, unlikely ones paused",
        _own("ehvi", stops=True, pauses=True, chooses=True),
        scores_rows=True,
    ),
    "ehvi-pausing-nearest": Made(
        "expected hypervolume improvement over the whole space, then the nearest row; stops and pauses",
        _own("ehvi", stops=True, pauses=True),
    ),
    "optuna-tpe": Made("Optuna's TPESampler, its defaults, two objectives, no stopping", _optuna("tpe")),
    "optuna-tpe-latency": Made(
        "the same, told the latency: a parameter in place of the input side",
        _optuna("tpe", knows_latency=True),
    ),
    "optuna-tpe-pruned": Made(
        "Optuna's TPESampler, trials of worse than median Pareto rank stopped", _optuna("tpe", prunes=True)
    ),
    "optuna-gp": Made(
        "Optuna's GPSampler, its defaults: log expected hypervolume improvement, running trials believed",
        _optuna("gp"),
    ),
    "optuna-gp-latency": Made(
        "the same, told the latency: a parameter in place of the input side",
        _optuna("gp", knows_latency=True),
    ),
    "optuna-gp-pruned": Made(
        "Optuna's GPSampler, trials of worse than median Pareto rank stopped", _optuna("gp", prunes=True)
    ),
    "optuna-nsga2": Made("Optuna's NSGAIISampler, its defaults: populations of 50", _optuna("nsga2")),
    "optuna-nsga2-16": Made("Optuna's NSGAIISampler, populations of 16", _optuna("nsga2-16")),
    "moasha": Made("Syne Tune's MOASHA, its defaults", _moasha(ranked=False, ours=False), package=_SYNE_TUNE),
    "moasha-ours": Made(
        "MOASHA, grace period and reduction of our rungs",
        _moasha(ranked=False, ours=True),
        package=_SYNE_TUNE,
    ),
    "moasha-ranked": Made(
        "MOASHA, its defaults, its order of trials turned into ranks",
        _moasha(ranked=True, ours=False),
        package=_SYNE_TUNE,
    ),
    "moasha-ranked-ours": Made(
        "MOASHA, ranks, grace period and reduction of our rungs",
        _moasha(ranked=True, ours=True),
        package=_SYNE_TUNE,
    ),
    "mo-rea": Made(
        "Syne Tune's multi-objective regularized evolution, its defaults: a random population of 100 first",
        _evolution(),
        package=_SYNE_TUNE,
    ),
    "mo-rea-16": Made(
        "the same, a population of 16, its order of trials turned into ranks",
        _evolution(16),
        package=_SYNE_TUNE,
    ),
    "mo-rea-16-latency": Made(
        "the same, told the latency: a parameter in place of the input side",
        _evolution(16, knows_latency=True),
        package=_SYNE_TUNE,
    ),
}


def made(name: str) -> Made:
    """A row of ``STRATEGIES``; an ``InputError`` lists the known ones."""
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    return STRATEGIES[name]


def _ended(curve: LearningCurve, state: State) -> LearningCurve:
    return replace(curve, state=state)
