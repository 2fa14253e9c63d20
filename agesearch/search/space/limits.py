"""Which networks of a space stay within a study's limits, known before anything trains.

A network is an (architecture, input side) of the space. Its latency is measured before the search; its
parameters are counted by building it. A network above ``max_latency_ms`` or ``max_params`` is never trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from agesearch.errors import InputError
from agesearch.search.space.space import Params, network_choices, network_of
from agesearch.specs import ModelSpec, StudySpec

#: (architecture, input side).
Network = tuple[str, int]

#: Latency in ms of each network, or the reason why it has none.
Latencies = Mapping[Network, float | str]


@dataclass(frozen=True)
class Fitting:
    """The networks that may be trained; without ``networks`` all may."""

    study: StudySpec | None = None
    networks: frozenset[Network] = frozenset()
    left_out: Mapping[Network, str] = field(default_factory=dict)

    def fits(self, params: Mapping[str, object]) -> bool:
        """Whether the network of these parameters may be trained."""
        return not self.left_out or (self.study is None or network_of(self.study, params) in self.networks)

    def drawn(self, rng: np.random.Generator) -> Params:
        """The parameters that decide a network which fits, one of them drawn evenly."""
        assert self.study is not None
        fitting = [params for params, network in network_choices(self.study) if network in self.networks]
        return fitting[int(rng.integers(len(fitting)))]


def fitting_networks(
    spec: StudySpec, latencies: Latencies, parameters: Callable[[ModelSpec], int]
) -> Fitting:
    """The networks within the limits; an ``InputError`` where none is. One without a latency counts as
    fitting: its trials FAIL with the reason.
    """
    student, counts = spec.student.model, dict[str, int]()
    left_out: dict[Network, str] = {}
    for arch, size in latencies:
        latency = latencies[arch, size]
        if spec.max_latency_ms is not None and not isinstance(latency, str) and latency > spec.max_latency_ms:
            left_out[arch, size] = f"{latency:.2f} ms"
        elif spec.max_params is not None:
            if arch not in counts:
                counts[arch] = parameters(student.model_copy(update={"arch": arch, "input_size": size}))
            if counts[arch] > spec.max_params:
                left_out[arch, size] = f"{counts[arch]:,} parameters"
    networks = frozenset(latencies) - left_out.keys()
    if latencies and not networks:
        raise InputError(_none_fits(spec, latencies, counts))
    return Fitting(spec, networks, left_out)


def limits_of(spec: StudySpec) -> str:
    """The limits that are known before training, in words: ``max_latency_ms 2 and max_params 3,000,000``."""
    limits = []
    if spec.max_latency_ms is not None:
        limits.append(f"max_latency_ms {spec.max_latency_ms:g}")
    if spec.max_params is not None:
        limits.append(f"max_params {spec.max_params:,}")
    return " and ".join(limits)


def _none_fits(spec: StudySpec, latencies: Latencies, counts: Mapping[str, int]) -> str:
    known = []
    if spec.max_latency_ms is not None:
        timed = {key: value for key, value in latencies.items() if not isinstance(value, str)}
        (arch, size), fastest = min(timed.items(), key=lambda item: item[1])
        known.append(f"the fastest, {arch} at {size} px, takes {fastest:.2f} ms")
    if counts:
        arch, fewest = min(counts.items(), key=lambda item: item[1])
        known.append(f"the smallest of those fast enough, {arch}, has {fewest:,} parameters")
    return f"No network of the space is within {limits_of(spec)}: {'; '.join(known)}."
