"""Whether one driver keeps a cluster busy: ``agesearch bench cluster``.

A study runs on slots that only pretend to train (``simulated_actors``). All that drives them is real: Ray
Tune's controller, our searcher, scheduler and manager, Optuna's SQLite file, ``trials.parquet``. Each of the
driver's steps is charged to a simulated clock at its real cost; while the driver works, slots that have
reported wait. So a study of hours takes the minutes that its driver works, and the share of slot-time that
is spent training is what a cluster of that size would see.

Not in it: other machines, and what Ray itself does for each event, which ``event_ms`` stands for.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agesearch.bench.cluster.simulated_clock import Meter, SimulatedClock, busy_share
from agesearch.bench.generated import ARCHS, EPOCHS, LATENCIES, SIZES, usual_study
from agesearch.cluster.room import Room
from agesearch.errors import AgeSearchError, InputError
from agesearch.progress import Listener, Progress, silent
from agesearch.search.run.trial_manager import TrialManager
from agesearch.search.store.events import StudyEvent, TrialFinished, TrialStarted
from agesearch.search.store.history import History
from agesearch.search.store.records import StudyFolder
from agesearch.specs import StudySpec, TrainSpec
from agesearch.storage import Location

if TYPE_CHECKING:
    from agesearch.bench.cluster.simulated_actors import Plan, SimulatedActors
    from agesearch.search.run.searcher import StudySearcher

#: Ray's own work for one event among 1,000 unanswered calls, in ms.
EVENT_MS = 1.0

#: Spread of the logarithm of a trial's duration.
_SPREAD = 0.4

_TUNE = "Ray Tune"


@dataclass(frozen=True)
class Occupancy:
    """What a simulated study tells of its driver; seconds are those of the simulated clock.

    ``busy_share`` is the share of slot-time spent training from the study's start, when no process is up,
    until the last trial was handed out; ``steady_share`` the same from the moment when every slot had begun
    to train (None where that never came). ``driver_share`` is the share of that first span in which the
    driver worked, ``driver_s`` what on over the whole study; ``trials_per_s`` is how many trials a second
    the driver could see through if slots were never what it waits for. ``wall_s`` is how long it all took.
    """

    slots: int
    trials: int
    states: Mapping[str, int]
    epochs: int
    events: int
    clock: str
    trial_s: float
    busy_share: float
    steady_share: float | None
    driver_share: float
    study_s: float
    driver_s: Mapping[str, float]
    trials_per_s: float
    wall_s: float


def measure_cluster(
    slots: int = 1000,
    trials: int = 10_000,
    *,
    trial_s: float = 600.0,
    event_ms: float = EVENT_MS,
    start_s: float = 5.0,
    cpu_time: bool = False,
    seed: int = 0,
    on_progress: Listener = silent,
) -> Occupancy:
    """Run a study of ``trials`` on ``slots`` simulated slots, in a temporary folder.

    A trial of a whole budget takes ``trial_s`` seconds at the median, log-normal; ``start_s`` is how long a
    slot's process takes to start. With ``cpu_time`` the driver is charged its processor time instead of the
    time on the wall, for machines that do other things too (waiting for the disk is free then). Needs no Ray
    session. Raises ``AgeSearchError`` where the study cannot be written.
    """
    if slots < 1 or trials < 1 or not trial_s > 0:
        raise InputError("A simulated cluster needs at least one slot, one trial, and trials that take time.")
    began = time.perf_counter()
    work = _Workload(trial_s, seed)
    with tempfile.TemporaryDirectory(prefix="agesearch-cluster-") as folder:
        clock = SimulatedClock(time.process_time if cpu_time else time.perf_counter)
        driver = _Driver(StudyFolder(Location.of(folder)), usual_study(trials), slots, clock, on_progress)
        actors = driver.run(work.plan, start_s, event_ms / 1e3)
        found = driver.occupancy(actors)
    clock_name = "cpu" if cpu_time else "wall"
    return Occupancy(**found, clock=clock_name, trial_s=trial_s, wall_s=time.perf_counter() - began)


class _Workload:
    """What the simulated trials are: how long each takes and how its error falls, by its configuration."""

    def __init__(self, trial_s: float, seed: int) -> None:
        self._trial_s = trial_s
        self._seed = seed

    def plan(self, config: Mapping[str, Any]) -> Plan:
        """Seconds and errors of the trial of a Tune config: larger networks err less, and the farther its
        numbers lie from the best ones, the more it errs.
        """
        train = TrainSpec.model_validate_json(config["spec"])
        rng = np.random.default_rng([self._seed, int(config["number"])])
        size = (ARCHS.index(train.model.arch) + 1) * train.model.input_size / SIZES[-1]
        off = abs(math.log(train.optim.learning_rate / 2e-3)) + abs(train.augment.strength - 1.0)
        final = 5.0 + 4.0 / size + off + rng.gamma(2.0, 0.2)
        pace = rng.uniform(0.6, 0.85)
        noise = rng.normal(0.0, 0.1, EPOCHS)
        errors = tuple(float(final + 12.0 * pace ** (epoch + 1) + noise[epoch]) for epoch in range(EPOCHS))
        return float(self._trial_s * rng.lognormal(0.0, _SPREAD)), errors


class _Driver:
    """The driver's real parts, put together as ``search.study`` does, and watched."""

    def __init__(
        self, folder: StudyFolder, spec: StudySpec, slots: int, clock: SimulatedClock, on_progress: Listener
    ) -> None:
        self._folder = folder
        self._spec = spec
        self._slots = slots
        self._clock = clock
        self._on_progress = on_progress
        self._history = History.open(folder.database, spec)
        self._manager = TrialManager(folder, self._history, spec, latencies=LATENCIES, on_event=self._hear)
        self._begun = 0
        self._full: float | None = None  # when every slot had begun to train
        self._last_begun = 0.0
        self._driver_then = 0.0

    def run(
        self, plan: Callable[[Mapping[str, Any]], Plan], start_s: float, event_s: float
    ) -> SimulatedActors:
        """Drive the study to its end."""
        from agesearch.session import set_environment

        set_environment()
        from agesearch.bench.cluster.simulated_actors import SimulatedActors, controller_of
        from agesearch.search.run.searcher import StudySearcher

        searcher = StudySearcher(self._manager, self._folder, room=Room(self._slots))
        actors = SimulatedActors(self._slots, plan, self._clock, start_s=start_s, event_s=event_s)
        scratch = str((self._folder.root / ".tune").local())
        with self._clock.unpaid():  # as long for any study
            controller = controller_of(searcher, actors, scratch, self._slots)
        self._meter = Meter(self._clock, _TUNE)
        _attend(self._meter, searcher, self._manager, self._history)
        while not controller.is_finished():
            controller.step()
        if self._manager.halted:
            raise AgeSearchError(f"The simulated study stopped: {self._manager.halted}")
        self._meter.note()
        self._clock.charge()
        return actors

    def occupancy(self, actors: SimulatedActors) -> dict[str, Any]:
        """The fields of ``Occupancy`` that the study itself knows."""
        records, trained, end = self._history.all(), actors.trained, self._last_begun
        by_label = self._meter.seconds | {"Ray, by event": actors.events * actors.event_s}
        full = self._full
        return {
            "slots": self._slots,
            "trials": len(records),
            "states": dict(Counter(record.state.value for record in records)),
            "epochs": len(trained),
            "events": actors.events,
            "busy_share": busy_share(trained, self._slots, 0.0, end),
            "steady_share": None if full is None else busy_share(trained, self._slots, full, end),
            "driver_share": self._driver_then / end if end else 0.0,
            "study_s": self._clock.now,
            "driver_s": {name: by_label[name] for name in sorted(by_label, key=by_label.__getitem__)[::-1]},
            "trials_per_s": len(records) / self._clock.driver,
        }

    def _hear(self, event: StudyEvent) -> None:
        with self._clock.unpaid():
            if isinstance(event, TrialStarted):
                self._begun += 1
                self._last_begun, self._driver_then = self._clock.now, self._clock.driver
                if self._begun == self._slots:
                    self._full = self._clock.now
            elif isinstance(event, TrialFinished):
                note = f"{event.finished} of {event.total} trials at {self._clock.now:.0f} simulated s"
                self._on_progress(Progress("Simulated study", event.finished, event.total, note=note))


def _attend(meter: Meter, searcher: StudySearcher, manager: TrialManager, history: History) -> None:
    """Watch what the driver's time goes to."""
    meter.watch(manager.suggester, "propose", "suggestions")
    for name in ("begin", "knows_latency", "complete", "prune", "pause", "unpause", "fail"):
        meter.watch(history, name, "SQLite")
    for name in ("report", "settle_lost"):
        meter.watch(searcher, name, "reports" if name == "report" else "watching for lost trials")
    for name in ("began", "ended"):
        meter.watch(manager, name, "records for readers")
    meter.watch(history, "front", "front")
