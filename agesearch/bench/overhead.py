"""What a trial costs besides its own training: ``agesearch bench overhead``.

A study of short trials runs as any other. A trial's overhead is the time between the end of the trial before
it on the same slot and its own end, less the seconds inside ``train_student``: suggesting, handing over,
reporting, recording. Starting Ray and the slots' processes happens once for a study and is told apart.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agesearch.data.dataset.records import read_manifest
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.errors import AgeSearchError
from agesearch.models.folder import write_model
from agesearch.models.manifest import ModelManifest
from agesearch.models.zoo import build
from agesearch.search.run.study import RunLimits, run_study
from agesearch.search.store.events import EventListener, StudyEvent, TrialFinished, TrialStarted, unheard
from agesearch.search.store.records import State
from agesearch.specs import Choices, ModelSpec, Range, StudySpec, TrainSpec
from agesearch.storage import Location

_ARCHS = ("mobilenetv3_small_050", "lcnet_050")
_INPUT_SIZE = 48


@dataclass(frozen=True)
class Overhead:
    """Seconds a trial outside ``train_student``; ``training_s`` is the mean inside, ``start_s`` the study's
    start.
    """

    trials: int
    concurrency: int
    mean_s: float
    median_s: float
    max_s: float
    training_s: float
    start_s: float


@dataclass
class Stopwatch:
    """Measures a study's gaps from its events and the seconds they came at."""

    overheads: list[float] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    first: float | None = None
    _free: list[float] = field(default_factory=list)
    _since: dict[int, float] = field(default_factory=dict)

    def listen(self, event: StudyEvent, now: float) -> None:
        """Take an event that came at ``now`` seconds."""
        if isinstance(event, TrialStarted):
            self.first = now if self.first is None else self.first
            # The slot that has been free longest; the first trial of a slot waited for its process only.
            self._since[event.record.number] = self._free.pop(0) if self._free else now
        elif isinstance(event, TrialFinished) and event.record.number in self._since:
            taken = now - self._since.pop(event.record.number)
            self._free.append(now)
            if event.record.state is State.COMPLETE:
                self.overheads.append(taken - event.record.seconds)
                self.training.append(event.record.seconds)


@contextmanager
def bench_faces(dataset: Location | None = None) -> Iterator[Location]:
    """The dataset to measure on; by default a copy of the demo's faces, since targets are written beside."""
    if dataset is not None:
        yield dataset
        return
    with tempfile.TemporaryDirectory(prefix="agesearch-faces-") as folder:
        copy = Path(folder, "faces")
        shutil.copytree(demo_pack().local(), copy, ignore=shutil.ignore_patterns(".*"))
        yield Location.of(copy)


def measure_overhead(
    dataset: Location, *, trials: int = 20, concurrency: int | None = None, on_event: EventListener = unheard
) -> Overhead:
    """Run a study of short trials on a dataset, in a temporary folder, and tell what each cost besides
    training.
    """
    watch = Stopwatch()
    slots = 0

    def listen(event: StudyEvent) -> None:
        nonlocal slots
        slots = getattr(event, "concurrency", slots)
        watch.listen(event, time.perf_counter())
        on_event(event)

    with tempfile.TemporaryDirectory(prefix="agesearch-overhead-") as folder:
        teacher = untrained_teacher(Location.of(Path(folder)) / "teacher", dataset)
        began = time.perf_counter()
        limits = RunLimits(concurrency=concurrency, dashboard=False)
        run_study(
            _short_trials(trials),
            dataset,
            teacher,
            str(Path(folder, "study")),
            limits=limits,
            on_event=listen,
        )
    if not watch.overheads or watch.first is None:
        raise AgeSearchError("No trial of the benchmark completed.")
    return Overhead(
        trials=len(watch.overheads),
        concurrency=slots,
        mean_s=statistics.fmean(watch.overheads),
        median_s=statistics.median(watch.overheads),
        max_s=max(watch.overheads),
        training_s=statistics.fmean(watch.training),
        start_s=watch.first - began,
    )


def _short_trials(trials: int) -> StudySpec:
    student = TrainSpec(model=ModelSpec(arch=_ARCHS[0], input_size=_INPUT_SIZE)).with_values(
        {"optim.epochs": 2}
    )
    space = {
        "model.arch": Choices(choices=_ARCHS),
        "optim.learning_rate": Range(low=1e-3, high=1e-2, log=True),
        "distill.temperature": Range(low=1.0, high=4.0),
        "augment.strength": Range(low=0.0, high=1.0),
    }
    return StudySpec(student=student, space=space, trials=trials, startup_trials=min(8, trials))


def untrained_teacher(folder: Location, dataset: Location) -> Location:
    """A teacher that knows nothing: its targets cost a trial what a good one's cost."""
    model = ModelSpec(arch=_ARCHS[0], input_size=_INPUT_SIZE)
    net = build(model)
    crop = read_manifest(dataset).crop
    manifest = ModelManifest(kind="teacher", model=model, crop=crop, parameters=net.parameter_count)
    write_model(folder, net.state_dict(), manifest)
    return folder
