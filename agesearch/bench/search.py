"""How fast a search decides when it already knows many trials: ``agesearch bench search``.

Histories are generated and kept in memory, so that the figures are those of deciding; a study also writes
each trial into SQLite, which costs the same however many there are. Measured on each: one suggestion, telling
how a trial ended, the front, one rung decision, and the memory that the history takes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from agesearch.errors import InputError
from agesearch.metrics import LATENCY_MS_P50, VAL_MAE_YEARS
from agesearch.progress import Listener, Progress, silent
from agesearch.search.history import History, Spent
from agesearch.search.learning import Learning
from agesearch.search.records import State, StudyFolder, TrialRecord
from agesearch.search.rungs import decide
from agesearch.specs import Choices, ModelSpec, Range, RungSpec, StudySpec, TrainSpec
from agesearch.storage import Location

_ARCHS = ("lcnet_050", "mobilenetv3_small_050", "mobilenetv3_small_100", "mobilenetv2_100")
_EPOCHS = 15


@dataclass(frozen=True)
class SearchSpeed:
    """Medians in milliseconds on a history of ``trials`` finished trials; memory by resident size, in MB."""

    trials: int
    memory_mb: float
    suggest_ms: float
    tell_ms: float
    front_ms: float
    rung_ms: float


def measure_search(
    sizes: Sequence[int], *, calls: int = 20, on_progress: Listener = silent
) -> list[SearchSpeed]:
    """Measure on a generated history of each size."""
    if calls < 1 or not sizes or min(sizes) < 1:
        raise InputError("A history needs at least one trial, and a measurement at least one call.")
    found = []
    for done, size in enumerate(sizes):
        on_progress(Progress("Histories", done, len(sizes), note=f"{size:,} trials"))
        found.append(_measured(size, calls))
    on_progress(Progress("Histories", len(sizes), len(sizes)))
    return found


def _measured(size: int, calls: int) -> SearchSpeed:
    spec, process = _spec(), psutil.Process()
    before = process.memory_info().rss
    history = History.in_memory(spec)
    history.add(_generated(spec, size))
    learning = Learning(StudyFolder(Location.of("nowhere")), spec)
    times: dict[str, list[float]] = {}
    for _ in range(calls):
        _one_trial(history, learning, times)
    medians = {f"{name}_ms": 1e3 * statistics.median(taken) for name, taken in times.items()}
    return SearchSpeed(size, (process.memory_info().rss - before) / 1e6, **medians)


def _one_trial(history: History, learning: Learning, times: dict[str, list[float]]) -> None:
    record = _timed(times, "suggest", history.suggest)
    record = history.knows_latency(record.number, 1.0)
    learning.hear(record.number, 1, 9.0)
    learning.hear(record.number, 2, 8.5)
    _timed(times, "rung", lambda: decide(*learning.curves(record, history.all()), RungSpec()))
    spent = Spent(_EPOCHS, 1.0, tuple(8.0 - epoch / 10 for epoch in range(_EPOCHS)))
    _timed(times, "tell", lambda: history.complete(record.number, {VAL_MAE_YEARS: 7.0}, spent))
    _timed(times, "front", history.front)


def _timed(times: dict[str, list[float]], name: str, call: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = call()
    times.setdefault(name, []).append(time.perf_counter() - started)
    return result


def _spec() -> StudySpec:
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
    choices = {"model.arch": Choices(choices=_ARCHS), "model.input_size": Choices(choices=(64, 80, 96))}
    student = TrainSpec(model=ModelSpec(arch=_ARCHS[0])).with_values({"optim.epochs": _EPOCHS})
    return StudySpec(student=student, space=choices | numbers, trials=1_000_000)


def _generated(spec: StudySpec, size: int) -> list[TrialRecord]:
    """COMPLETE trials with a curve each, seeded; a slower network errs less."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(size):
        params = {name: _drawn(dimension, rng) for name, dimension in spec.space.items()}
        latency = float(rng.uniform(0.3, 4.0))
        error = float(5.0 + 2.0 / latency + rng.gamma(2.0, 1.0))
        curve = tuple(error + 3 * 0.8**epoch - 3 * 0.8 ** (_EPOCHS - 1) for epoch in range(_EPOCHS))
        values: dict[str, Any] = {VAL_MAE_YEARS: error, LATENCY_MS_P50: latency}
        name = f"{number:04d}-{params['model.arch']}-{params['model.input_size']}px"
        records.append(
            TrialRecord(number, State.COMPLETE, name, params, epochs=_EPOCHS, curve=curve, **values)
        )
    return records


def _drawn(dimension: Choices | Range, rng: np.random.Generator) -> Any:
    if isinstance(dimension, Choices):
        return dimension.choices[int(rng.integers(len(dimension.choices)))]
    return float(rng.uniform(dimension.low, dimension.high))
