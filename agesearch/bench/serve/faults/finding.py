"""What a drill finds: a figure beside its goal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One figure of a drill; ``holds`` where it keeps its goal (None: there is none)."""

    drill: str
    figure: str
    measured: float
    unit: str = ""
    most: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether it is at most what it may be."""
        return None if self.most is None else self.measured <= self.most
