"""A timing as it is kept, what it was timed under, and when two of them differ."""

from __future__ import annotations

from dataclasses import dataclass

from agesearch.machine import cores
from agesearch.specs import Spec

RUNTIME = "onnxruntime"
PRECISION = "fp32"

#: A difference below this share of a latency is noise, however steady the calls were.
_STEADY = 0.05


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


def settings() -> list[Setting]:
    """One thread and all cores, one image and a batch of 32."""
    threads = sorted({1, cores()})
    return [Setting(count, batch) for batch in (1, 32) for count in threads]


def beyond_noise(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two timings, each (median, 95th percentile) in ms, differ by more than noise: the slower median
    lies beyond what 95 % of the single calls of the faster took, and beyond a twentieth of its median.
    """
    (fast, spread), (slow, _) = sorted((one, other))
    return slow > max(spread, fast * (1.0 + _STEADY))
