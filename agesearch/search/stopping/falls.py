"""How far a learning curve may still fall, by the farthest falls of COMPLETE curves of the same study.

A forecast is an expectation, and a trial that blooms late does what no curve near it has done. So beside it
stands what was seen to be possible: of all COMPLETE curves, from every moment at which one stood as the trial
does or better, the farthest fall within as much of the budget as the trial has left. One that leaves a
plateau late is thus believed to fall as far as those did that left it early, and one that has fallen far to
fall no farther than others did from there; and the next to fall farther than all ``n`` that were seen, the
more so the fewer they were: by ``_BEYOND`` / sqrt(``n``) of it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from agesearch.search.stopping.rungs import TINY, LearningCurve

#: Levels that differ by no more (logarithms) are alike: the noise of a validation error.
_ALIKE = 0.05

_BEYOND = 2.0


@lru_cache(maxsize=1024)
def _levels(errors: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """The logarithms of a curve's errors: curves are asked for again at every share of the budget."""
    found: npt.NDArray[np.float64] = np.log(np.maximum(errors, TINY))
    return found


class FarthestFalls:
    """Knows COMPLETE ``curves``. What does not hang on the share that a trial has trained is worked out
    once.
    """

    def __init__(self, curves: Sequence[LearningCurve]) -> None:
        alike = defaultdict[tuple[int, int], list[npt.NDArray[np.float64]]](list)
        for curve in curves:
            if curve.best:
                alike[len(curve.best), curve.epochs].append(_levels(curve.best))
        # Before its first epoch every trial stands where the worst stood after theirs.
        untrained = max((float(one[0]) for some in alike.values() for one in some), default=0.0)
        self._curves = [
            (epochs, np.column_stack([np.full(len(some), untrained), np.stack(some)]))
            for (_, epochs), some in alike.items()
        ]
        self._beyond = 1.0 + _BEYOND / math.sqrt(max(1, sum(map(len, alike.values()))))
        level = np.concatenate([np.empty(0), *(levels.ravel() for _, levels in self._curves)])
        self._order = np.argsort(level, kind="stable")
        self._levels = level[self._order]
        self._farthest: dict[float, npt.NDArray[np.float64]] = {}

    def of(self, error: float, share: float) -> float:
        """The farthest fall, as a difference of logarithms, of a trial with ``error`` as its smallest after
        this ``share`` of its budget; infinite where no curve has stood as it does.
        """
        level = math.log(max(error, TINY)) + _ALIKE
        known = int(np.searchsorted(self._levels, level, side="right"))
        if not known:
            return math.inf
        if share not in self._farthest:
            self._farthest[share] = self._falls(share)
        return self._beyond * float(self._farthest[share][known - 1])

    def _falls(self, share: float) -> npt.NDArray[np.float64]:
        """The farthest fall from each level or a lower one, within the rest of the budget."""
        falls = []
        for epochs, levels in self._curves:
            left, last = max(1, math.ceil((1.0 - share) * epochs - 1e-9)), levels.shape[1] - 1
            falls.append((levels - levels[:, np.minimum(np.arange(last + 1) + left, last)]).ravel())
        found: npt.NDArray[np.float64] = np.maximum.accumulate(np.concatenate(falls)[self._order])
        return found
