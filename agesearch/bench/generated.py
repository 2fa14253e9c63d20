"""Made-up studies for benches: a usual space, and trials that have run in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from agesearch.metrics import LATENCY_MS_P50, VAL_MAE_YEARS
from agesearch.models.architectures import Network
from agesearch.search.space.limits import Latencies
from agesearch.search.space.space import network_of
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import Choices, ModelSpec, Range, StudySpec, TrainSpec, Variants

ARCHS = ("lcnet_050", "mobilenetv3_small_050", "mobilenetv3_small_100", "mobilenetv2_100")
SIZES = (64, 80, 96)
EPOCHS = 15

#: Milliseconds of each network, larger ones slower.
LATENCIES: Latencies = {
    Network(arch, size): 0.2 * (1 + place) * (size / SIZES[0]) ** 2
    for place, arch in enumerate(ARCHS)
    for size in SIZES
}


def usual_study(trials: int = 1_000_000) -> StudySpec:
    """Architecture, size and eight numbers, as a usual space has them."""
    numbers = {
        "optim.learning_rate": Range(low=5e-4, high=8e-3, log=True),
        "optim.weight_decay": Range(low=1e-3, high=0.2, log=True),
        "augment.strength": Range(low=0.0, high=2.0),
        "distill.label_sigma": Range(low=1.0, high=5.0),
        "distill.mean_weight": Range(low=0.01, high=1.0, log=True),
        "distill.kd_weight": Range(low=0.1, high=10.0, log=True),
        "distill.cdf_weight": Range(low=0.0, high=0.5),
        "distill.temperature": Range(low=1.0, high=6.0, log=True),
    }
    choices = {"model.arch": Choices(choices=ARCHS), "model.input_size": Choices(choices=SIZES)}
    student = TrainSpec(model=ModelSpec(arch=ARCHS[0])).with_values({"optim.epochs": EPOCHS})
    return StudySpec(student=student, space=choices | numbers, trials=trials)


def ended_trials(spec: StudySpec, size: int) -> list[TrialRecord]:
    """COMPLETE trials with a curve each, seeded; a slower network errs less."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(size):
        params = {name: _drawn(dimension, rng) for name, dimension in spec.space.items()}
        latency = float(LATENCIES[network_of(spec, params)])
        error = float(5.0 + 2.0 / latency + rng.gamma(2.0, 1.0))
        curve = tuple(error + 3 * 0.8**epoch - 3 * 0.8 ** (EPOCHS - 1) for epoch in range(EPOCHS))
        values: dict[str, Any] = {VAL_MAE_YEARS: error, LATENCY_MS_P50: latency}
        name = f"{number:04d}-{params['model.arch']}-{params['model.input_size']}px"
        records.append(
            TrialRecord(number, State.COMPLETE, name, params, epochs=EPOCHS, curve=curve, **values)
        )
    return records


def _drawn(dimension: Choices | Range | Variants, rng: np.random.Generator) -> Any:
    if isinstance(dimension, Choices):
        return dimension.choices[int(rng.integers(len(dimension.choices)))]
    if isinstance(dimension, Variants):
        return list(dimension.variants)[int(rng.integers(len(dimension.variants)))]
    return float(rng.uniform(dimension.low, dimension.high))
