"""What a search by the clock on the wall spent its time on, and when it reached a hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agesearch.search.store.pareto import hypervolume

Point = tuple[float, float]


@dataclass(frozen=True)
class Reached:
    """A trial that trained its whole budget: ``seconds`` after the call, at (error in years, latency in
    ms).
    """

    seconds: float
    point: Point


@dataclass(frozen=True)
class Spent:
    """One search: ``seconds`` in all, ``start_s`` of them until its first trial began. Of the slots' time
    after that ``training_s`` went into training (validation included) and ``suggesting_s`` into asking for
    trials, where that is known apart.
    """

    reached: tuple[Reached, ...]
    seconds: float
    start_s: float
    training_s: float
    suggesting_s: float | None
    epochs: int
    stopped: int
    slots: int

    @property
    def other_s(self) -> float:
        """Slot seconds that were neither: handing over, recording, waiting, and the end's idle slots."""
        busy = self.training_s + self.slots * (self.suggesting_s or 0.0)
        return max(0.0, self.slots * (self.seconds - self.start_s) - busy)

    def volume(self, reference: Point) -> float:
        """The hypervolume in the end."""
        return hypervolume([one.point for one in self.reached], reference)

    def seconds_to(self, volume: float, reference: Point) -> float | None:
        """When the front had this hypervolume; None where it never had."""
        points: list[Point] = []
        for one in sorted(self.reached, key=lambda one: one.seconds):
            points.append(one.point)
            if hypervolume(points, reference) >= volume:
                return one.seconds
        return None


def same_goal(searches: Sequence[Spent], share: float, reference: Point) -> float:
    """A hypervolume that all of them reach: this share of what the worst ends with."""
    return share * min(search.volume(reference) for search in searches)
