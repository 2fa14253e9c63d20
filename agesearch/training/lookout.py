"""When a training looks up within an epoch: to write a checkpoint, or to stop.

The first worker decides, and all must do the same after the same step. They agree on it every second or so:
the first worker sends what is to be done and after how many steps to ask again. Between these steps nobody
says a word, so that no step waits for anybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum

import torch
from torch import distributed as dist

from agesearch.storage import Location

#: Seconds between two looks; on an object store each is a request.
LOOK_S = 1.0
_LOOK_FAR_S = 10.0
#: A look comes after at most so many times the steps of the one before, until it is known what a step takes.
_GROWTH = 4


def look_seconds(folder: Location) -> float:
    """How often is looked for a request to stop in a folder."""
    return LOOK_S if folder.is_local else _LOOK_FAR_S


class Action(IntEnum):
    """What is to be done after a step; the largest of several reasons counts."""

    GO_ON = 0
    SAVE = 1
    STOP = 2
    DIVERGED = 3


class Lookout:
    """Decides what is to be done between steps: a checkpoint every ``minutes``, or an end with one.

    ``stop`` says whether the training is asked to stop; the first worker's counts.
    """

    def __init__(
        self,
        minutes: float,
        stop: Callable[[], bool],
        device: torch.device | None = None,
        *,
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 60.0 * minutes
        self._period = min(look_s, self._interval / 4)
        self._stop, self._device, self._clock = stop, device, clock
        self._saved = clock()
        self._took = 0.0
        self._every = 1
        self.begin()

    def begin(self) -> None:
        """Steps follow: those of an epoch. The first of them is looked at."""
        self._since, self._waits, self._looked = 0, 1, self._clock()

    def after_step(self, *, last: bool, diverged: Callable[[], bool], ahead_s: float = 0.0) -> Action:
        """What all workers do after this step, which is the ``last`` of an epoch or not.

        ``ahead_s`` are the seconds in which no checkpoint can be written, from now on: those of a validation.
        """
        self._waits, self._since = self._waits - 1, self._since + 1
        if self._waits > 0 and not last:
            return Action.GO_ON
        action, every = self._agreed(diverged, ahead_s)
        self._waits = every
        return action

    def saved(self, seconds: float = 0.0) -> None:
        """A checkpoint was written, which took so long."""
        self._saved, self._took = self._clock(), seconds

    def _agreed(self, diverged: Callable[[], bool], ahead_s: float) -> tuple[Action, int]:
        """What the first worker decides, and after how many steps it is asked again."""
        if not dist.is_initialized():
            return self._decided(diverged, ahead_s)
        word = torch.zeros(2, dtype=torch.int64, device=self._device)
        if dist.get_rank() == 0:
            word = torch.tensor(self._decided(diverged, ahead_s), device=self._device)
        dist.broadcast(word, src=0)
        action, every = word.tolist()
        return Action(action), int(every)

    def _decided(self, diverged: Callable[[], bool], ahead_s: float) -> tuple[Action, int]:
        now = self._clock()
        a_step = max(1e-9, (now - self._looked) / self._since)
        self._looked, self._since = now, 0
        self._every = max(1, min(int(self._period / a_step), _GROWTH * self._every))
        return self._action(diverged, max(ahead_s, self._every * a_step + self._took)), self._every

    def _action(self, diverged: Callable[[], bool], ahead_s: float) -> Action:
        """What is to be done, where the next look can have written no checkpoint before ``ahead_s`` are
        over.
        """
        if diverged():
            return Action.DIVERGED
        if self._stop():
            return Action.STOP
        due = self._looked - self._saved + ahead_s > self._interval
        return Action.SAVE if due else Action.GO_ON
