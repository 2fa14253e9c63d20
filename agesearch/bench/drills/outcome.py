"""How a drill ended."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """What befell the hosts, and how the study ended: ``repeated`` epochs were begun more than once, the most
    of them by one cut ``worst``; ``faults`` is empty where all trials ended and no finished one was touched.
    """

    name: str
    said: str
    complete: int
    trials: int
    repeated: int
    worst: int
    seconds: float
    faults: list[str] = field(default_factory=list)
