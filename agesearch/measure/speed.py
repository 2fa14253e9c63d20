"""How fast a network answers, measured on the runtime that serves it, never guessed from FLOPs.

Protocol: ONNX Runtime on the CPU, a fixed number of intra-op threads, warmed up, at least 50 timed calls of
one batch (fewer only where a large batch would outlast its time, and then the row says how many), p50 and p95
in milliseconds a call. What is timed is the network alone: decoding, face detection and resizing are not in
it. A row carries all it takes to compare it with another: hardware, runtime, precision, threads, batch, calls
and versions.

``side_by_side`` times several models in turns, so that whatever else the machine does hits all of them alike
and their ratios are fair. Rows of two runs differ by what the machine did meanwhile: nothing takes a ratio
between them.

``LatencyTable`` knows the latency of a network before it is trained: it times it with random weights, which
take as long as trained ones, once on a machine. The cache is a folder of the user, shared by all studies and
safe under several of them at once; where no home can be written there is none, and all is timed anew.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agesearch.errors import AgeSearchError, InputError
from agesearch.machine import cores
from agesearch.models.architectures import Network
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import VERSION
from agesearch.specs import ModelSpec, Spec, digest_of, parse_spec
from agesearch.storage import Location

RUNTIME = "onnxruntime"
PRECISION = "fp32"
MIN_CALLS = 50

#: A batch of several images is timed for about this long, and at least for ``_MIN_BATCH_CALLS`` calls.
_BATCH_SECONDS = 2.0
_MIN_BATCH_CALLS = 10
WARMUP_CALLS = 5
ROUNDS = 5

#: Raise it where this protocol or the exported graph changes: older timings are then no longer read.
_PROTOCOL = 2

if TYPE_CHECKING:
    from agesearch.models.scorers import Scorer

Call = Callable[[], Any]


class SpeedRow(Spec):
    """One timing: what ran, where, how often, and the result. Latency in ms a call of ``batch`` images."""

    model: str = ""
    arch: str
    input_size: int
    runtime: str = RUNTIME
    precision: str = PRECISION
    threads: int
    batch: int
    calls: int
    latency_ms_p50: float
    latency_ms_p95: float
    images_per_s: float
    hardware: str
    versions: dict[str, str]


#: A difference below this share of a latency is noise, however steady the calls were.
_STEADY = 0.05


@dataclass(frozen=True)
class Setting:
    """How a model is called while it is timed."""

    threads: int = 1
    batch: int = 1


@dataclass(frozen=True)
class TimedModel:
    """A model to time: ONNX (a file, or its bytes) with input ``images`` float32 ``[n, 3, S, S]``, or a
    scorer that runs itself.
    """

    name: str
    onnx: Location | bytes | Scorer
    arch: str
    input_size: int


def hardware_name() -> str:
    """The CPU's name and how many cores this process may use, as in ``Intel Xeon @ 2.50GHz, 2 cores``."""
    count = cores()
    return f"{_cpu_name()}, {count} core{'s' if count > 1 else ''}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2] for line in lines if line.startswith(("model name", "Hardware"))]
    name = names[0] if names else platform.processor() or platform.machine()
    return " ".join(name.replace("(R)", "").replace("(TM)", "").replace("Processor", "").split())


def runtime_versions() -> dict[str, str]:
    """The versions that a timing depends on: the runtime, and what builds the networks."""
    return {name: version(name) for name in ("onnxruntime", "timm", "torch")}


def settings() -> list[Setting]:
    """One thread and all cores, one image and a batch of 32."""
    threads = sorted({1, cores()})
    return [Setting(count, batch) for batch in (1, 32) for count in threads]


def measure_onnx(
    onnx: Location | bytes | Scorer,
    *,
    arch: str,
    input_size: int,
    setting: Setting | None = None,
    calls: int = MIN_CALLS,
    model: str = "",
) -> SpeedRow:
    """Time one ONNX model (a file, its bytes, or a scorer) by the protocol above."""
    setting = setting or Setting()
    call = _opened(onnx, input_size, setting)
    _warm(call)
    seconds = [_timed(call) for _ in range(_affordable(call, setting, calls))]
    return _row(model, arch, input_size, setting, seconds)


def beyond_noise(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two timings, each (median, 95th percentile) in ms, differ by more than noise: the slower median
    lies beyond what 95 % of the single calls of the faster took, and beyond a twentieth of its median.
    """
    (fast, spread), (slow, _) = sorted((one, other))
    return slow > max(spread, fast * (1.0 + _STEADY))


def side_by_side(
    models: Sequence[TimedModel],
    wanted: Sequence[Setting] | None = None,
    *,
    calls: int = MIN_CALLS,
    on_progress: Listener = silent,
) -> list[SpeedRow]:
    """Time all models under each setting in turns: some calls of each model, then the next round.

    Rows come by setting, then in the order of ``models``; ``row.model`` holds the name.
    """
    plan = list(wanted) if wanted is not None else settings()
    steps = _Steps(on_progress, len(plan) * len(models) * (1 + ROUNDS))
    rows = [row for setting in plan for row in _in_turns(models, setting, calls, steps)]
    steps.at("")
    return rows


class _Steps:
    """Reports each step of a side-by-side run as it begins."""

    def __init__(self, on_progress: Listener, total: int) -> None:
        self._on_progress, self._total, self._done = on_progress, total, -1

    def at(self, note: str) -> None:
        self._done += 1
        self._on_progress(Progress("Speed, side by side", self._done, self._total, note=note))


def _in_turns(
    models: Sequence[TimedModel], setting: Setting, calls: int, steps: _Steps
) -> Iterator[SpeedRow]:
    words = _words(setting)
    callables, per_round = [], []
    for model in models:
        steps.at(f"{words}, warming {model.name}")
        call = _opened(model.onnx, model.input_size, setting)
        _warm(call)
        callables.append(call)
        per_round.append(-(-_affordable(call, setting, calls) // ROUNDS))
    seconds: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for model, call, count, taken in zip(models, callables, per_round, seconds, strict=True):
            steps.at(f"{words}, {model.name}")
            call()  # brings the caches back from the model before
            taken.extend(_timed(call) for _ in range(count))
    for model, taken in zip(models, seconds, strict=True):
        yield _row(model.name, model.arch, model.input_size, setting, taken)


class LatencyTable:
    """Latency of networks, one thread, one image: measured once, then read from the ``cache`` folder.

    Each entry is one JSON file named by the digest of its key: the network, the protocol, the runtime, its
    threads, the hardware and the versions of all that makes or runs the graph. So a cache may be shared by
    studies and machines, and what was timed under other versions is not found. An entry that cannot be read
    is measured again; one that cannot be written is kept in memory only.
    """

    def __init__(self, cache: Location | None, *, threads: int = 1, calls: int = MIN_CALLS) -> None:
        if calls < MIN_CALLS:
            raise InputError(f"Latency takes at least {MIN_CALLS} timed calls, but calls is {calls}.")
        self._cache = cache
        self._setting = Setting(threads, 1)
        self._calls = calls
        self._rows: dict[str, SpeedRow] = {}

    def latency(self, model: ModelSpec) -> SpeedRow:
        """The row of this network, from memory, from the cache, or measured now. Weights do not matter."""
        name = digest_of(self._key(Network.of(model)))
        if name not in self._rows:
            self._rows[name] = self._read(name) or self._measure(model, name)
        return self._rows[name]

    def _key(self, network: Network) -> dict[str, Any]:
        return {
            "network": network._asdict(),
            "protocol": _PROTOCOL,
            "runtime": RUNTIME,
            "precision": PRECISION,
            "threads": self._setting.threads,
            "calls": self._calls,
            "hardware": hardware_name(),
            "versions": {**runtime_versions(), "onnx": version("onnx"), "agesearch": VERSION},
        }

    def _read(self, name: str) -> SpeedRow | None:
        if self._cache is None:
            return None
        file = self._cache / f"{name}.json"
        try:
            return parse_spec(SpeedRow, file.read_json(), f"'{file}'") if file.exists() else None
        except (AgeSearchError, OSError):  # damaged, or not ours to read
            return None

    def _measure(self, model: ModelSpec, name: str) -> SpeedRow:
        row = measure_onnx(
            untrained_onnx(model),
            arch=model.arch,
            input_size=model.input_size,
            setting=self._setting,
            calls=self._calls,
        )
        if self._cache is not None:
            try:
                (self._cache / f"{name}.json").write_json(row.model_dump(mode="json"))
            except (AgeSearchError, OSError):  # no room, or no permission: the timing is as good without
                self._cache = None
        return row


def machine_cache() -> Location | None:
    """Where timings are kept for all studies of this user; None where the user has no home."""
    root = os.environ.get("XDG_CACHE_HOME", "")  # counts where it is absolute, as its specification has it
    folder = root if os.path.isabs(root) else os.path.expanduser("~/.cache")
    return Location.of(folder) / "agesearch" / "latency" if os.path.isabs(folder) else None


def untrained_onnx(model: ModelSpec) -> bytes:
    """The ONNX bytes of the network with random weights: time does not depend on their values."""
    import torch

    from agesearch.models.tracing import onnx_bytes
    from agesearch.models.zoo import build, untrained

    # A trial whose latency is in the cache and one whose is not must train from the same generator state.
    with torch.random.fork_rng(devices=[]):
        return onnx_bytes(build(untrained(model)), model.input_size)


def _opened(onnx: Location | bytes | Scorer, input_size: int, setting: Setting) -> Call:
    from agesearch.models.onnx import open_session
    from agesearch.models.scorers import session_call

    if not isinstance(onnx, (Location, bytes)):
        return onnx.call(setting.threads, setting.batch)
    return session_call(open_session(onnx, setting.threads), input_size, setting.batch)


def _warm(call: Call) -> None:
    for _ in range(WARMUP_CALLS):
        call()


def _timed(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _affordable(call: Call, setting: Setting, calls: int) -> int:
    """All calls for single images; for batches those that fit into their time."""
    if setting.batch == 1:
        return calls
    fitting = int(_BATCH_SECONDS / max(_timed(call), 1e-6))
    return min(calls, max(_MIN_BATCH_CALLS, fitting))


def _row(model: str, arch: str, input_size: int, setting: Setting, seconds: list[float]) -> SpeedRow:
    p50, p95 = np.percentile(np.asarray(seconds) * 1000.0, [50, 95])
    return SpeedRow(
        model=model,
        arch=arch,
        input_size=input_size,
        threads=setting.threads,
        batch=setting.batch,
        calls=len(seconds),
        latency_ms_p50=round(float(p50), 4),
        latency_ms_p95=round(float(p95), 4),
        images_per_s=round(setting.batch * 1000.0 / float(p50), 2),
        hardware=hardware_name(),
        versions=runtime_versions(),
    )


def _words(setting: Setting) -> str:
    threads = "1 thread" if setting.threads == 1 else f"{setting.threads} threads"
    return f"{threads}, batch {setting.batch}"
