"""Which runtime runs a network, in which precision, and which of these pairs this machine has.

onnxruntime   ONNX Runtime on the CPU: fp32, int8
openvino      OpenVINO on the CPU: fp32, int8, and bf16 where the CPU computes in it
cuda          ONNX Runtime on an NVIDIA GPU (its package is onnxruntime-gpu): fp32
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from agesearch.errors import InputError, unknown_name

ONNX_RUNTIME, OPENVINO, CUDA = "onnxruntime", "openvino", "cuda"
FP32, BF16, INT8 = "fp32", "bf16", "int8"

#: The precisions of each runtime.
RUNTIMES = {ONNX_RUNTIME: (FP32, INT8), OPENVINO: (FP32, BF16, INT8), CUDA: (FP32,)}
PRECISIONS = (FP32, BF16, INT8)


class Engine(NamedTuple):
    """A runtime and the precision that it is asked to compute in."""

    runtime: str = ONNX_RUNTIME
    precision: str = FP32

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


#: What everything runs on unless it is told otherwise.
DEFAULT = Engine()


def engines_here(runtimes: Iterable[str] = (), precisions: Iterable[str] = ()) -> list[Engine]:
    """The pairs that this machine has, of these runtimes and precisions (none named: of all).

    Raises ``InputError`` for an unknown name, and where none of what is named runs here.
    """
    asked = _known("runtime", runtimes, RUNTIMES), _known("precision", precisions, PRECISIONS)
    wanted = [
        Engine(runtime, precision)
        for runtime in asked[0]
        for precision in asked[1]
        if precision in RUNTIMES[runtime]
    ]
    reasons = {engine: why_not(engine) for engine in wanted}
    found = [engine for engine in wanted if reasons[engine] is None]
    if not found:
        said = dict.fromkeys(reason for reason in reasons.values() if reason)
        why = " ".join(said) or f"{' and '.join(asked[0])} cannot compute in {' or '.join(asked[1])}."
        raise InputError(f"Nothing of what was asked for runs here: {why}")
    return found


def why_not(engine: Engine) -> str | None:
    """Why this machine cannot run on an engine; None where it can."""
    if engine.precision not in RUNTIMES.get(engine.runtime, ()):
        return f"{engine.runtime} does not compute in {engine.precision}."
    if engine == Engine(OPENVINO, BF16) and "BF16" not in _openvino_capabilities():
        return "This CPU does not compute in bf16 (it has neither AVX-512 BF16 nor AMX)."
    if engine.runtime == CUDA and not _has_cuda():
        return "There is no GPU that ONNX Runtime could use (its package for them is onnxruntime-gpu)."
    return None


@cache
def _openvino_capabilities() -> frozenset[str]:
    import openvino

    return frozenset(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


@cache
def _has_cuda() -> bool:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return False
    import torch

    return bool(torch.cuda.is_available())


def _known(kind: str, names: Iterable[str], table: Iterable[str]) -> list[str]:
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in table:
            raise unknown_name(kind, name, table)
    return chosen or list(table)
