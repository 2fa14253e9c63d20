"""How fast a search decides when it already knows many trials: ``agesearch bench search``.

Histories are generated and kept in memory, so that the figures are those of deciding; a study also writes
each trial into SQLite, which costs the same however many there are. Some trials are paused, so that a
suggestion weighs those, too. Measured on each: one suggestion, telling how a trial ended, the front, one
decision whether a trial goes on, and the memory that the history takes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from agesearch.bench.generated import EPOCHS, LATENCIES, ended_trials, usual_study
from agesearch.errors import InputError
from agesearch.metrics import VAL_MAE_YEARS
from agesearch.progress import Listener, Progress, silent
from agesearch.search.run.suggester import Suggester
from agesearch.search.stopping.curves import StudyCurves
from agesearch.search.store.history import History, TrialCost
from agesearch.search.store.records import State, StudyFolder
from agesearch.specs import RungSpec
from agesearch.storage import Location

#: Of so many finished trials one more is paused.
_FINISHED_A_PAUSED = 10


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
    spec, process = usual_study(), psutil.Process()
    before = process.memory_info().rss
    history = History.in_memory(spec)
    history.latencies = LATENCIES
    history.add(ended_trials(spec, size))
    for record in history.newest(size // _FINISHED_A_PAUSED):
        waiting = history.begin(record.params)
        spent = TrialCost(RungSpec().first_epoch, 1.0, record.curve[: RungSpec().first_epoch])
        history.pause(waiting.number, "unlikely to reach the front", spent)
    suggester, curves = Suggester(history, spec), StudyCurves(StudyFolder(Location.of("nowhere")), spec)
    times: dict[str, list[float]] = {}
    for _ in range(calls):
        _one_trial(history, suggester, curves, times)
    medians = {f"{name}_ms": 1e3 * statistics.median(taken) for name, taken in times.items()}
    return SearchSpeed(size, (process.memory_info().rss - before) / 1e6, **medians)


def _one_trial(
    history: History, suggester: Suggester, curves: StudyCurves, times: dict[str, list[float]]
) -> None:
    record = _timed(times, "suggest", suggester.suggest)
    if record.state is State.PAUSED:
        record = history.unpause(record.number)
    for epoch in range(1, RungSpec().first_epoch + 1):
        curves.hear(record.number, epoch, 9.0 - epoch / 2)
    _timed(times, "rung", lambda: suggester.verdict(curves.curve(record)))
    spent = TrialCost(EPOCHS, 1.0, tuple(8.0 - epoch / 10 for epoch in range(EPOCHS)))
    _timed(times, "tell", lambda: history.complete(record.number, {VAL_MAE_YEARS: 7.0}, spent))
    _timed(times, "front", history.front)


def _timed(times: dict[str, list[float]], name: str, call: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = call()
    times.setdefault(name, []).append(time.perf_counter() - started)
    return result
