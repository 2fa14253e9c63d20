"""[ray] How many jobs fit on the cluster as it is now: nodes join and leave, and others hold CPUs, too."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping

#: Seconds between two looks at the cluster: longer than a job that was handed out takes to hold its CPUs.
_LOOK_EVERY_S = 5.0
#: Looks that must agree before the number falls: an actor holds its CPUs for a moment between two jobs.
_LOOKS = 3


def _free() -> Mapping[str, float]:
    import ray

    found: Mapping[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return found


class Room:
    """The number of jobs that may run at once.

    A fixed ``at_once``, or, where ``follows`` the cluster, as many as have their ``cpus`` (and ``gpus``) each
    of what nobody else holds: at least one, which then waits for a node, and at most ``most``. ``kept_off()``
    CPUs belong to nodes that take no jobs.
    """

    def __init__(
        self,
        at_once: int,
        *,
        cpus: float = 1.0,
        gpus: float = 0.0,
        follows: bool = False,
        most: int | None = None,
        kept_off: Callable[[], float] = lambda: 0.0,
        free: Callable[[], Mapping[str, float]] = _free,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_once, self._follows, self._most = at_once, follows, most
        self._needs = {name: each for name, each in (("CPU", cpus), ("GPU", gpus)) if each}
        self._free, self._clock, self._kept_off = free, clock, kept_off
        self._next_look = clock() + _LOOK_EVERY_S
        self._seen = deque([at_once], maxlen=_LOOKS)

    def now(self, running: int) -> int:
        """How many may run at once, ``running`` of which do."""
        if self._follows and self._clock() >= self._next_look:
            free = dict(self._free())
            free["CPU"] = max(0.0, free.get("CPU", 0.0) - self._kept_off())
            more = min(math.floor(free.get(name, 0.0) / each + 1e-9) for name, each in self._needs.items())
            self._seen.append(max(1, running + more))
            self._at_once = max(self._seen)
            if self._most is not None:
                self._at_once = min(self._at_once, self._most)
            self._next_look = self._clock() + _LOOK_EVERY_S
        return self._at_once
