"""Our study against the careful loop on the same space, faces, machine and seeds, to one hypervolume.

Seconds count from the call: Ray's start is in ours, that of its processes in the loop's. What both know
before is not: the faces decoded for the loop, a teacher's answers, and the latency of each network.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agesearch.bench.overhead import Stopwatch, untrained_teacher
from agesearch.bench.plain_loop import Columns
from agesearch.bench.wallclock.careful_loop import run_loop
from agesearch.bench.wallclock.spent import Reached, Spent, same_goal
from agesearch.data.dataset.arrays import decode_column
from agesearch.data.dataset.records import Split
from agesearch.data.reading.stored_faces import StoredFaces
from agesearch.distill.targets import teacher_targets
from agesearch.errors import AgeSearchError, InputError
from agesearch.machine import cores
from agesearch.measure.speed.latency_table import LatencyTable, machine_cache
from agesearch.metrics import or_nan
from agesearch.models.architectures import Network
from agesearch.progress import Listener, Progress, silent
from agesearch.search.model.acquisition import reference_beyond
from agesearch.search.replay.summary import GOAL
from agesearch.search.run.study import RunLimits, run_study
from agesearch.search.space.space import networks
from agesearch.search.store.events import StudyEvent, TrialFinished
from agesearch.search.store.records import State
from agesearch.specs import Choices, ModelSpec, Range, StudySpec, TrainSpec
from agesearch.storage import Location

_ARCHS = ("lcnet_050", "mobilenetv3_small_050", "mobilenetv3_small_100", "mnasnet_050")
_SIZES = (48, 64)
_VIEWS = 4


@dataclass(frozen=True)
class Heat:
    """One seed: both searches, and when each reached the hypervolume that both reach."""

    seed: int
    ours: Spent
    loop: Spent
    ours_s: float
    loop_s: float

    @property
    def ratio(self) -> float:
        """The loop's seconds over ours."""
        return self.loop_s / self.ours_s


@dataclass(frozen=True)
class WallClock:
    """All seeds of a race of so many ``trials`` of ``epochs`` epochs each."""

    heats: tuple[Heat, ...]
    trials: int
    epochs: int
    cores: int

    @property
    def ratio(self) -> float:
        """The median of the seeds."""
        return statistics.median(heat.ratio for heat in self.heats)

    def as_json(self) -> dict[str, Any]:
        """The race as a JSON object."""
        heats = [asdict(heat) | {"ratio": heat.ratio} for heat in self.heats]
        return {"ratio": self.ratio, "trials": self.trials, "epochs": self.epochs, "cores": self.cores} | {
            "heats": heats
        }


def race_wall_clock(
    dataset: Location,
    teacher: Location | None = None,
    *,
    trials: int = 24,
    epochs: int = 10,
    seeds: int = 3,
    on_progress: Listener = silent,
) -> WallClock:
    """Race with seeds 0, 1, 2...; a teacher's answers are stored beside the dataset. Without a teacher
    students learn from labels.
    """
    if min(trials, epochs, seeds) < 1:
        raise InputError("A race needs at least one trial, one epoch and one seed.")
    with tempfile.TemporaryDirectory(prefix="agesearch-race-") as folder:
        place = Location.of(folder)
        taught = teacher or untrained_teacher(place / "teacher", dataset)
        study = wall_clock_study(trials, epochs, has_teacher=teacher is not None)
        train, val = _columns(dataset, taught, study)
        latencies = _latencies(study, on_progress)
        heats = []
        for seed in range(seeds):
            spec = study.model_copy(update={"seed": seed})
            on_progress(Progress("Race", 2 * seed, 2 * seeds, note="our study"))
            ours = _run_ours(spec, dataset, taught, Path(folder, f"study-{seed}"))
            on_progress(Progress("Race", 2 * seed + 1, 2 * seeds, note="the careful loop"))
            heats.append(_heat(seed, ours, run_loop(spec, train, val, latencies, cores())))
        on_progress(Progress("Race", 2 * seeds, 2 * seeds))
    return WallClock(tuple(heats), trials, epochs, cores())


def wall_clock_study(trials: int, epochs: int, *, has_teacher: bool) -> StudySpec:
    """The space of the race: networks, sides and numbers, all faces in fixed views."""
    student = TrainSpec(model=ModelSpec(arch=_ARCHS[0], input_size=_SIZES[0])).with_values(
        {"optim.epochs": epochs, "augment.views": _VIEWS, "distill.kd_weight": 1.0 if has_teacher else 0.0}
    )
    space: dict[str, Any] = {
        "model.arch": Choices(choices=_ARCHS),
        "model.input_size": Choices(choices=_SIZES),
        "optim.learning_rate": Range(low=3e-4, high=1e-2, log=True),
        "optim.weight_decay": Range(low=1e-3, high=0.2, log=True),
        "distill.label_sigma": Range(low=1.0, high=5.0),
    }
    if has_teacher:
        space["distill.kd_weight"] = Range(low=0.1, high=10.0, log=True)
    return StudySpec(student=student, space=space, trials=trials)


def _columns(dataset: Location, teacher: Location, study: StudySpec) -> tuple[Columns, Columns]:
    """The faces of both splits, decoded, with a teacher's answers for each view where it is listened to."""
    targets = teacher_targets(teacher, dataset, study.student.augment)
    listened = targets if study.student.distill.kd_weight else None
    return _decoded(dataset, Split.TRAIN, listened), _decoded(dataset, Split.VAL, listened)


def _decoded(dataset: Location, split: Split, targets: Sequence[Location] | None) -> Columns:
    stored = StoredFaces.of(dataset, split, targets=targets)
    blocks = [stored.read(shard, np.arange(size)) for shard, size in enumerate(stored.sizes)]
    names = blocks[0].columns
    columns = {name: np.concatenate([block.columns[name] for block in blocks]) for name in names}
    return columns | {"image": np.concatenate([decode_column(block.image, stored.size) for block in blocks])}


def _latencies(study: StudySpec, on_progress: Listener) -> Mapping[Network, float]:
    """Of every network, from where the study will look them up."""
    table, every = LatencyTable(machine_cache()), networks(study)
    known = {}
    for done, network in enumerate(every):
        on_progress(Progress("Latency", done, len(every), note=str(network)))
        known[network] = table.latency(network.model()).latency_ms_p50
    return known


def _run_ours(spec: StudySpec, dataset: Location, teacher: Location, folder: Path) -> Spent:
    watch, reached, records = Stopwatch(), list[Reached](), list[Any]()

    def listen(event: StudyEvent) -> None:
        now = time.perf_counter()
        watch.listen(event, now)
        if isinstance(event, TrialFinished):
            records.append(event.record)
            if event.record.state is State.COMPLETE:
                point = (or_nan(event.record.val_mae_years), or_nan(event.record.latency_ms_p50))
                reached.append(Reached(now - began, point))

    began = time.perf_counter()
    run_study(spec, dataset, teacher, str(folder), limits=RunLimits(dashboard=False), on_event=listen)
    over = time.perf_counter()
    if not reached or watch.first is None:
        raise AgeSearchError("No trial of the study completed: the race has no result.")
    return Spent(
        tuple(reached),
        seconds=over - began,
        start_s=watch.first - began,
        training_s=sum(record.seconds for record in records),
        suggesting_s=None,
        epochs=sum(record.epochs for record in records),
        stopped=sum(record.state is State.PRUNED for record in records),
        slots=cores(),
    )


def _heat(seed: int, ours: Spent, loop: Spent) -> Heat:
    reference = reference_beyond([one.point for search in (ours, loop) for one in search.reached])
    goal = same_goal((ours, loop), GOAL, reference)
    first, second = (search.seconds_to(goal, reference) for search in (ours, loop))
    assert first is not None  # both end above the goal
    assert second is not None
    return Heat(seed, ours, loop, first, second)
