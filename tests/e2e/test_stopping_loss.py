"""Early stopping by evidence never costs more of the front than it states: on made families of curves that
cross, come late, are noisy, collapse or leave a plateau, and on every recorded table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agesearch.search.replay.curve_table import CurveRow, CurveTable, read_record
from agesearch.search.replay.engine import Replayed, full_volume, replay
from agesearch.specs import Choices, ModelSpec, Range, StoppingSpec, StudySpec, TrainSpec

TABLES = sorted((Path(__file__).parents[2] / "reports" / "search").glob("*.parquet"))
#: Latency in ms at 64 px, the error in years that is left at best.
NETWORKS = {
    "lcnet_050": (0.30, 7.6),
    "mobilenetv3_small_050": (0.45, 7.0),
    "mobilenetv3_small_100": (0.80, 6.3),
    "mobilenetv2_100": (1.60, 5.2),
}
MEDIAN = 10.14

Array = np.ndarray
Family = Callable[[float, float, Array, np.random.Generator], Array]


def plateau(end: float, rate: float, share: Array, rng: np.random.Generator) -> Array:
    """At the error of always the median for a third of the budget and more, then down at once."""
    leaves = 0.25 + 0.25 * (1.0 - rate) + rng.exponential(0.08)
    return np.where(share <= leaves, MEDIAN, end + (MEDIAN - end) * np.exp(-(share - leaves) / 0.1))


def crossing(end: float, rate: float, share: Array, rng: np.random.Generator) -> Array:
    """Large learning rates start badly and end well."""
    return np.asarray(end + (4.0 + 8.0 * rate) * (1.0 - share) ** (1.0 + rate))


def late(end: float, rate: float, share: Array, rng: np.random.Generator) -> Array:
    """What counts is gained at the end, where a cosine schedule comes down."""
    turns = rng.uniform(0.55, 0.85)
    return np.asarray(end + 4.0 / (1.0 + np.exp((share - turns) / 0.05)))


def noisy(end: float, rate: float, share: Array, rng: np.random.Generator) -> Array:
    """Epochs that differ by as much as trials do."""
    fall = end + 5.0 * np.exp(-4.0 * share)
    return np.asarray(fall * np.exp(rng.normal(0.0, 0.12, len(share)) * (1.05 - share)))


def collapsing(end: float, rate: float, share: Array, rng: np.random.Generator) -> Array:
    """A third fall back to always the median, some soon and some later."""
    fall = end + 5.0 * np.exp(-4.0 * share)
    gone = rng.random() < 0.3 + 0.3 * (rate > 0.8)
    return np.where(share > rng.uniform(0.1, 0.6), MEDIAN, fall) if gone else np.asarray(fall)


FAMILIES: tuple[Family, ...] = (plateau, crossing, late, noisy, collapsing)


def table(family: Family, seed: int, count: int = 48, epochs: int = 8) -> CurveTable:
    """A record of one family of curves, with the noise of a few validation faces."""
    student = TrainSpec(model=ModelSpec(arch="lcnet_050")).with_values({"optim.epochs": epochs})
    space = {
        "model.arch": Choices(choices=tuple(NETWORKS)),
        "model.input_size": Choices(choices=(64, 96)),
        "optim.learning_rate": Range(low=3e-4, high=1e-2, log=True),
        "augment.strength": Range(low=0.0, high=2.0),
    }
    spec = StudySpec(student=student, space=space, trials=count, startup_trials=count)
    rng = np.random.default_rng(seed)
    share = np.arange(1, epochs + 1) / epochs
    rows = []
    for number in range(count):
        arch, size = str(rng.choice(list(NETWORKS))), int(rng.choice((64, 96)))
        rate, strength = float(rng.random()), float(rng.random())
        ms, floor = NETWORKS[arch]
        off = 3.0 * abs(rate - 0.6) + abs(strength - 0.4)
        end = min(floor - 0.4 * (size == 96) + off + rng.exponential(0.3), MEDIAN)
        errors = family(float(end), rate, share, rng) * np.exp(rng.normal(0.0, 0.01, epochs))
        params = {
            "model.arch": arch,
            "model.input_size": size,
            "optim.learning_rate": 3e-4 * math.exp(rate * math.log(1e-2 / 3e-4)),
            "augment.strength": 2.0 * strength,
        }
        name = f"{number:04d}-{arch}-{size}px"
        rows.append(CurveRow(number, name, params, ms * (size / 64) ** 2, None, tuple(errors.tolist())))
    return CurveTable(spec, tuple(rows))


def lost(record: CurveTable, run: Replayed) -> float:
    """The share of the record's hypervolume that the run did not find."""
    return 1.0 - run.volumes[-1] / full_volume(record.rows)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(family=st.sampled_from(FAMILIES), seed=st.integers(0, 10_000))
def test_no_family_of_curves_loses_more_than_is_stated(family: Family, seed: int) -> None:
    record = table(family, seed)
    run = replay(record, "random-stops", seed)
    assert run.complete + run.stopped == len(record.rows)
    assert lost(record, run) <= StoppingSpec().max_loss + 1e-9


@pytest.mark.parametrize("path", TABLES, ids=[path.stem for path in TABLES])
def test_no_recorded_table_loses_more_than_is_stated(path: Path) -> None:
    record = read_record(str(path))
    runs = [replay(record, "default", seed) for seed in range(3)]
    assert max(lost(record, run) for run in runs) <= StoppingSpec().max_loss


def test_much_is_stopped_where_there_is_evidence() -> None:
    (path,) = (path for path in TABLES if path.stem == "recorded")
    assert replay(read_record(str(path)), "default", 0).stopped > 40
