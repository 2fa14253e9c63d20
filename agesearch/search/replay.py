"""Search strategies compared on recorded learning curves, in seconds and on one core.

A record holds configurations that were really trained, each with its latency and its error after every epoch.
A replay runs a strategy on it with a simulated clock: ``slots`` trials train at once and an epoch of any of
them takes one tick. The sampling is that of a real study (``History``, ``Proposer``) and so is the early
stopping (``rungs.decide``); only Ray is not there.

A strategy asks for any configuration of the space and gets the nearest recorded one that it has not used yet,
under whose own parameters the trial is then booked (as the blackboxes of Syne Tune do, Salinas 2022).
Nearness is Euclidean, numbers scaled to 0..1 over their range (by logarithm where the space says so); two
different choices are 1 apart. Every strategy thus ends with all of the record, except for what it stopped.

Quality is the hypervolume of (error, latency) of the COMPLETE trials against one fixed reference point: the
nadir of the record's front and a tenth of the front's extent beyond (Ishibuchi 2018).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.errors import unknown_name
from agesearch.metrics import VAL_MAE_YEARS
from agesearch.search.conditions import Dimension, steps
from agesearch.search.history import History, Spent
from agesearch.search.pareto import front, hypervolume
from agesearch.search.recorded import Record, Recorded
from agesearch.search.records import State
from agesearch.search.rungs import Curve, Stop, decide
from agesearch.specs import Range, RungSpec, StudySpec

#: More than any record has rows: such a study stays with random search.
_NEVER = 1_000_000_000


@dataclass(frozen=True)
class Strategy:
    """How a strategy samples, and whether it stops hopeless trials."""

    tpe: bool
    rungs: bool

    def spec(self, study: StudySpec, seed: int) -> StudySpec:
        """The study as this strategy runs it; rungs as the study has them, or the default ones."""
        rungs = (study.rungs or RungSpec()) if self.rungs else None
        changes: dict[str, Any] = {"seed": seed, "rungs": rungs, "sampler": "tpe"}
        return study.model_copy(update=changes if self.tpe else changes | {"startup_trials": _NEVER})


STRATEGIES = {
    "random": Strategy(tpe=False, rungs=False),
    "random-rungs": Strategy(tpe=False, rungs=True),
    "tpe": Strategy(tpe=True, rungs=False),
    "tpe-rungs": Strategy(tpe=True, rungs=True),
}


@dataclass(frozen=True)
class Replayed:
    """One run: the hypervolume after so many epochs were spent, and what became of the trials.

    ``epochs[i]`` is when ``volumes[i]`` was reached; ``spent`` is the whole cost.
    """

    strategy: str
    seed: int
    epochs: tuple[int, ...]
    volumes: tuple[float, ...]
    spent: int
    complete: int
    stopped: int

    def epochs_to(self, volume: float) -> int | None:
        """The epochs spent when this hypervolume was reached; None where it never was."""
        return next(
            (e for e, reached in zip(self.epochs, self.volumes, strict=True) if reached >= volume), None
        )

    def at(self, epochs: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The hypervolume after each of these many epochs."""
        places = np.searchsorted(self.epochs, epochs, side="right") - 1
        return np.where(places >= 0, np.asarray(self.volumes)[np.maximum(places, 0)], 0.0)


def strategy(name: str) -> Strategy:
    """A row of ``STRATEGIES``; an ``InputError`` lists the known ones."""
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    return STRATEGIES[name]


def reference_point(rows: Sequence[Recorded]) -> tuple[float, float]:
    """(error in years, latency in ms): a tenth of the front's extent beyond its nadir."""
    points = np.array([row.point for row in rows])
    ends = points[front(points)]
    low, high = ends.min(axis=0), ends.max(axis=0)
    beyond = high + 0.1 * np.where(high > low, high - low, high)
    return float(beyond[0]), float(beyond[1])


def full_volume(rows: Sequence[Recorded]) -> float:
    """The hypervolume of the whole record: where random search ends."""
    return hypervolume([row.point for row in rows], reference_point(rows))


def replay(record: Record, name: str, seed: int, *, slots: int = 4) -> Replayed:
    """Run one strategy over the record until every row was used."""
    return _Run(record, name, seed).go(slots)


class _Run:
    """The state of one replay."""

    def __init__(self, record: Record, name: str, seed: int) -> None:
        self._name, self._seed = name, seed
        self._spec = strategy(name).spec(record.spec, seed)
        self._history = History.in_memory(self._spec)
        self._shelf = _Shelf(record)
        self._reference = reference_point(record.rows)
        self._rows: dict[int, Recorded] = {}
        self._curves: dict[int, Curve] = {}
        self._front: list[tuple[float, float]] = []
        self._steps: list[tuple[int, float]] = [(0, 0.0)]
        self._spent = 0

    def go(self, slots: int) -> Replayed:
        ticks: list[tuple[int, int, int]] = []  # when, slot, trial: ties go by slot
        for slot in range(slots):
            self._start(ticks, 0, slot)
        while ticks:
            now, slot, number = heapq.heappop(ticks)
            if self._goes_on(number):
                heapq.heappush(ticks, (now + 1, slot, number))
            else:
                self._start(ticks, now, slot)
        states = [record.state for record in self._history.all()]
        return Replayed(
            self._name,
            self._seed,
            tuple(epochs for epochs, _ in self._steps),
            tuple(volume for _, volume in self._steps),
            self._spent,
            states.count(State.COMPLETE),
            states.count(State.PRUNED),
        )

    def _start(self, ticks: list[tuple[int, int, int]], now: int, slot: int) -> None:
        if not self._shelf.left:
            return
        wanted, _ = self._history.propose()
        row = self._shelf.take_nearest(wanted)
        number = self._history.begin(row.params).number
        self._history.knows_latency(number, row.latency_ms)
        self._rows[number] = row
        self._curves[number] = Curve(number, row.latency_ms, len(row.errors), ())
        heapq.heappush(ticks, (now + 1, slot, number))

    def _goes_on(self, number: int) -> bool:
        """One epoch of a trial; False where it was the trial's last."""
        row, before = self._rows[number], self._curves[number]
        self._spent += 1
        epoch = len(before.best) + 1
        best = min(row.errors[epoch - 1], before.best[-1] if before.best else math.inf)
        curve = Curve(number, row.latency_ms, before.epochs, (*before.best, best))
        spent = Spent(epoch, float(epoch), row.errors[:epoch])
        if epoch == curve.epochs:
            self._history.complete(number, {VAL_MAE_YEARS: best}, spent)
            self._curves[number] = _ended(curve, State.COMPLETE)
            self._count(row.point)
            return False
        verdict = self._judge(curve)
        self._curves[number] = curve
        if verdict is None:
            return True
        self._history.prune(number, verdict.reason, spent, row.errors[epoch - 1])
        self._curves[number] = _ended(curve, State.PRUNED)
        return False

    def _judge(self, curve: Curve) -> Stop | None:
        if self._spec.rungs is None:
            return None
        others = list(self._curves.values())
        verdict = decide(curve, others, self._spec.rungs, self._spec.max_mae_years)
        return verdict if isinstance(verdict, Stop) else None

    def _count(self, point: tuple[float, float]) -> None:
        points = [*self._front, point]
        self._front = [points[index] for index in front(points)]
        self._steps.append((self._spent, hypervolume(self._front, self._reference)))


def _ended(curve: Curve, state: State) -> Curve:
    return Curve(curve.number, curve.latency_ms, curve.epochs, curve.best, state)


@dataclass
class _Shelf:
    """The record's rows that a run has not used yet."""

    record: Record
    left: list[int] = field(init=False)

    def __post_init__(self) -> None:
        rows, space = self.record.rows, self.record.spec.space
        self.left = list(range(len(rows)))
        self._places = np.array([place_of(row.params, space) for row in rows])

    def take_nearest(self, wanted: Mapping[str, object]) -> Recorded:
        """The nearest row that is left, the first of several; it is used from now on."""
        place = np.array(place_of(wanted, self.record.spec.space))
        distances = ((self._places[self.left] - place) ** 2).sum(axis=1)
        return self.record.rows[self.left.pop(int(distances.argmin()))]


def place_of(params: Mapping[str, object], space: Mapping[str, Dimension]) -> list[float]:
    """Where parameters lie in the unit cube: what nearness is measured in."""
    place: list[float] = []
    for name in sorted(space):
        dimension, value = space[name], params.get(name)
        if isinstance(dimension, Range) and value is None:  # its condition does not hold
            place.append(0.5)
        elif not isinstance(dimension, Range):
            place += [math.sqrt(0.5) * (value == choice) for choice in steps(dimension)]
        else:
            low, high, at = dimension.low, dimension.high, float(str(value))
            if dimension.log:
                low, high, at = math.log(low), math.log(high), math.log(at)
            place.append((at - low) / (high - low) if high > low else 0.0)
    return place
