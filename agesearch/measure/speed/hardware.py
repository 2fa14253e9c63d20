"""The machine that something was measured on, as records name it."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from agesearch.machine import cores
from agesearch.models.runtimes.engines import (
    CUDA,
    DEFAULT,
    INT8,
    ONNX_RUNTIME,
    OPENVINO,
    TORCH_CUDA,
    Engine,
)
from agesearch.provenance import installed

#: The package of each runtime.
_PACKAGES = {ONNX_RUNTIME: "onnxruntime", OPENVINO: "openvino", CUDA: "onnxruntime-gpu", TORCH_CUDA: "torch"}

#: What the kernel says of its NVIDIA driver.
_DRIVER = Path("/proc/driver/nvidia/version")


def hardware_name() -> str:
    """The CPU's name and how many cores this process may use, as in ``Intel Xeon @ 2.50GHz, 2 cores``."""
    count = cores()
    return f"{_cpu_name()}, {count} core{'s' if count > 1 else ''}"


def device_name(engine: Engine) -> str:
    """The GPU that an engine computes on, with the versions of its driver and of torch's CUDA, as in ``NVIDIA
    L4, driver 550.54.15, CUDA 12.8``; "" for the CPU.
    """
    if not engine.on_gpu:
        return ""
    import torch

    driver = _DRIVER.read_text(encoding="utf-8", errors="replace") if _DRIVER.exists() else ""
    version = re.search(r"Kernel Module\D*([\d.]+)", driver)
    parts = [torch.cuda.get_device_name(), f"driver {version[1] if version else 'unknown'}"]
    return ", ".join([*parts, *([f"CUDA {torch.version.cuda}"] if torch.version.cuda else [])])


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
