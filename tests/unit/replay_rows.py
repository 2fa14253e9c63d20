"""A generated record: learning curves by formula, with noise, late bloomers and trials that never learn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from agesearch.search.replay.curve_table import CurveRow, CurveTable
from agesearch.specs import Choices, ModelSpec, Range, StudySpec, TrainSpec

#: Latency in ms at 64 px, the error in years that is left at best, and parameters.
NETWORKS = {
    "lcnet_050": (0.30, 7.6, 900_000),
    "mobilenetv3_small_050": (0.45, 7.0, 600_000),
    "mobilenetv3_small_100": (0.80, 6.3, 1_600_000),
    "mobilenetv2_100": (1.60, 5.8, 2_300_000),
    "efficientnet_lite0": (2.60, 5.5, 3_500_000),
}
SIZES = (64, 80, 96)


def study(epochs: int = 16) -> StudySpec:
    """The study that the record pretends to come from."""
    student = TrainSpec(model=ModelSpec(arch="lcnet_050")).with_values({"optim.epochs": epochs})
    space = {
        "model.arch": Choices(choices=tuple(NETWORKS)),
        "model.input_size": Choices(choices=SIZES),
        "optim.learning_rate": Range(low=3e-4, high=1e-2, log=True),
        "augment.strength": Range(low=0.0, high=2.0),
        "distill.kd_weight": Range(low=0.1, high=10.0, log=True),
    }
    return StudySpec(student=student, space=space, trials=100, startup_trials=10)


def made_record(count: int = 150, epochs: int = 16, seed: int = 0, noise: float = 0.02) -> CurveTable:
    """``count`` random configurations; a tenth of them diverge and stay at 25 years."""
    rng = np.random.default_rng(seed)
    return CurveTable(study(epochs), tuple(_row(number, epochs, noise, rng) for number in range(count)))


def timed(record: CurveTable) -> CurveTable:
    """The same record with the seconds of each epoch: by latency, and more for the first."""
    rows = [
        replace(row, seconds=tuple(10 * row.latency_ms + (epoch == 0) for epoch in range(len(row.errors))))
        for row in record.rows
    ]
    return replace(record, rows=tuple(rows))


def _row(number: int, epochs: int, noise: float, rng: np.random.Generator) -> CurveRow:
    arch, size = str(rng.choice(list(NETWORKS))), int(rng.choice(SIZES))
    rate = math.exp(rng.uniform(math.log(3e-4), math.log(1e-2)))
    strength, weight = rng.uniform(0, 2), math.exp(rng.uniform(math.log(0.1), math.log(10)))
    params = {
        "model.arch": arch,
        "model.input_size": size,
        "optim.learning_rate": rate,
        "augment.strength": strength,
        "distill.kd_weight": weight,
    }
    ms, floor, parameters = NETWORKS[arch]
    off = abs(math.log(rate / 2e-3)) + 0.5 * abs(strength - 0.8) + 0.3 * abs(math.log(weight / 2))
    end = floor - 0.5 * (size - 64) / 32 + 0.9 * off + rng.exponential(0.3)
    if rng.random() < 0.1:
        end = 25.0
    speed = math.exp(rng.normal(1.2, 0.4))  # falls to the end as exp(-speed * share of the budget)
    share = np.arange(1, epochs + 1) / epochs
    errors = end + (12.0 - min(end, 12.0)) * np.exp(-speed * share)
    errors *= np.exp(rng.normal(0, noise, epochs) * (1.1 - share))
    name = f"{number:04d}-{arch}-{size}px"
    latency = round(ms * (size / 64) ** 2, 4)
    return CurveRow(number, name, params, latency, parameters, tuple(float(error) for error in errors))
