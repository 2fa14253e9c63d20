"""How fast a network answers, measured on the runtime that serves it, never guessed from FLOPs.

Protocol: ONNX Runtime on the CPU, a fixed number of intra-op threads, warmed up, at least 50 timed calls of
one batch (fewer only where a large batch would outlast its time, and then the row says how many), p50 and p95
in milliseconds a call. What is timed is the network alone: decoding, face detection and resizing are not in
it. A row carries all it takes to compare it with another: hardware, runtime, precision, threads, batch, calls
and versions.

``LatencyTable`` knows the latency of an architecture before it is trained: it times the network with random
weights, once for a (network, runtime, hardware), and remembers. ``side_by_side`` times several models in
turns, so that whatever else the machine does hits all of them alike and their ratios are fair.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.progress import Listener, Progress, silent
from agesearch.specs import ModelSpec, Spec, digest_of, parse_spec
from agesearch.storage import Location

RUNTIME = "onnxruntime"
PRECISION = "fp32"
MIN_CALLS = 50

#: A batch of several images is timed for about this long, and at least for ``_MIN_BATCH_CALLS`` calls.
_BATCH_SECONDS = 2.0
_MIN_BATCH_CALLS = 10
_WARMUP_CALLS = 5
_ROUNDS = 5

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
    rows: list[SpeedRow] = []
    for done, setting in enumerate(plan):
        on_progress(Progress("Speed, side by side", done, len(plan), note=_words(setting)))
        rows += _in_turns(models, setting, calls)
    on_progress(Progress("Speed, side by side", len(plan), len(plan)))
    return rows


def _in_turns(models: Sequence[TimedModel], setting: Setting, calls: int) -> Iterator[SpeedRow]:
    callables = [_opened(model.onnx, model.input_size, setting) for model in models]
    for call in callables:
        _warm(call)
    per_round = [-(-_affordable(call, setting, calls) // _ROUNDS) for call in callables]
    seconds: list[list[float]] = [[] for _ in models]
    for _ in range(_ROUNDS):
        for call, count, taken in zip(callables, per_round, seconds, strict=True):
            call()  # brings the caches back from the model before
            taken.extend(_timed(call) for _ in range(count))
    for model, taken in zip(models, seconds, strict=True):
        yield _row(model.name, model.arch, model.input_size, setting, taken)


class LatencyTable:
    """Latency of architectures, one thread, one image: measured once, then read from the ``cache`` folder.

    Each entry is one JSON file named by the digest of its key (architecture, input side, runtime, precision,
    threads, hardware, versions), so a cache may be shared by studies and machines.
    """

    def __init__(self, cache: Location, *, threads: int = 1, calls: int = MIN_CALLS) -> None:
        if calls < MIN_CALLS:
            raise InputError(f"Latency takes at least {MIN_CALLS} timed calls, but calls is {calls}.")
        self._cache = cache
        self._setting = Setting(threads, 1)
        self._calls = calls
        self._rows: dict[str, SpeedRow] = {}

    def latency(self, model: ModelSpec) -> SpeedRow:
        """The row of this network, from memory, from the cache, or measured now. Weights do not matter."""
        key = self._key(model)
        name = digest_of(key)
        if name not in self._rows:
            file = self._cache / f"{name}.json"
            self._rows[name] = self._read(file) if file.exists() else self._measure(model, file)
        return self._rows[name]

    def warm(self, models: Sequence[ModelSpec], on_progress: Listener = silent) -> None:
        """Measure all of these ahead, one after the other, while nothing else runs."""
        for done, model in enumerate(models):
            note = f"{model.arch} {model.input_size} px"
            on_progress(Progress("Latency", done, len(models), note=note))
            self.latency(model)
        on_progress(Progress("Latency", len(models), len(models)))

    def _key(self, model: ModelSpec) -> dict[str, Any]:
        return {
            "arch": model.arch,
            "input_size": model.input_size,
            "runtime": RUNTIME,
            "precision": PRECISION,
            "threads": self._setting.threads,
            "hardware": hardware_name(),
            "versions": runtime_versions(),
        }

    def _read(self, file: Location) -> SpeedRow:
        return parse_spec(SpeedRow, file.read_json(), f"'{file}' (delete it to measure again)")

    def _measure(self, model: ModelSpec, file: Location) -> SpeedRow:
        row = measure_onnx(
            _untrained(model),
            arch=model.arch,
            input_size=model.input_size,
            setting=self._setting,
            calls=self._calls,
        )
        file.write_json(row.model_dump(mode="json"))
        return row


def _untrained(model: ModelSpec) -> bytes:
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
    for _ in range(_WARMUP_CALLS):
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
