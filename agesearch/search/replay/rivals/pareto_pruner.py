"""The plainest stopping of trials for two objectives, on top of samplers that have none.

Optuna's pruners know one objective (``Trial.should_prune`` raises for several). This one is its
``MedianPruner`` with the rank of non-dominated sorting (Deb 2002) in place of the value.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from agesearch.search.store.pareto import front

#: As ``MedianPruner`` has it: trials that end before any is stopped.
STARTUP_TRIALS = 5

Point = tuple[float, float]


class ParetoPruner:
    """Stops a trial whose rank among all that trained as long is worse than the median of theirs.

    From ``first_epoch`` on, once ``STARTUP_TRIALS`` have trained to their end.
    """

    def __init__(self, first_epoch: int) -> None:
        self._first = first_epoch
        self._complete = 0
        self._points: dict[int, list[Point]] = {}

    def goes_on(self, epoch: int, point: Point) -> bool:
        """Whether a trial that stands at ``point`` (best error, latency) after an epoch is trained on."""
        others = self._points.setdefault(epoch, [])
        others.append(point)
        if epoch < self._first or self._complete < STARTUP_TRIALS or len(others) < 2:
            return True
        ranks = pareto_ranks(others)
        return ranks[-1] <= statistics.median(ranks[:-1])

    def complete(self) -> None:
        """A trial has trained to its end."""
        self._complete += 1


def pareto_ranks(points: Sequence[Point]) -> list[int]:
    """The front that each point is on: 0 for those that nobody beats, 1 for those beaten by these alone...

    >>> pareto_ranks([(1.0, 2.0), (2.0, 1.0), (2.0, 2.0)])
    [0, 0, 1]
    """
    ranks, left, rank = [0] * len(points), list(range(len(points))), 0
    while left:
        best = {left[place] for place in front([points[at] for at in left])}
        if not best:  # points that are not finite come last
            best = set(left)
        for at in best:
            ranks[at] = rank
        left = [at for at in left if at not in best]
        rank += 1
    return ranks
