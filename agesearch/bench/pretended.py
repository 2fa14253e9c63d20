"""Trials that pretend to train, for benches and tests of a search: two networks, one of which is better and
slower, and errors that follow from the learning rate.
"""

from __future__ import annotations

from agesearch.measure.speed.rows import SpeedRow
from agesearch.specs import TrainSpec


def pretended_error(spec: TrainSpec, weaker: str) -> float:
    """What a pretended training reaches, in years: a smooth function of the learning rate; the architecture
    ``weaker`` has a year more.
    """
    return 5.0 + abs(spec.optim.learning_rate - 2e-3) * 1e3 + (spec.model.arch == weaker)


def pretended_speed(arch: str, input_size: int, latency_ms: float) -> SpeedRow:
    """A speed row that nobody measured."""
    return SpeedRow(
        arch=arch,
        input_size=input_size,
        threads=1,
        batch=1,
        calls=1,
        latency_ms_p50=latency_ms,
        latency_ms_p95=latency_ms,
        images_per_s=1000 / latency_ms,
        hardware="pretended",
        versions={},
    )
