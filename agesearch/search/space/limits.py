"""Which networks of a space stay within a study's limits, known before anything trains.

A network's latency and memory are measured before the search; its parameters are counted by building it,
its bytes by exporting it. A network above ``max_latency_ms``, ``max_params``, ``max_bytes`` or
``max_memory_mb`` is never trained, nor is one that was not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from agesearch.errors import InputError
from agesearch.models.architectures import Network
from agesearch.search.space.space import Params, network_choices, network_of, networks
from agesearch.specs import ModelSpec, StudySpec

#: Latency in ms of each network that was timed, or the reason why it has none.
Latencies = Mapping[Network, float | str]


@dataclass(frozen=True)
class Fitting:
    """The networks that may be trained; without a ``study`` all may.

    ``left_out`` are above a limit, ``untimed`` is how many were not timed, since the study has too few trials
    for them.
    """

    study: StudySpec | None = None
    networks: frozenset[Network] = frozenset()
    left_out: Mapping[Network, str] = field(default_factory=dict)
    untimed: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every network of the space may be trained."""
        return self.study is None or not (self.left_out or self.untimed)

    def fits(self, params: Mapping[str, object]) -> bool:
        """Whether the network of these parameters may be trained."""
        return self.study is None or self.is_whole or network_of(self.study, params) in self.networks

    def drawn(self, rng: np.random.Generator) -> Params:
        """The parameters that decide a network which fits, one of them drawn evenly."""
        assert self.study is not None
        fitting = [params for params, network in network_choices(self.study) if network in self.networks]
        return fitting[int(rng.integers(len(fitting)))]


class NetworkLimits:
    """Whether networks are within a study's limits, asked one by one: what is not asked for is not timed.

    ``latency`` gives a network's latency in ms, or the reason why it has none; ``parameters`` counts those of
    a model, ``file_bytes`` the bytes of its file, ``memory`` those that a session of a timed network takes
    (None: unknown). A network without a latency counts as fitting: its trials FAIL with the reason.
    """

    def __init__(
        self,
        spec: StudySpec,
        latency: Callable[[Network], float | str],
        parameters: Callable[[ModelSpec], int],
        file_bytes: Callable[[ModelSpec], int] | None = None,
        memory: Callable[[Network], int | None] | None = None,
    ) -> None:
        self._spec, self._latency, self._parameters = spec, latency, parameters
        self._file_bytes, self._memory = file_bytes, memory
        self._sizes: dict[Network, int] = {}
        self._memories: dict[Network, int] = {}
        self._counts: dict[Network, int] = {}  # by the network at its smallest: size changes no parameter
        self._left_out: dict[Network, str] = {}
        self.latencies: dict[Network, float | str] = {}

    def fits(self, network: Network) -> bool:
        """Whether the network may be trained; its parameters and bytes come first, since a timing takes
        longer.
        """
        if network not in self.latencies and network not in self._left_out:
            reason = self._too_many_parameters(network) or self._too_large(network)
            if reason is None:
                latency = self.latencies[network] = self._latency(network)
                reason = self._too_slow(latency) or self._too_hungry(network)
            if reason is not None:
                self._left_out[network] = reason
        return network not in self._left_out

    def fitting(self) -> Fitting:
        """What was found of those asked for; an ``InputError`` where none of them fits."""
        asked = self.latencies.keys() | self._left_out.keys()
        within = frozenset(asked - self._left_out.keys())
        if asked and not within:
            raise InputError(self._none_fits())
        return Fitting(self._spec, within, self._left_out, len(set(networks(self._spec)) - asked))

    def _too_many_parameters(self, network: Network) -> str | None:
        if self._spec.max_params is None:
            return None
        alike = network._replace(input_size=0)
        if alike not in self._counts:
            self._counts[alike] = self._parameters(self._model(network))
        count = self._counts[alike]
        return f"{count:,} parameters" if count > self._spec.max_params else None

    def _model(self, network: Network) -> ModelSpec:
        return self._spec.student.model.model_copy(update=network.fields())

    def _too_large(self, network: Network) -> str | None:
        limit = self._spec.max_bytes
        if limit is None or self._file_bytes is None:
            return None
        try:
            size = self._sizes[network] = self._file_bytes(self._model(network))
        except Exception:  # what cannot be exported has no latency either, and that says why
            return None
        return f"{size:,} bytes" if size > limit else None

    def _too_hungry(self, network: Network) -> str | None:
        limit = self._spec.max_memory_mb
        found = None if limit is None or self._memory is None else self._memory(network)
        if limit is None or found is None:
            return None
        self._memories[network] = found
        return f"{found / 1e6:.1f} MB of memory" if found > limit * 1e6 else None

    def _too_slow(self, latency: float | str) -> str | None:
        limit = self._spec.max_latency_ms
        above = limit is not None and not isinstance(latency, str) and latency > limit
        return f"{latency:.2f} ms" if above else None

    def _none_fits(self) -> str:
        known = []
        timed = {key: value for key, value in self.latencies.items() if not isinstance(value, str)}
        if self._spec.max_latency_ms is not None and timed:
            network, fastest = min(timed.items(), key=lambda item: item[1])
            known.append(f"the fastest, {network}, takes {fastest:.2f} ms")
        if self._counts:
            smallest, fewest = min(self._counts.items(), key=lambda item: item[1])
            known.append(f"the smallest, {smallest.arch}, has {fewest:,} parameters")
        if self._sizes:
            smallest, fewest = min(self._sizes.items(), key=lambda item: item[1])
            known.append(f"the smallest file, of {smallest}, has {fewest:,} bytes")
        if self._memories:
            modest, least = min(self._memories.items(), key=lambda item: item[1])
            known.append(f"the most modest, {modest}, takes {least / 1e6:.1f} MB of memory")
        return f"No network of the space is within {limits_of(self._spec)}: {'; '.join(known)}."


def limits_of(spec: StudySpec) -> str:
    """The limits that are known before training, in words: ``max_latency_ms 2 and max_params 3,000,000``."""
    limits = []
    if spec.max_latency_ms is not None:
        limits.append(f"max_latency_ms {spec.max_latency_ms:g}")
    if spec.max_params is not None:
        limits.append(f"max_params {spec.max_params:,}")
    if spec.max_bytes is not None:
        limits.append(f"max_bytes {spec.max_bytes:,}")
    if spec.max_memory_mb is not None:
        limits.append(f"max_memory_mb {spec.max_memory_mb:g}")
    return " and ".join(limits)
