"""The latency of networks that are not trained yet: measured once on a machine, then known.

``LatencyTable`` times a network with random weights, which take as long as trained ones. The cache is a
folder of the user, shared by all studies and safe under several of them at once; where no home can be written
there is none, and all is timed anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from agesearch.data.dataset.arrays import Pixels
from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.speed.footprint import known_footprint
from agesearch.measure.speed.hardware import hardware_name, runtime_versions
from agesearch.measure.speed.rows import Setting, SpeedRow, on_best_engine, too_large
from agesearch.measure.speed.timing import MIN_CALLS, TimedModel, measure_onnx, side_by_side
from agesearch.models.architectures import Network
from agesearch.models.runtimes.engines import DEFAULT, INT8, Engine
from agesearch.models.runtimes.int8 import quantised
from agesearch.models.scorers import ForeignScorer, OnnxScorer, Scorer, fault
from agesearch.provenance import VERSION
from agesearch.specs import ModelSpec, digest_of, parse_spec
from agesearch.storage import Location

#: Faces of noise that ranges are taken from where a network is quantised for its time alone.
_NOISE_FACES = 2

#: Raise it where this protocol or the exported graph changes: older timings are then no longer read.
_PROTOCOL = 2


class LatencyTable:
    """Latency of networks, one image, on the fastest of ``engines`` (the others stand in the row): measured
    once, then read from the ``cache`` folder. An engine whose network has more than ``max_bytes`` is not
    chosen where another has not; with ``memory`` a row says how much its session takes.

    Each entry is one JSON file named by the digest of its key: the network, the protocol, the runtime, its
    threads, the hardware and the versions of all that makes or runs the graph. So a cache may be shared by
    studies and machines, and what was timed under other versions is not found. An entry that cannot be read
    is measured again; one that cannot be written is kept in memory only.
    """

    def __init__(
        self,
        cache: Location | None,
        *,
        threads: int = 1,
        calls: int = MIN_CALLS,
        engines: Sequence[Engine] = (DEFAULT,),
        max_bytes: int | None = None,
        memory: bool = False,
    ) -> None:
        if calls < MIN_CALLS:
            raise InputError(f"Latency takes at least {MIN_CALLS} timed calls, but calls is {calls}.")
        self._cache = cache
        self._setting, self._engines = Setting(threads, 1), tuple(engines)
        self._calls = calls
        self._max_bytes, self._memory = max_bytes, memory
        self._last: tuple[Network, bytes] | None = None
        self._rows: dict[str, SpeedRow] = {}

    def latency(self, model: ModelSpec) -> SpeedRow:
        """The row of this network, from memory, from the cache, or measured now. Weights do not matter."""
        name = digest_of(self._key(Network.of(model)))
        if name not in self._rows:
            self._rows[name] = self._read(name) or self._measure(model, name)
        return self._rows[name]

    def _key(self, network: Network) -> dict[str, Any]:
        usual = self._engines == (DEFAULT,)  # the one there was at first: its entries keep their names
        first = self._engines[0]
        versions = {name: text for engine in self._engines for name, text in runtime_versions(engine).items()}
        key = {
            "network": network._asdict(),
            "protocol": _PROTOCOL,
            "runtime": first.runtime,
            "precision": first.precision,
            "threads": self._setting.threads,
            "calls": self._calls,
            "hardware": hardware_name(),
            "versions": {**versions, "onnx": version("onnx"), "agesearch": VERSION},
        }
        if usual:
            return key
        limit = {} if self._max_bytes is None else {"max_bytes": self._max_bytes}
        return key | {"engines": sorted(map(str, self._engines))} | limit

    def _read(self, name: str) -> SpeedRow | None:
        if self._cache is None:
            return None
        file = self._cache / f"{name}.json"
        try:
            row = parse_spec(SpeedRow, file.read_json(), f"'{file}'") if file.exists() else None
        except (AgeSearchError, OSError):  # damaged, or not ours to read
            return None
        return None if row is None or self._lacks(row) else row

    def _lacks(self, row: SpeedRow) -> bool:
        """Whether a row of an earlier time does not say what is asked for now."""
        sized = self._max_bytes is None or row.file_bytes is not None
        return not sized or (self._memory and row.session_bytes is None)

    def _measure(self, model: ModelSpec, name: str) -> SpeedRow:
        row = self._timed(model)
        if self._cache is not None:
            try:
                (self._cache / f"{name}.json").write_json(row.model_dump(mode="json"))
            except (AgeSearchError, OSError):  # no room, or no permission: the timing is as good without
                self._cache = None
        return row

    def file_bytes(self, model: ModelSpec) -> int:
        """The bytes of this network's smallest file, of those that the engines load; nothing is timed."""
        row = self._rows.get(digest_of(self._key(Network.of(model))))
        if row is not None and row.file_bytes is not None:
            return row.file_bytes
        content = self._exported(model)
        sizes = [len(content)] if any(engine.precision != INT8 for engine in self._engines) else []
        if not sizes or (len(content) > (self._max_bytes or 0) and len(self._engines) > 1):
            scorer, engines = runnable(OnnxScorer(content, model.input_size), self._engines)
            sizes = [_bytes_of(scorer, engine) for engine in engines]
        return min(sizes)

    def _exported(self, model: ModelSpec) -> bytes:
        """The network as ONNX; the last one is kept, since its size is asked for before its time."""
        network = Network.of(model)
        if self._last is None or self._last[0] != network:
            self._last = network, untrained_onnx(model)
        return self._last[1]

    def _timed(self, model: ModelSpec) -> SpeedRow:
        content, size = self._exported(model), model.input_size
        scorer: Scorer = OnnxScorer(content, size)
        if self._engines == (DEFAULT,):
            row = measure_onnx(
                content, arch=model.arch, input_size=size, setting=self._setting, calls=self._calls
            ).with_values({"file_bytes": len(content)})
        else:
            scorer, engines = runnable(scorer, self._engines)
            models = [TimedModel("", scorer, model.arch, size, engine) for engine in engines]
            rows = [
                row.with_values({"file_bytes": _bytes_of(scorer, row.engine)})
                for row in side_by_side(models, [self._setting], calls=self._calls)
            ]
            row = on_best_engine(rows, too_large(rows, self._max_bytes))
        if not self._memory:
            return row
        found = known_footprint(scorer.networks(row.engine), size, row.engine)
        return row.with_values(found.model_dump())


def _bytes_of(scorer: Scorer, engine: Engine) -> int:
    return sum(map(len, scorer.networks(engine)))


def machine_cache(of: str = "latency") -> Location | None:
    """Where what was found on this machine is kept for all studies of this user; None where the user has no
    home.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")  # counts where it is absolute, as its specification has it
    folder = root if os.path.isabs(root) else os.path.expanduser("~/.cache")
    return Location.of(folder) / "agesearch" / of if os.path.isabs(folder) else None


def noise(count: int, side: int) -> Pixels:
    """Faces of noise: RGB ``uint8 [count, side, side, 3]``."""
    return np.random.default_rng(0).integers(0, 256, size=(count, side, side, 3), dtype=np.uint8)


def int8_for_time_alone(scorer: OnnxScorer | ForeignScorer) -> bytes:
    """A network in int8 by ranges of noise: good for its time and for nothing else.

    Raises ``AgeSearchError`` where it cannot be quantised.
    """
    opened = scorer.open()
    faces = noise(_NOISE_FACES, scorer.input_size)
    return quantised(scorer.onnx, [opened.feed(face[None]) for face in faces])


def runnable(scorer: Scorer, engines: Sequence[Engine]) -> tuple[Scorer, list[Engine]]:
    """The model and those of the engines that run it, for timing: with an int8 network where one of them asks
    for it and it has none. Where none runs it, the usual engine has to.
    """
    if any(engine.precision == INT8 for engine in engines):
        try:
            scorer = scorer.with_int8(int8_for_time_alone)
        except AgeSearchError:  # then the other engines decide
            engines = [engine for engine in engines if engine.precision != INT8]
    return scorer, [engine for engine in engines if fault(scorer, engine) is None] or [DEFAULT]


def untrained_onnx(model: ModelSpec) -> bytes:
    """The ONNX bytes of the network with random weights: time does not depend on their values."""
    import torch

    from agesearch.models.tracing import onnx_bytes
    from agesearch.models.zoo import build, untrained

    # A trial whose latency is in the cache and one whose is not must train from the same generator state.
    with torch.random.fork_rng(devices=[]):
        return onnx_bytes(build(untrained(model)), model.input_size)
