"""The machine that something was measured on, as records name it."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
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

#: What the kernel says of the CPU.
_CPU = Path("/proc/cpuinfo")
#: The instructions that decide how fast a network is and, in int8 and bf16, what it answers, as the kernel
#: names them on x86 and on ARM; of each row the first that the CPU has is told.
_INSTRUCTIONS = (
    {"avx512f": "AVX-512", "avx2": "AVX2", "sve2": "SVE2", "sve": "SVE", "asimd": "NEON"},
    {"amx_int8": "AMX", "avx512_vnni": "VNNI", "avx_vnni": "VNNI", "i8mm": "I8MM", "asimddp": "DotProd"},
    {"amx_bf16": "BF16", "avx512_bf16": "BF16", "bf16": "BF16"},
)


def hardware_name() -> str:
    """The CPU's name, its vector instructions, and how many cores this process may use, as in ``Intel Xeon @
    2.50GHz (AVX-512, VNNI), 2 cores``: a cloud gives CPUs that differ in these one name.
    """
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
    lines = _CPU.read_text(encoding="utf-8", errors="replace").splitlines() if _CPU.exists() else []
    name = _told(lines, "model name", "Hardware") or platform.processor() or platform.machine()
    name = " ".join(name.replace("(R)", "").replace("(TM)", "").replace("Processor", "").split())
    has = _told(lines, "flags", "Features").split()
    best = (next((row[each] for each in row if each in has), "") for row in _INSTRUCTIONS)
    known = ", ".join(filter(None, best))
    return f"{name} ({known})" if known else name


def _told(lines: Sequence[str], *names: str) -> str:
    """What the first line of one of these names says; "" where none is there."""
    return next((line.partition(":")[2] for line in lines if line.startswith(names)), "")


def runtime_versions(engine: Engine = DEFAULT) -> dict[str, str]:
    """The versions that a timing depends on: the runtime, and what builds the networks."""
    packages = [_PACKAGES[engine.runtime], "timm", "torch"]
    return installed([*packages, "nncf"] if engine.precision == INT8 else packages)
