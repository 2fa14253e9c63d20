"""Several strategies replayed on one record, many seeds each, and the figures they are compared by."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from agesearch.errors import InputError
from agesearch.progress import Listener, Progress, silent
from agesearch.search.replay.curve_table import CurveTable
from agesearch.search.replay.engine import Replayed, Unit, budget, full_volume, reference_point, replay
from agesearch.search.replay.strategies import made

#: The share of random search's final hypervolume that epochs are counted to.
GOAL = 0.95

#: The strategy that others are compared with besides random search.
TPE = "optuna-tpe"

#: Points of a drawn line.
_GRID = 121


@dataclass(frozen=True)
class Cost:
    """What it takes to reach the goal, in one unit, spent in total by all trials: ``middle``, the median of
    the seeds, and their 10th and 90th percentile. As a share of all that random search spends on the record,
    and of what Optuna's TPE needs for the goal. None where too few seeds reach it.
    """

    middle: float | None
    low: float | None
    high: float | None
    of_random: float | None
    of_tpe: float | None = None


@dataclass(frozen=True)
class Row:
    """One strategy over its seeds; ``seconds`` is None where the record has none. ``final_share`` is the
    median of the seeds, ``final_worst`` their smallest.
    """

    strategy: str
    seeds: int
    reached: int
    epochs: Cost
    seconds: Cost | None
    spent: float
    stopped: float
    final_share: float
    final_worst: float

    def cost(self, unit: Unit) -> Cost | None:
        """What it takes in epochs, or in seconds."""
        return self.epochs if unit == "epochs" else self.seconds

    def as_json(self) -> dict[str, Any]:
        """The row as a JSON object: that of epochs as it always was, that of seconds beside it."""
        return {
            "strategy": self.strategy,
            "scores_rows": made(self.strategy).scores_rows,
            "seeds": self.seeds,
            "reached": self.reached,
            "epochs": self.epochs.middle,
            "low": self.epochs.low,
            "high": self.epochs.high,
            "share_of_random": self.epochs.of_random,
            "share_of_tpe": self.epochs.of_tpe,
            "by_seconds": None if self.seconds is None else asdict(self.seconds),
            "spent": self.spent,
            "stopped": self.stopped,
            "final_share": self.final_share,
            "final_worst": self.final_worst,
        }


@dataclass(frozen=True)
class Line:
    """The hypervolume, as a share of the record's, after so much was spent: median, 10th and 90th percentile
    of the seeds.
    """

    strategy: str
    spent: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """All that a replay found on one record, ``table``. ``budget``: the epochs that random search spends on
    the whole of it; ``budget_s`` the seconds, 0 where the record has none. ``lines`` are by epochs,
    ``lines_s`` by seconds.
    """

    table: str
    rows: tuple[Row, ...]
    lines: tuple[Line, ...]
    lines_s: tuple[Line, ...]
    configurations: int
    left_out: int
    budget: int
    budget_s: float
    slots: int
    reference: tuple[float, float]
    volume: float

    def as_json(self) -> dict[str, Any]:
        """The comparison as a JSON object, without the lines."""
        return {
            "table": self.table,
            "configurations": self.configurations,
            "left_out": self.left_out,
            "slots": self.slots,
            "goal": GOAL,
            "random_epochs": self.budget,
            "random_seconds": self.budget_s or None,
            "reference": list(self.reference),
            "hypervolume": self.volume,
            "strategies": [row.as_json() for row in self.rows],
        }


def compare(
    record: CurveTable,
    names: Sequence[str],
    *,
    seeds: int = 20,
    slots: int = 4,
    table: str = "",
    processes: int = 1,
    on_progress: Listener = silent,
) -> Comparison:
    """Replay each strategy with seeds 0, 1, 2..., so many ``processes`` at once. Random search always ends
    with the whole record, so that its final hypervolume is the record's, whatever the seed.
    """
    for name, value in (("--seeds", seeds), ("--slots", slots), ("--processes", processes)):
        if value < 1:
            raise InputError(f"{name} is {value}, but must be >= 1.")
    if not names:
        raise InputError("--strategies names none, but must name one or more.")
    for name in names:
        made(name)
    runs: dict[str, list[Replayed]] = {name: [] for name in names}
    where = f" on {table}" if table else ""
    with _at_once(processes) as begun:
        waiting = {name: [begun(replay, record, name, s, slots=slots) for s in range(seeds)] for name in runs}
        for name, done in runs.items():
            for seed, result in enumerate(waiting[name]):
                on_progress(Progress(f"Replay {name}{where}", seed, seeds))
                done.append(result())
            on_progress(Progress(f"Replay {name}{where}", seeds, seeds))
    volume = full_volume(record.rows)
    timed = record.has_seconds
    return Comparison(
        table,
        tuple(_against_tpe([_row(name, done, record, volume) for name, done in runs.items()])),
        tuple(_line(name, done, record, volume, "epochs") for name, done in runs.items()),
        tuple(_line(name, done, record, volume, "seconds") for name, done in runs.items()) if timed else (),
        len(record.rows),
        record.left_out,
        int(budget(record.rows)),
        budget(record.rows, "seconds") if timed else 0.0,
        slots,
        reference_point(record.rows),
        volume,
    )


@contextmanager
def _at_once(processes: int) -> Iterator[Callable[..., Callable[[], Replayed]]]:
    """How a call is begun, whose result is then asked for: in another process, or here once it is."""
    if processes == 1:
        yield partial
        return
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            yield lambda *call, **options: pool.submit(*call, **options).result
        except BaseException:  # nobody waits for what runs, which may take minutes
            pool.shutdown(wait=False, cancel_futures=True)
            workers = set(multiprocessing.active_children()) - before
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join()
            raise


def _row(name: str, runs: Sequence[Replayed], record: CurveTable, volume: float) -> Row:
    finals = [run.volumes[-1] / volume for run in runs]
    return Row(
        strategy=name,
        seeds=len(runs),
        reached=sum(run.spent_to(GOAL * volume) is not None for run in runs),
        epochs=_cost(runs, record, volume, "epochs"),
        seconds=_cost(runs, record, volume, "seconds") if record.has_seconds else None,
        spent=statistics.median(run.spent for run in runs),
        stopped=statistics.median(run.stopped for run in runs),
        final_share=statistics.median(finals),
        final_worst=min(finals),
    )


def _cost(runs: Sequence[Replayed], record: CurveTable, volume: float, unit: Unit) -> Cost:
    reached = [run.spent_to(GOAL * volume, unit) for run in runs]
    # A seed that never got there ranks last: a percentile that falls on one is not known.
    ranked = sorted(np.inf if spent is None else spent for spent in reached)
    low, middle, high = (_known(ranked, share) for share in (0.1, 0.5, 0.9))
    return Cost(middle, low, high, None if middle is None else middle / budget(record.rows, unit))


def _against_tpe(rows: Sequence[Row]) -> list[Row]:
    """The rows with their shares of what Optuna's TPE needs, where it was replayed and gets there."""
    tpe = next((row for row in rows if row.strategy == TPE), None)
    if tpe is None:
        return list(rows)
    return [
        replace(
            row,
            epochs=_share_of(row.epochs, tpe.epochs),
            seconds=row.seconds and tpe.seconds and _share_of(row.seconds, tpe.seconds),
        )
        for row in rows
    ]


def _share_of(cost: Cost, tpe: Cost) -> Cost:
    share = None if cost.middle is None or not tpe.middle else cost.middle / tpe.middle
    return replace(cost, of_tpe=share)


def _known(ranked: Sequence[float], share: float) -> float | None:
    at = share * (len(ranked) - 1)
    around = ranked[int(np.floor(at))], ranked[int(np.ceil(at))]
    if np.isinf(around).any():
        return None
    return float(around[0] + (at - np.floor(at)) * (around[1] - around[0]))


def _line(name: str, runs: Sequence[Replayed], record: CurveTable, volume: float, unit: Unit) -> Line:
    spent = np.linspace(0, budget(record.rows, unit), _GRID)
    shares = np.stack([run.at(spent, unit) for run in runs]) / volume
    low, median, high = np.percentile(shares, [10, 50, 90], axis=0)
    return Line(name, *(tuple(values.tolist()) for values in (spent, median, low, high)))
