"""Models timed in turns on every engine of this machine: rows, each one's best engine, ratios with intervals.

The ratio of two models is taken within each round of turns, in which both ran moments apart; its interval is
over the rounds. Each model stands on its best engine: the fastest of those that are not known to answer worse
(``agesearch.measure.speed.gate``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from pydantic import Field

from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.measure.intervals import Estimate, Persons, estimate
from agesearch.measure.speed.footprint import Footprint, FootprintRow
from agesearch.measure.speed.gate import Gate
from agesearch.measure.speed.hardware import hardware_name
from agesearch.measure.speed.rows import Setting, SpeedRow
from agesearch.measure.speed.steps import StepRow
from agesearch.measure.speed.subjects import Subject
from agesearch.measure.speed.timing import MIN_CALLS, TimedModel, Timing, in_turns
from agesearch.models.runtimes.engines import FP32, INT8, Engine
from agesearch.models.scorers import fault
from agesearch.progress import Listener, Progress, silent
from agesearch.provenance import now
from agesearch.specs import SharedRecord, Spec

#: Rounds of turns: what a ratio's interval is drawn over.
ROUNDS = 10

#: What is known of a model's answers on an engine: as good as in fp32, worse, or nothing.
AS_GOOD, WORSE, UNKNOWN = "as good", "worse", "unknown"


class Best(Spec):
    """A model's fastest engine under a setting, of those that are not known to answer worse, on the CPU or on
    the GPU that ``device`` names; ``answers`` is what is known of it, ``fp32_ms`` the median of its fastest
    engine in fp32 there.
    """

    model: str
    threads: int
    batch: int
    runtime: str
    precision: str
    latency_ms_p50: float
    fp32_ms: float | None
    answers: str
    device: str = Field("", exclude_if=lambda value: not value)


class SpeedRatio(Spec):
    """How many times as fast as ``slower`` the model ``faster`` is, each on its best engine of one ``device``
    ("": the CPU), with its 95 % interval over the rounds.
    """

    faster: str
    slower: str
    threads: int
    batch: int
    times: float
    low: float
    high: float
    device: str = Field("", exclude_if=lambda value: not value)


class LeftOut(Spec):
    """A model that was not timed on an engine, and why."""

    model: str
    runtime: str
    precision: str
    reason: str


class SpeedComparison(SharedRecord):
    """What ``agesearch measure speed`` found: what ``--json`` prints."""

    hardware: str
    rounds: int
    rows: tuple[SpeedRow, ...]
    best: tuple[Best, ...]
    ratios: tuple[SpeedRatio, ...]
    steps: dict[str, tuple[StepRow, ...]]
    gates: dict[str, tuple[Gate, ...]]
    footprints: tuple[FootprintRow, ...] = ()
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    created: str


def compare_speed(
    subjects: Sequence[Subject],
    engines: Sequence[Engine],
    settings: Sequence[Setting],
    *,
    gates: Mapping[str, Sequence[Gate]] | None = None,
    steps: Mapping[str, Sequence[StepRow]] | None = None,
    notes: Sequence[str] = (),
    weigh: Callable[[TimedModel], Footprint] | None = None,
    only_known: bool = False,
    calls: int = MIN_CALLS,
    rounds: int = ROUNDS,
    on_progress: Listener = silent,
) -> SpeedComparison:
    """Time all models on all engines under all settings, in turns.

    ``gates`` are those of each model that are known, by its name; they, ``steps`` and ``notes`` go into the
    record as they are. ``weigh`` measures the memory of each model on each engine. ``only_known`` leaves out
    the engines on which a model is not known to answer as well: those but fp32 without a gate that holds.
    Raises ``InputError`` where nothing could be timed.
    """
    judged = {name: tuple(found) for name, found in (gates or {}).items()}
    known = {
        (name, gate.engine): AS_GOOD if gate.holds else WORSE
        for name, found in judged.items()
        for gate in found
    }
    pairs = [
        (subject, engine)
        for subject in subjects
        for engine in engines
        if not only_known or engine.precision == FP32 or known.get((subject.name, engine)) == AS_GOOD
    ]
    timed, layers, left_out = _timed_models(pairs, on_progress)
    if not timed:
        raise InputError("; ".join(f"{out.model}: {out.reason}" for out in left_out))
    found = in_turns(timed, settings, calls=calls, rounds=rounds, on_progress=on_progress)
    footprints = _footprints(timed, weigh, on_progress) if weigh is not None else ()
    rows = [timing.row.with_values(layers[timing.row.model, timing.row.engine]) for timing in found]
    chosen = [each for setting in settings for each in _best(found, setting, known)]
    return SpeedComparison(
        hardware=hardware_name(),
        rounds=rounds,
        rows=tuple(rows),
        best=tuple(_best_row(found, timing, known) for timing in chosen),
        ratios=tuple(_ratios(chosen)),
        steps={name: tuple(found) for name, found in (steps or {}).items()},
        gates=judged,
        footprints=tuple(footprints),
        left_out=tuple(left_out),
        notes=tuple(notes),
        created=now(),
    )


def _timed_models(
    pairs: Sequence[tuple[Subject, Engine]], on_progress: Listener
) -> tuple[list[TimedModel], dict[tuple[str, Engine], dict[str, int]], list[LeftOut]]:
    """Each model on each engine that runs it, how many layers ran as asked, and what does not run."""
    timed: list[TimedModel] = []
    layers: dict[tuple[str, Engine], dict[str, int]] = {}
    left_out: list[LeftOut] = []
    quantised: dict[str, tuple[Subject, str | None]] = {}
    for done, (subject, engine) in enumerate(pairs):
        on_progress(Progress("Opening", done, len(pairs), note=f"{subject.name} on {engine}"))
        reason = None
        if engine.precision == INT8:
            if subject.name not in quantised:
                quantised[subject.name] = _quantised(subject)
            subject, reason = quantised[subject.name]
        reason = reason or fault(subject.scorer, engine)
        if reason is not None:
            left_out.append(LeftOut(model=subject.name, **engine._asdict(), reason=reason))
            continue
        found = subject.scorer.layers(engine)
        layers[subject.name, engine] = {"layers": found.count, "layers_as_asked": found.as_asked}
        size = subject.scorer.input_size
        timed.append(TimedModel(subject.name, subject.scorer, subject.arch, size, engine))
    on_progress(Progress("Opening", len(pairs), len(pairs)))
    return timed, layers, left_out


def _footprints(
    timed: Sequence[TimedModel], weigh: Callable[[TimedModel], Footprint], on_progress: Listener
) -> Iterator[FootprintRow]:
    for done, model in enumerate(timed):
        on_progress(Progress("Memory", done, len(timed), note=model.shown))
        yield FootprintRow(model=model.name, **model.engine._asdict(), **weigh(model).model_dump())
    on_progress(Progress("Memory", len(timed), len(timed)))


def _quantised(subject: Subject) -> tuple[Subject, str | None]:
    """The model with an int8 network, or why it has none."""
    try:
        return subject.with_int8(), None
    except AgeSearchError as error:
        return subject, first_line(error).rstrip(".")


def _best(found: Sequence[Timing], setting: Setting, known: Mapping[tuple[str, Engine], str]) -> list[Timing]:
    """Each model on its best engine of the CPU under a setting, and of a GPU where it was timed on one, in
    the order of the models.
    """
    at = [timing for timing in found if timing.row.setting == setting]
    chosen: dict[tuple[str, str], Timing] = {}
    for timing in at:
        row = timing.row
        if known.get((row.model, row.engine)) == WORSE:
            continue
        best = chosen.setdefault((row.device, row.model), timing)
        if row.latency_ms_p50 < best.row.latency_ms_p50:
            chosen[row.device, row.model] = timing
    return list(chosen.values())


def _best_row(found: Sequence[Timing], best: Timing, known: Mapping[tuple[str, Engine], str]) -> Best:
    row = best.row
    there = (row.setting, row.device)
    alike = [timing.row for timing in found if (timing.row.setting, timing.row.device) == there]
    floats = [each.latency_ms_p50 for each in alike if (each.model, each.precision) == (row.model, FP32)]
    return Best(
        model=row.model,
        threads=row.threads,
        batch=row.batch,
        **row.engine._asdict(),
        latency_ms_p50=row.latency_ms_p50,
        fp32_ms=min(floats, default=None),
        answers=AS_GOOD if row.precision == FP32 else known.get((row.model, row.engine), UNKNOWN),
        device=row.device,
    )


def _ratios(chosen: Sequence[Timing]) -> Iterator[SpeedRatio]:
    """All pairs of models under one setting on one device, the slower one's median over the faster one's."""
    for one, other in itertools.combinations(chosen, 2):
        if (one.row.setting, one.row.device) != (other.row.setting, other.row.device):
            continue
        fast, slow = sorted((one, other), key=lambda timing: timing.row.latency_ms_p50)
        times = times_as_fast(fast.rounds, slow.rounds)
        yield SpeedRatio(
            faster=fast.row.model,
            slower=slow.row.model,
            threads=fast.row.threads,
            batch=fast.row.batch,
            times=round(times.value, 3),
            low=round(times.low, 3),
            high=round(times.high, 3),
            device=fast.row.device,
        )


def times_as_fast(fast: Sequence[float], slow: Sequence[float]) -> Estimate:
    """How many times longer ``slow`` takes than ``fast``, from the medians of the same rounds: the geometric
    mean over the rounds with its 95 % interval.
    """
    logs = np.log(np.asarray(slow, dtype=np.float64)) - np.log(np.asarray(fast, dtype=np.float64))
    found = estimate(logs, Persons.each(len(logs)))
    return Estimate(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.faces)
