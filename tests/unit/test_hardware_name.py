"""The name of the machine that a measurement was made on tells what decides its speed and its answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from agesearch.measure.speed import hardware
from agesearch.measure.speed.hardware import hardware_name

INTEL = "model name\t: Intel(R) Xeon(R) Processor @ 2.50GHz"


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx avx2 fma", "AMD EPYC (AVX2)"),
        (f"{INTEL}\nflags\t: avx2 avx512f avx512_vnni", "Intel Xeon @ 2.50GHz (AVX-512, VNNI)"),
        (
            f"{INTEL}\nflags\t: avx2 avx512f avx512_vnni amx_int8 amx_bf16",
            "Intel Xeon @ 2.50GHz (AVX-512, AMX, BF16)",
        ),
        ("Features\t: fp asimd asimddp i8mm bf16\nHardware\t: Some ARM", "Some ARM (NEON, I8MM, BF16)"),
        ("model name\t: Old CPU\nflags\t: fpu sse4_2", "Old CPU"),
    ],
)
def test_cpus_of_one_name_differ_by_their_instructions(
    told: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(told + "\n", encoding="utf-8")
    monkeypatch.setattr(hardware, "_CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(hardware, "cores", lambda: 1)
    assert hardware_name() == f"{name}, 1 core"


def test_a_machine_without_the_kernels_list_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_CPU", tmp_path / "missing")
    monkeypatch.setattr(hardware.platform, "processor", lambda: "arm")
    monkeypatch.setattr(hardware, "cores", lambda: 8)
    assert hardware_name() == "arm, 8 cores"
