"""How fast a network answers, measured on the runtime that serves it, never guessed from FLOPs.

Protocol: ONNX Runtime on the CPU, a fixed number of intra-op threads, warmed up, at least 50 timed calls of
one batch (fewer only where a large batch would outlast its time, and then the row says how many), p50 and p95
in milliseconds a call. What is timed is the network alone: decoding, face detection and resizing are not in
it. A row carries all it takes to compare it with another: hardware, runtime, precision, threads, batch, calls
and versions.

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

from agesearch.measure.speed.hardware import hardware_name, runtime_versions
from agesearch.measure.speed.rows import Setting, SpeedRow, settings
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
    scorer that runs itself.
    """

    name: str
    onnx: Location | bytes | Scorer
    arch: str
    input_size: int


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
