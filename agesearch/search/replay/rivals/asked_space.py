"""What a strategy of another library is asked for, and what its trial is booked under.

No rival has a word for an objective that is known before a trial runs. ``LatencySpace`` tells it all the
same: the parameters that decide a network, but its architecture, are asked for as one number, the latency, so
that one objective is a parameter. What is asked for then stands for the network of that architecture whose
latency is nearest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from agesearch.metrics import LATENCY_MS_P50
from agesearch.search.replay.curve_table import CurveRow, CurveTable
from agesearch.search.space.conditions import Dimension
from agesearch.search.space.space import ARCH, Params, network_choices, network_of
from agesearch.specs import Range


class AskedSpace(Protocol):
    """``dimensions`` is what the strategy chooses in."""

    @property
    def dimensions(self) -> Mapping[str, Dimension]: ...

    def wanted(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of the record's space that what was ``asked`` stands for."""
        ...

    def booked(self, row: CurveRow) -> Mapping[str, Any]:
        """What the strategy is told that it has asked for, once a row stands for it."""
        ...


class WholeSpace:
    """The record's space as it is."""

    def __init__(self, record: CurveTable) -> None:
        self.dimensions: Mapping[str, Dimension] = record.spec.space

    def wanted(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The same."""
        return dict(asked)

    def booked(self, row: CurveRow) -> Mapping[str, Any]:
        """The row's parameters."""
        return row.params


class LatencySpace:
    """The record's space with the latency in place of what decides it besides the architecture."""

    def __init__(self, record: CurveTable) -> None:
        study = record.spec
        known = {network_of(study, row.params): row.latency_ms for row in record.rows}
        self._networks: list[tuple[Params, float]] = [
            (params, known[network]) for params, network in network_choices(study) if network in known
        ]
        self._decided = {name for params, _ in self._networks for name in params} - {ARCH}
        every = [latency for _, latency in self._networks]
        latency = Range(low=min(every), high=max(every), log=True)
        rest = {name: dimension for name, dimension in study.space.items() if name not in self._decided}
        self.dimensions: Mapping[str, Dimension] = rest | {LATENCY_MS_P50: latency}

    def wanted(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The network of that architecture that is nearest in the logarithm of its latency."""
        wished = math.log(asked[LATENCY_MS_P50])
        rest = {name: value for name, value in asked.items() if name != LATENCY_MS_P50}
        alike = [pair for pair in self._networks if pair[0].get(ARCH) == asked.get(ARCH)] or self._networks
        params, _ = min(alike, key=lambda pair: abs(math.log(pair[1]) - wished))
        return rest | {name: params[name] for name in self._decided & params.keys()}

    def booked(self, row: CurveRow) -> Mapping[str, Any]:
        """The row's parameters, its latency in place of those that decide it."""
        rest = {name: value for name, value in row.params.items() if name not in self._decided}
        return rest | {LATENCY_MS_P50: row.latency_ms}
