"""The machine that something was measured on, as records name it."""

from __future__ import annotations

import platform
from pathlib import Path

from agesearch.machine import cores
from agesearch.models.runtimes.engines import CUDA, DEFAULT, INT8, ONNX_RUNTIME, OPENVINO, Engine
from agesearch.provenance import installed

#: The package of each runtime.
_PACKAGES = {ONNX_RUNTIME: "onnxruntime", OPENVINO: "openvino", CUDA: "onnxruntime-gpu"}


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


def runtime_versions(engine: Engine = DEFAULT) -> dict[str, str]:
    """The versions that a timing depends on: the runtime, and what builds the networks."""
    packages = [_PACKAGES[engine.runtime], "timm", "torch"]
    return installed([*packages, "nncf"] if engine.precision == INT8 else packages)
