"""Several strategies replayed on one record, many seeds each, and the figures they are compared by."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agesearch.errors import InputError
from agesearch.progress import Listener, Progress, silent
from agesearch.search.replay.curve_table import CurveTable
from agesearch.search.replay.engine import Replayed, full_volume, reference_point, replay
from agesearch.search.replay.strategies import made

#: The share of random search's final hypervolume that epochs are counted to.
GOAL = 0.95

#: Points of a drawn line.
_GRID = 121


@dataclass(frozen=True)
class Row:
    """One strategy over its seeds. Epochs are those spent in total by all trials; ``low`` and ``high`` are
    the 10th and 90th percentile of the seeds; None where fewer seeds reached the goal.
    """

    strategy: str
    seeds: int
    reached: int
    epochs: float | None
    low: float | None
    high: float | None
    share_of_random: float | None
    spent: float
    stopped: float
    final_share: float


@dataclass(frozen=True)
class Line:
    """The hypervolume, as a share of the record's, after so many epochs: median, 10th and 90th percentile."""

    strategy: str
    epochs: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """All that a replay found. ``budget``: the epochs that random search spends on the whole record."""

    rows: tuple[Row, ...]
    lines: tuple[Line, ...]
    configurations: int
    left_out: int
    budget: int
    slots: int
    reference: tuple[float, float]
    volume: float

    def as_json(self) -> dict[str, Any]:
        """The comparison as a JSON object, without the lines."""
        return {
            "configurations": self.configurations,
            "left_out": self.left_out,
            "slots": self.slots,
            "goal": GOAL,
            "random_epochs": self.budget,
            "reference": list(self.reference),
            "hypervolume": self.volume,
            "strategies": [vars(row) for row in self.rows],
        }


def compare(
    record: CurveTable,
    names: Sequence[str],
    *,
    seeds: int = 20,
    slots: int = 4,
    on_progress: Listener = silent,
) -> Comparison:
    """Replay each strategy with seeds 0, 1, 2... Random search always ends with the whole record, so that its
    final hypervolume is the record's, whatever the seed.
    """
    for name, value in (("--seeds", seeds), ("--slots", slots)):
        if value < 1:
            raise InputError(f"{name} is {value}, but must be >= 1.")
    if not names:
        raise InputError("--strategies names none, but must name one or more.")
    for name in names:
        made(name)
    volume, budget = full_volume(record.rows), sum(len(row.errors) for row in record.rows)
    rows, lines = [], []
    for name in dict.fromkeys(names):
        runs = []
        for seed in range(seeds):
            on_progress(Progress(f"Replay {name}", seed, seeds))
            runs.append(replay(record, name, seed, slots=slots))
        on_progress(Progress(f"Replay {name}", seeds, seeds))
        rows.append(_row(name, runs, volume, budget))
        lines.append(_line(name, runs, volume, budget))
    return Comparison(
        tuple(rows),
        tuple(lines),
        len(record.rows),
        record.left_out,
        budget,
        slots,
        reference_point(record.rows),
        volume,
    )


def _row(name: str, runs: Sequence[Replayed], volume: float, budget: int) -> Row:
    reached = [run.epochs_to(GOAL * volume) for run in runs]
    # A seed that never got there ranks last: a percentile that falls on one is not known.
    ranked = sorted(np.inf if epochs is None else float(epochs) for epochs in reached)
    low, middle, high = (_known(ranked, share) for share in (0.1, 0.5, 0.9))
    return Row(
        strategy=name,
        seeds=len(runs),
        reached=sum(epochs is not None for epochs in reached),
        epochs=middle,
        low=low,
        high=high,
        share_of_random=None if middle is None else middle / budget,
        spent=statistics.median(run.spent for run in runs),
        stopped=statistics.median(run.stopped for run in runs),
        final_share=statistics.median(run.volumes[-1] for run in runs) / volume,
    )


def _known(ranked: Sequence[float], share: float) -> float | None:
    at = share * (len(ranked) - 1)
    around = ranked[int(np.floor(at))], ranked[int(np.ceil(at))]
    if np.isinf(around).any():
        return None
    return float(around[0] + (at - np.floor(at)) * (around[1] - around[0]))


def _line(name: str, runs: Sequence[Replayed], volume: float, budget: int) -> Line:
    epochs = np.linspace(0, budget, _GRID)
    shares = np.stack([run.at(epochs) for run in runs]) / volume
    low, median, high = np.percentile(shares, [10, 50, 90], axis=0)
    return Line(name, *(tuple(values.tolist()) for values in (epochs, median, low, high)))
