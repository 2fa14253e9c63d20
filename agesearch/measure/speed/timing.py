"""How fast a network answers, measured on the runtime that serves it, never guessed from FLOPs.

Protocol: one engine (a runtime and a precision: ONNX Runtime in fp32 unless it is said), a fixed number of
intra-op threads, warmed up, at least 50 timed calls of one batch (fewer only where a large batch would
outlast its time, and then the row says how many), p50 and p95 in milliseconds a call. What is timed is the
network alone: decoding, face detection and resizing are not in it (``agesearch.measure.speed.steps`` times
them). A row carries all it takes to compare it with another: hardware, runtime, precision, threads, batch,
calls and versions.

``side_by_side`` times several models in turns, so that whatever else the machine does hits all of them alike
and their ratios are fair. Rows of two runs differ by what the machine did meanwhile: nothing takes a ratio
between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agesearch.measure.speed.hardware import device_name, hardware_name, runtime_versions
from agesearch.measure.speed.rows import Setting, SpeedRow, settings
from agesearch.models.onnx import MAX_ONNX_BYTES
from agesearch.models.runtimes.engines import DEFAULT, Engine
from agesearch.progress import Listener, Progress, silent
from agesearch.storage import Location

MIN_CALLS = 50

#: A batch of several images is timed for about this long, and at least for ``_MIN_BATCH_CALLS`` calls.
_BATCH_SECONDS = 2.0
_MIN_BATCH_CALLS = 10
WARMUP_CALLS = 5
ROUNDS = 5

if TYPE_CHECKING:
    from agesearch.models.scorers import Scorer

Call = Callable[[], Any]


@dataclass(frozen=True)
class TimedModel:
    """A model to time: ONNX (a file, or its bytes) with input ``images`` float32 ``[n, 3, S, S]``, or a
    scorer that runs itself; and on which engine.
    """

    name: str
    onnx: Location | bytes | Scorer
    arch: str
    input_size: int
    engine: Engine = DEFAULT

    def networks(self) -> list[bytes]:
        """The ONNX networks that its engine loads."""
        if isinstance(self.onnx, bytes):
            return [self.onnx]
        if isinstance(self.onnx, Location):
            return [self.onnx.read_bytes(MAX_ONNX_BYTES)]
        return self.onnx.networks(self.engine)

    @property
    def shown(self) -> str:
        """The name, with the engine where it is not the usual one."""
        return self.name if self.engine == DEFAULT else f"{self.name} on {self.engine}"


@dataclass(frozen=True)
class Timing:
    """A row, and the median of each round in ms, as the models' turns came."""

    row: SpeedRow
    rounds: tuple[float, ...]


def measure_onnx(
    onnx: Location | bytes | Scorer,
    *,
    arch: str,
    input_size: int,
    setting: Setting | None = None,
    calls: int = MIN_CALLS,
    model: str = "",
    engine: Engine = DEFAULT,
) -> SpeedRow:
    """Time one ONNX model (a file, its bytes, or a scorer) by the protocol above."""
    setting, timed = setting or Setting(), TimedModel(model, onnx, arch, input_size, engine)
    call = _opened(timed, setting)
    _warm(call)
    return _row(timed, setting, [_timed(call) for _ in range(_affordable(call, setting, calls))])


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
    plan = settings() if wanted is None else wanted
    return [timing.row for timing in in_turns(models, plan, calls=calls, on_progress=on_progress)]


def in_turns(
    models: Sequence[TimedModel],
    wanted: Sequence[Setting],
    *,
    calls: int = MIN_CALLS,
    rounds: int = ROUNDS,
    on_progress: Listener = silent,
) -> list[Timing]:
    """The same with each round's median, which ratios of two models get their intervals from."""
    fewest = min((setting.threads for setting in wanted), default=1)
    # A GPU does not mind how many threads of the CPU wait for it.
    plan = [
        (setting, [one for one in models if setting.threads == fewest or not one.engine.on_gpu])
        for setting in wanted
    ]
    steps = _Steps(on_progress, sum(len(timed) for _, timed in plan) * (1 + rounds))
    found = [row for setting, timed in plan for row in _in_turns(timed, setting, calls, rounds, steps)]
    steps.at("")
    return found


class _Steps:
    """Reports each step of a side-by-side run as it begins."""

    def __init__(self, on_progress: Listener, total: int) -> None:
        self._on_progress, self._total, self._done = on_progress, total, -1

    def at(self, note: str) -> None:
        self._done += 1
        self._on_progress(Progress("Speed, side by side", self._done, self._total, note=note))


def _in_turns(
    models: Sequence[TimedModel], setting: Setting, calls: int, rounds: int, steps: _Steps
) -> Iterator[Timing]:
    words = _words(setting)
    callables, per_round = [], []
    for model in models:
        steps.at(f"{words}, warming {model.shown}")
        call = _opened(model, setting)
        _warm(call)
        callables.append(call)
        per_round.append(-(-_affordable(call, setting, calls) // rounds))
    seconds: list[list[list[float]]] = [[] for _ in models]
    for _ in range(rounds):
        for model, call, count, taken in zip(models, callables, per_round, seconds, strict=True):
            steps.at(f"{words}, {model.shown}")
            call()  # brings the caches back from the model before
            taken.append([_timed(call) for _ in range(count)])
    for model, taken in zip(models, seconds, strict=True):
        row = _row(model, setting, [second for turn in taken for second in turn])
        yield Timing(row, tuple(float(np.median(turn)) * 1000.0 for turn in taken))


def _opened(model: TimedModel, setting: Setting) -> Call:
    from agesearch.models.runtimes.sessions import open_engine
    from agesearch.models.scorers import session_call

    if not isinstance(model.onnx, (Location, bytes)):
        return model.onnx.call(setting.threads, setting.batch, model.engine)
    session = open_engine(model.onnx, model.engine, setting.threads)
    return session_call(session, model.input_size, setting.batch)


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


def _row(model: TimedModel, setting: Setting, seconds: list[float]) -> SpeedRow:
    p50, p95 = np.percentile(np.asarray(seconds) * 1000.0, [50, 95])
    return SpeedRow(
        model=model.name,
        arch=model.arch,
        input_size=model.input_size,
        runtime=model.engine.runtime,
        precision=model.engine.precision,
        threads=setting.threads,
        batch=setting.batch,
        calls=len(seconds),
        latency_ms_p50=round(float(p50), 4),
        latency_ms_p95=round(float(p95), 4),
        images_per_s=round(setting.batch * 1000.0 / float(p50), 2),
        hardware=hardware_name(),
        device=device_name(model.engine),
        versions=runtime_versions(model.engine),
    )


def _words(setting: Setting) -> str:
    threads = "1 thread" if setting.threads == 1 else f"{setting.threads} threads"
    return f"{threads}, batch {setting.batch}"
