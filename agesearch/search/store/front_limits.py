"""The limits of a study that are known once a trial has trained: who breaks one is not on the front.

What is known of a network before it trains (latency, size) is limited by ``agesearch.search.space.limits``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from agesearch.metrics import SHIFT_YEARS, VAL_MAE_C_YEARS, VAL_MAE_YEARS, VAL_WORST_DECADE_MAE_YEARS
from agesearch.specs import StudySpec

#: The field of a study's spec, and the figure of a trial that it limits.
LIMITED = {
    "max_mae_years": VAL_MAE_YEARS,
    "max_mae_c_years": VAL_MAE_C_YEARS,
    "max_shift_years": SHIFT_YEARS,
    "max_worst_decade_mae_years": VAL_WORST_DECADE_MAE_YEARS,
}

#: Those of them that neither an epoch nor a learning curve tells, but only the end of a trial.
LIMITED_AT_END = tuple(name for name in LIMITED if name != "max_mae_years")


@dataclass(frozen=True)
class FrontLimits:
    """The highest figures that a study allows, by the field of its spec; they are asked of a ``TrialRecord``,
    which has each figure under its metric's name.
    """

    highest: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: StudySpec) -> FrontLimits:
        """Those that a study has."""
        found = {name: getattr(spec, name) for name in LIMITED}
        return cls({name: limit for name, limit in found.items() if limit is not None})

    @property
    def besides_the_error(self) -> FrontLimits:
        """All but that of the error on the faces as they are."""
        return FrontLimits({name: limit for name, limit in self.highest.items() if name in LIMITED_AT_END})

    def excess(self, record: object) -> dict[str, float]:
        """How far a trial is above each limit, in years: not positive where it keeps it, infinite where its
        figure is not known.
        """
        values = {name: getattr(record, LIMITED[name]) for name in self.highest}
        return {
            name: math.inf if value is None or math.isnan(value) else value - self.highest[name]
            for name, value in values.items()
        }

    def hold(self, record: object) -> bool:
        """Whether a trial keeps them all."""
        return all(above <= 0.0 for above in self.excess(record).values())

    def broken(self, record: object) -> str:
        """What a trial breaks, in words: ``max_mae_c_years 9 (it has 9.62, 0.62 above)``."""
        return " and ".join(
            f"{name} {self.highest[name]:g} ({self._has(name, above)})"
            for name, above in self.excess(record).items()
            if above > 0.0
        )

    def _has(self, name: str, above: float) -> str:
        if math.isinf(above):
            return "it was not measured"
        return f"it has {self.highest[name] + above:.2f}, {above:.2f} above"

    def __str__(self) -> str:
        return " and ".join(f"{name} {limit:g}" for name, limit in self.highest.items())


NO_LIMITS = FrontLimits()
