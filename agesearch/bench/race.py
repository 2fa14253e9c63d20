"""Trials an hour of a study against a loop that trains the same configurations: ``agesearch bench search``.

Three ways to do the same work, by turns on one machine: the plain loop of ``plain_loop``; the same loop over
our own training, in one process with all threads (``loop``); and a study as ``agesearch tune`` runs it, one
trial a core. The configurations are drawn once; no trial is stopped early.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agesearch.bench.overhead import Stopwatch, untrained_teacher
from agesearch.bench.plain_loop import Columns, plain_search
from agesearch.data.dataset.records import Split, read_manifest
from agesearch.errors import AgeSearchError, InputError
from agesearch.machine import cores
from agesearch.progress import Listener, Progress, silent
from agesearch.search.run.study import RunLimits, run_study
from agesearch.search.space.space import trial_spec
from agesearch.search.store.events import StudyEvent, TrialFinished
from agesearch.session import ray_session
from agesearch.specs import ModelSpec, StudySpec, TrainSpec, Variants
from agesearch.storage import Location

_ARCHS = ("mobilenetv3_small_100", "lcnet_050", "mobilenetv3_small_050")
_NAME = "configuration"

PLAIN, TUNED, STUDY, WHOLE = "plain loop", "loop with our training", "study", "study, start included"


@dataclass(frozen=True)
class Race:
    """Trials an hour of each way, turn by turn.

    ``study`` counts from the first trial's start to the last one's end, ``study, start included`` from the
    call, with Ray's own start. ``over_plain`` and ``over_tuned`` are the ratios of medians of ``study`` to
    the loops. ``overhead_s`` is what a trial of the study took besides its training, at the median.
    """

    configurations: int
    epochs: int
    threads: int
    per_hour: Mapping[str, Sequence[float]]
    over_plain: float
    over_tuned: float
    whole_over_plain: float
    overhead_s: float
    ray_start_s: float


def race(
    dataset: Location,
    *,
    configurations: int = 4,
    epochs: int = 3,
    turns: int = 3,
    input_size: int = 64,
    on_progress: Listener = silent,
) -> Race:
    """Run each way ``turns`` times on the faces of a dataset, whose folder the teacher's answers go to."""
    if min(configurations, epochs, turns) < 1:
        raise InputError("A race needs at least one configuration, one epoch and one turn.")
    study = race_study(configurations, epochs, input_size)
    began = time.perf_counter()
    with ray_session(), tempfile.TemporaryDirectory(prefix="agesearch-race-") as folder:
        ray_start_s = time.perf_counter() - began
        course = _Course(dataset, study, Path(folder), ray_start_s)
        ways: list[tuple[str, Callable[[int], None]]] = [
            (PLAIN, course.plain),
            (TUNED, course.tuned),
            (STUDY, course.study),
        ]
        for turn in range(turns):
            for place in range(len(ways)):  # another one first each turn
                name, way = ways[(turn + place) % len(ways)]
                done = turn * len(ways) + place
                on_progress(Progress("Race", done, turns * len(ways), note=name))
                way(turn)
        on_progress(Progress("Race", turns * len(ways), turns * len(ways)))
        return course.result(epochs)


def race_study(configurations: int, epochs: int, input_size: int, seed: int = 0) -> StudySpec:
    """A study whose trials are the given number of configurations, drawn by the seed."""
    rng = np.random.default_rng(seed)
    student = TrainSpec(model=ModelSpec(arch=_ARCHS[0], input_size=input_size))
    student = student.with_values({"optim.epochs": epochs})
    drawn = {
        f"c{index}": {
            "model.arch": _ARCHS[index % len(_ARCHS)],
            "optim.learning_rate": float(np.exp(rng.uniform(np.log(1e-3), np.log(4e-3)))),
            "augment.strength": float(rng.uniform(0.5, 1.5)),
            "distill.temperature": float(rng.uniform(1.0, 4.0)),
        }
        for index in range(configurations)
    }
    return StudySpec(
        student=student,
        space={_NAME: Variants(variants=drawn)},
        trials=configurations,
        sampler="grid",
        rungs=None,
    )


class _Course:
    """The faces, the configurations and the times."""

    def __init__(self, dataset: Location, study: StudySpec, folder: Path, ray_start_s: float) -> None:
        from agesearch.data.reading.loading import load_split, resident
        from agesearch.distill.targets import teacher_targets

        self._dataset = dataset
        self._study = study
        self._folder = folder
        self._ray_start_s = ray_start_s
        self._teacher = untrained_teacher(Location.of(folder) / "teacher", dataset)
        targets = teacher_targets(self._teacher, dataset, study.student.augment, silent)
        self._splits = [load_split(dataset, split, targets=targets) for split in (Split.TRAIN, Split.VAL)]
        self._train, self._val = (_whole(resident(split)) for split in self._splits)
        names = study.space[_NAME].variants  # type: ignore[union-attr]
        self._specs = [trial_spec(study, {_NAME: name}) for name in names]
        self._rates: dict[str, list[float]] = {PLAIN: [], TUNED: [], STUDY: [], WHOLE: []}
        self._overheads: list[float] = []

    def plain(self, turn: int) -> None:
        """The loop without us."""
        from agesearch.training.loop import use_threads

        use_threads(cores())
        began = time.perf_counter()
        plain_search(self._specs, self._train, self._val)
        self._book(PLAIN, time.perf_counter() - began)

    def tuned(self, turn: int) -> None:
        """The loop over ``train_student``, with its checkpoints and model folders."""
        from agesearch.training.run import train_student

        train, val = self._splits
        crop = read_manifest(self._dataset).crop
        began = time.perf_counter()
        for index, spec in enumerate(self._specs):
            out = Location.of(self._folder / f"tuned-{turn}-{index}").make_dir()
            train_student(spec, train, val, out, crop, threads=cores())
        self._book(TUNED, time.perf_counter() - began)

    def study(self, turn: int) -> None:
        """A study of one trial a core."""
        watch, ended = Stopwatch(), list[float]()

        def listen(event: StudyEvent) -> None:
            now = time.perf_counter()
            watch.listen(event, now)
            if isinstance(event, TrialFinished):
                ended.append(now)

        began = time.perf_counter()
        out = str(self._folder / f"study-{turn}")
        run_study(
            self._study, self._dataset, self._teacher, out, limits=RunLimits(dashboard=False), on_event=listen
        )
        over = time.perf_counter()
        if watch.first is None or len(watch.overheads) < len(self._specs):
            raise AgeSearchError("A trial of the study did not complete: the race has no result.")
        self._overheads += watch.overheads
        self._book(STUDY, ended[-1] - watch.first)
        self._book(WHOLE, over - began + self._ray_start_s)

    def result(self, epochs: int) -> Race:
        """The medians, and their ratios."""
        middle = {name: statistics.median(rates) for name, rates in self._rates.items()}
        return Race(
            configurations=len(self._specs),
            epochs=epochs,
            threads=cores(),
            per_hour=self._rates,
            over_plain=middle[STUDY] / middle[PLAIN],
            over_tuned=middle[STUDY] / middle[TUNED],
            whole_over_plain=middle[WHOLE] / middle[PLAIN],
            overhead_s=statistics.median(self._overheads),
            ray_start_s=self._ray_start_s,
        )

    def _book(self, name: str, seconds: float) -> None:
        self._rates[name].append(3600.0 * len(self._specs) / seconds)


def _whole(blocks: Sequence[Columns]) -> Columns:
    """Blocks of columns in one."""
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
