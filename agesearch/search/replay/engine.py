"""Search strategies compared on recorded learning curves, in seconds and on one core.

A record holds configurations that were really trained, each with its latency and its error after every epoch.
A replay runs a strategy on it with a simulated clock: ``slots`` trials train at once and an epoch of any of
them takes the seconds that it took, or one tick where the record does not say. Counted are the epochs and the
seconds that all trials together have spent. Our own strategies sample and stop with the code of a real study;
only Ray is not there (``agesearch.search.replay.strategies``).

A strategy asks for any configuration of the space and gets the nearest recorded one that it has not used yet,
under whose own parameters the trial is then booked (as the blackboxes of Syne Tune do, Salinas 2022). The
network comes first: while rows of the network that was asked for are left, it is one of those, since its
latency is known and asked for. Nearness beyond that is Euclidean, numbers scaled to 0..1 over their range (by
logarithm where the space says so); two different choices are 1 apart. Every strategy thus ends with all of
the record, except for what it stopped.

Quality is the hypervolume of (error, latency) of the COMPLETE trials against one fixed reference point: the
nadir of the record's front and a tenth of the front's extent beyond (Ishibuchi 2018).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from agesearch.search.model.acquisition import reference_beyond
from agesearch.search.replay.curve_table import CurveRow, CurveTable
from agesearch.search.replay.strategies import made
from agesearch.search.space.conditions import Dimension, steps
from agesearch.search.space.space import network_of
from agesearch.search.store.pareto import front, hypervolume
from agesearch.specs import Range

#: What a search is charged for.
Unit = Literal["epochs", "seconds"]


@dataclass(frozen=True)
class Replayed:
    """One run: the hypervolume after so much was spent, and what became of the trials.

    ``epochs[i]`` and ``seconds[i]`` are what was spent when ``volumes[i]`` was reached; ``spent`` is the
    whole cost in epochs. Seconds are all 0 where the record does not have them.
    """

    strategy: str
    seed: int
    epochs: tuple[int, ...]
    seconds: tuple[float, ...]
    volumes: tuple[float, ...]
    spent: int
    complete: int
    stopped: int

    def spent_to(self, volume: float, unit: Unit = "epochs") -> float | None:
        """What was spent when this hypervolume was reached; None where it never was."""
        pairs = zip(self._spent_in(unit), self.volumes, strict=True)
        return next((float(spent) for spent, reached in pairs if reached >= volume), None)

    def at(self, spent: npt.ArrayLike, unit: Unit = "epochs") -> npt.NDArray[np.float64]:
        """The hypervolume after each of these many epochs, or seconds."""
        places = np.searchsorted(self._spent_in(unit), spent, side="right") - 1
        return np.where(places >= 0, np.asarray(self.volumes)[np.maximum(places, 0)], 0.0)

    def _spent_in(self, unit: Unit) -> Sequence[float]:
        return self.epochs if unit == "epochs" else self.seconds


def budget(rows: Sequence[CurveRow], unit: Unit = "epochs") -> float:
    """What it takes to train the whole record: where random search ends."""
    return float(sum(len(row.errors) if unit == "epochs" else sum(row.seconds) for row in rows))


def reference_point(rows: Sequence[CurveRow]) -> tuple[float, float]:
    """(error in years, latency in ms): a tenth of the front's extent beyond its nadir."""
    return reference_beyond([row.point for row in rows])


def full_volume(rows: Sequence[CurveRow]) -> float:
    """The hypervolume of the whole record: where random search ends."""
    return hypervolume([row.point for row in rows], reference_point(rows))


def replay(record: CurveTable, name: str, seed: int, *, slots: int = 4) -> Replayed:
    """Run one strategy over the record until every row was used."""
    return _Run(record, name, seed).go(slots)


class _Run:
    """The state of one replay."""

    def __init__(self, record: CurveTable, name: str, seed: int) -> None:
        self._name, self._seed = name, seed
        self._strategy = made(name).make(record, seed)
        self._shelf = _Shelf(record)
        self._reference = reference_point(record.rows)
        self._rows: dict[int, CurveRow] = {}
        self._trained: dict[int, int] = {}
        self._front: list[tuple[float, float]] = []
        self._steps: list[tuple[int, float, float]] = [(0, 0.0, 0.0)]
        self._timed = record.has_seconds
        self._spent = self._complete = 0
        self._seconds = 0.0

    def go(self, slots: int) -> Replayed:
        ends: list[tuple[float, int, int]] = []  # of an epoch: when, slot, trial; ties go by slot
        for slot in range(slots):
            self._start(ends, 0.0, slot)
        while ends:
            now, slot, number = heapq.heappop(ends)
            if self._goes_on(number):
                heapq.heappush(ends, (now + self._epoch_takes(number), slot, number))
            else:
                self._start(ends, now, slot)
        epochs, seconds, volumes = zip(*self._steps, strict=True)
        return Replayed(
            self._name,
            self._seed,
            epochs,
            seconds,
            volumes,
            self._spent,
            self._complete,
            len(self._rows) - self._complete,
        )

    def _epoch_takes(self, number: int) -> float:
        """How long the trial's next epoch takes."""
        return self._rows[number].seconds[self._trained[number]] if self._timed else 1.0

    def _start(self, ends: list[tuple[float, int, int]], now: float, slot: int) -> None:
        asked = self._strategy.ask(self._shelf.rows)
        if asked is None:
            return
        if isinstance(asked, int):
            number = asked
        else:
            row = self._shelf.take_nearest(asked)
            number = self._strategy.begin(row)
            self._rows[number], self._trained[number] = row, 0
        heapq.heappush(ends, (now + self._epoch_takes(number), slot, number))

    def _goes_on(self, number: int) -> bool:
        """One epoch of a trial; False where it was the trial's last."""
        row = self._rows[number]
        self._spent += 1
        self._seconds += self._epoch_takes(number) if self._timed else 0.0
        self._trained[number] += 1
        if self._trained[number] < len(row.errors):
            return self._strategy.goes_on(number, row, self._trained[number])
        self._strategy.complete(number, row)
        self._complete += 1
        self._count(row.point)
        return False

    def _count(self, point: tuple[float, float]) -> None:
        points = [*self._front, point]
        self._front = [points[index] for index in front(points)]
        self._steps.append((self._spent, self._seconds, hypervolume(self._front, self._reference)))


@dataclass
class _Shelf:
    """The record's rows that a run has not used yet."""

    record: CurveTable
    left: list[int] = field(init=False)

    def __post_init__(self) -> None:
        rows, study = self.record.rows, self.record.spec
        self.left = list(range(len(rows)))
        self._places = np.array([place_of(row.params, study.space) for row in rows])
        self._networks = [network_of(study, row.params) for row in rows]

    @property
    def rows(self) -> list[CurveRow]:
        """The rows that are left."""
        return [self.record.rows[at] for at in self.left]

    def take_nearest(self, wanted: Mapping[str, object]) -> CurveRow:
        """The nearest row that is left, the first of several; it is used from now on."""
        study = self.record.spec
        network = network_of(study, wanted)
        near = [at for at in self.left if self._networks[at] == network] or self.left
        distances = ((self._places[near] - np.array(place_of(wanted, study.space))) ** 2).sum(axis=1)
        chosen = near[int(distances.argmin())]
        self.left.remove(chosen)
        return self.record.rows[chosen]


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
