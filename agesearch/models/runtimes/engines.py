"""Which runtime runs a network, in which precision, and which of these pairs this machine has.

onnxruntime   ONNX Runtime on the CPU: fp32, int8
openvino      OpenVINO on the CPU: fp32, int8, and bf16 where the CPU computes in it
cuda          ONNX Runtime on an NVIDIA GPU (its package is onnxruntime-gpu): fp32
torch_cuda    torch on an NVIDIA GPU: fp32; timed beside the others, never served on
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from agesearch.errors import InputError, unknown_name

ONNX_RUNTIME, OPENVINO, CUDA, TORCH_CUDA = "onnxruntime", "openvino", "cuda", "torch_cuda"
FP32, BF16, INT8 = "fp32", "bf16", "int8"

#: The precisions of each runtime that a model may be served on.
RUNTIMES: Mapping[str, tuple[str, ...]] = {
    ONNX_RUNTIME: (FP32, INT8),
    OPENVINO: (FP32, BF16, INT8),
    CUDA: (FP32,),
}
#: The same, with those that are only timed.
TIMED_RUNTIMES = {**RUNTIMES, TORCH_CUDA: (FP32,)}
PRECISIONS = (FP32, BF16, INT8)


class Engine(NamedTuple):
    """A runtime and the precision that it is asked to compute in."""

    runtime: str = ONNX_RUNTIME
    precision: str = FP32

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU, where CPU threads do not matter."""
        return self.runtime in (CUDA, TORCH_CUDA)


#: What everything runs on unless it is told otherwise.
DEFAULT = Engine()


def engines_here(
    runtimes: Iterable[str] = (),
    precisions: Iterable[str] = (),
    table: Mapping[str, tuple[str, ...]] = RUNTIMES,
) -> list[Engine]:
    """The pairs that this machine has, of these runtimes and precisions (none named: of all of the table).

    Raises ``InputError`` for an unknown name, and where none of what is named runs here.
    """
    asked = _known("runtime", runtimes, table), _known("precision", precisions, PRECISIONS)
    wanted = [
        Engine(runtime, precision)
        for runtime in asked[0]
        for precision in asked[1]
        if precision in table[runtime]
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
    if engine.precision not in TIMED_RUNTIMES.get(engine.runtime, ()):
        return f"{engine.runtime} does not compute in {engine.precision}."
    if engine == Engine(OPENVINO, BF16) and "BF16" not in _openvino_capabilities():
        return "This CPU does not compute in bf16 (it has neither AVX-512 BF16 nor AMX)."
    if engine.runtime == CUDA and not _has_cuda():
        return "There is no GPU that ONNX Runtime could use (its package for them is onnxruntime-gpu)."
    if engine.runtime == TORCH_CUDA and not torch_has_cuda():
        return "There is no GPU that torch could use."
    return None


@cache
def _openvino_capabilities() -> frozenset[str]:
    import openvino

    return frozenset(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


@cache
def _has_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers() and torch_has_cuda()


def torch_has_cuda() -> bool:
    """Whether torch can use an NVIDIA GPU of this machine."""
    import torch

    return bool(torch.cuda.is_available())


def _known(kind: str, names: Iterable[str], table: Iterable[str]) -> list[str]:
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in table:
            raise unknown_name(kind, name, table)
    return chosen or list(table)
