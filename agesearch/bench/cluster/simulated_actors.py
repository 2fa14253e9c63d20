"""[ray] Actors that train nothing, under a clock that costs nothing to wait for: Ray Tune's own controller
drives them as it drives real ones.

``SimulatedActors`` stands in for Tune's ``RayActorManager``. Whatever the driver does is charged to the clock
at its real cost; what the actors do takes simulated time. One event is handed over at a time, as by Ray.
"""

from __future__ import annotations

import heapq
import itertools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray.tune import PlacementGroupFactory
from ray.tune.registry import register_trainable
from ray.tune.result import RESULT_DUPLICATE
from ray.tune.search.search_generator import SearchGenerator

from agesearch.bench.cluster import ray_internals
from agesearch.bench.cluster.simulated_clock import SimulatedClock
from agesearch.metrics import EPOCH, VAL_CS5, VAL_MAE_YEARS
from agesearch.search.run.reports import COMPLETED, OUTCOME, SECONDS
from agesearch.search.run.scheduler import RungScheduler
from agesearch.search.run.searcher import Deadline, StudySearcher, Watcher

_NAME = "trials"

#: An actor as Tune's controller knows it (``ray_internals.tracked_actor``).
_Tracked = Any

#: Seconds that a trial's epochs take, and the error in years after each.
Plan = tuple[float, tuple[float, ...]]


@dataclass
class _Actor:
    """One slot's process: its trial, the trial's plan, and how many epochs of it are reported."""

    number: int
    plan: Plan
    epochs: int = 0
    over: bool = False


class SimulatedActors:
    """``slots`` actors that report the epochs of ``plan(config)``, a result dict each, and then the end.

    A new actor takes ``start_s``, every event ``event_s`` of the driver (Ray's own bookkeeping). ``trained``
    gathers the (begin, end) of every epoch.
    """

    def __init__(
        self,
        slots: int,
        plan: Callable[[Mapping[str, Any]], Plan],
        clock: SimulatedClock,
        *,
        start_s: float,
        event_s: float,
    ) -> None:
        self.clock = clock
        self.trained: list[tuple[float, float]] = []
        self.events = 0
        self._slots = slots
        self._plan = plan
        self._start_s = start_s
        self.event_s = event_s
        self._queue: list[tuple[float, int, _Tracked, Callable[[], None]]] = []
        self._order = itertools.count()
        self._pending: dict[_Tracked, dict[str, Any]] = {}
        self._live: dict[_Tracked, _Actor] = {}
        self._reported: dict[int, int] = {}  # epochs of each trial
        # Tune looks an actor's handle up here, only to keep it beside the trial
        self._live_actors_to_ray_actors_resources: dict[_Tracked, tuple[Any, Any]] = {}

    def next(self, timeout: float = 0.0) -> bool:
        """Hand over the event that is due first, within ``timeout`` seconds of the clock."""
        now = self.clock.charge()
        if not self._queue or self._queue[0][0] > now + timeout:
            self.clock.wait_until(now + timeout)
            return False
        moment, _, _, deliver = heapq.heappop(self._queue)
        self.clock.wait_until(moment)
        self.clock.charge(self.event_s)
        self.events += 1
        deliver()
        return True

    def add_actor(
        self,
        cls: Any,
        kwargs: dict[str, Any],
        resource_request: PlacementGroupFactory,
        *,
        on_start: Callable[[_Tracked], None],
        on_stop: Callable[[_Tracked], None],
        on_error: Callable[[_Tracked, Exception], None],
    ) -> _Tracked:
        """A new process for a trial; it waits while all slots are taken."""
        actor = ray_internals.tracked_actor(
            next(self._order), on_start=on_start, on_stop=on_stop, on_error=on_error
        )
        self._pending[actor] = kwargs["config"]
        self._start_pending()
        return actor

    def remove_actor(self, tracked_actor: _Tracked, kill: bool = False, stop_future: Any = None) -> bool:
        """End a process; its slot is free at once."""
        if self._pending.pop(tracked_actor, None) is not None:
            return False
        self.clear_actor_task_futures(tracked_actor)
        del self._live[tracked_actor]
        del self._live_actors_to_ray_actors_resources[tracked_actor]
        ray_internals.tell_stopped(tracked_actor)
        self._start_pending()
        return True

    def schedule_actor_task(
        self,
        tracked_actor: _Tracked,
        method_name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        on_result: Callable[[_Tracked, Any], None] | None = None,
        on_error: Callable[[_Tracked, Exception], None] | None = None,
        _return_future: bool = False,
    ) -> None:
        """``train`` one epoch, ``reset`` to another trial's config, or ``stop``."""
        if on_result is None:
            return
        now = self.clock.charge()
        takes, result = self._answer(tracked_actor, method_name, args)
        if method_name == "train" and takes:
            self.trained.append((now, now + takes))
        self._at(now + takes, tracked_actor, lambda: on_result(tracked_actor, result))

    def clear_actor_task_futures(self, tracked_actor: _Tracked) -> None:
        """Nobody waits for this actor's answers any more. Tune asks only after the last one was handed
        over.
        """

    def is_actor_started(self, tracked_actor: _Tracked) -> bool:
        return tracked_actor in self._live_actors_to_ray_actors_resources

    def is_actor_failed(self, tracked_actor: _Tracked) -> bool:
        return False

    def get_live_actors_resources(self) -> dict[str, float]:
        return {"CPU": float(len(self._live))}

    def cleanup(self) -> None:
        """Nothing holds anything."""

    @property
    def num_live_actors(self) -> int:
        return len(self._live)

    @property
    def num_pending_actors(self) -> int:
        return len(self._pending)

    @property
    def num_total_actors(self) -> int:
        return len(self._live) + len(self._pending)

    @property
    def num_actor_tasks(self) -> int:
        return len(self._queue)

    def _start_pending(self) -> None:
        while self._pending and len(self._live) < self._slots:
            tracked = next(iter(self._pending))
            self._live[tracked] = self._begun(self._pending.pop(tracked))
            self._at(self.clock.charge() + self._start_s, tracked, partial(self._started, tracked))

    def _started(self, tracked: _Tracked) -> None:
        self._live_actors_to_ray_actors_resources[tracked] = (None, None)
        ray_internals.tell_started(tracked)

    def _begun(self, config: Mapping[str, Any]) -> _Actor:
        """A process at the first epoch of its trial, or where the trial was paused."""
        number = int(config["number"])
        with self.clock.unpaid():
            return _Actor(number, self._plan(config), self._reported.get(number, 0))

    def _at(self, moment: float, tracked: _Tracked, deliver: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (moment, next(self._order), tracked, deliver))

    def _answer(self, tracked: _Tracked, method: str, args: tuple[Any, ...]) -> tuple[float, Any]:
        """How long a task takes, and what it returns."""
        if method == "reset":
            self._live[tracked] = self._begun(args[0])
            return 0.0, True
        actor = self._live[tracked]
        seconds, errors = actor.plan
        if actor.over:
            return 0.0, {RESULT_DUPLICATE: True}
        result: dict[str, Any] = {VAL_MAE_YEARS: min(errors), VAL_CS5: 0.5, EPOCH: len(errors)}
        if actor.epochs == len(errors):
            actor.over = True
            return 0.0, _filled({**result, OUTCOME: COMPLETED, SECONDS: seconds}, actor.epochs)
        result |= {EPOCH: float(actor.epochs + 1), VAL_MAE_YEARS: errors[actor.epochs]}
        actor.epochs = self._reported[actor.number] = actor.epochs + 1
        trained = seconds * actor.epochs / len(errors)
        return seconds / len(errors), _filled({**result, SECONDS: trained}, actor.epochs)


def _filled(result: dict[str, Any], iteration: int) -> dict[str, Any]:
    """A result with what a Tune actor adds to it."""
    added = {"done": False, "training_iteration": iteration, "timestamp": 0, "pid": 1, "hostname": "node"}
    added |= {"node_ip": "127.0.0.1", "time_this_iter_s": 1.0, "time_total_s": 1.0, "date": "", "config": {}}
    added |= {"time_since_restore": 1.0, "iterations_since_restore": iteration, "checkpoint_dir_name": None}
    return {**added, **result}


def controller_of(searcher: StudySearcher, actors: SimulatedActors, scratch: str, slots: int) -> Any:
    """Tune's controller as ``search.study`` has it set up, with these actors."""
    ray_internals.require_parts()
    os.environ |= {"TUNE_MAX_PENDING_TRIALS_PG": str(slots), "TUNE_GLOBAL_CHECKPOINT_S": "3600"}
    register_trainable(_NAME, lambda config: None, warn=False)
    planned = ray_internals.experiment(
        _NAME,
        _NAME,
        num_samples=sys.maxsize,
        storage_path=scratch,
        stop=Deadline(searcher, None),
        trial_name_creator=lambda trial: trial.config["name"],
        trial_dirname_creator=lambda trial: f"{trial.config['name']}-{trial.trial_id}",
        resources_per_trial=PlacementGroupFactory([{"CPU": 1.0}]),
    )
    algorithm = SearchGenerator(searcher)
    made = ray_internals.controller(
        actors,
        search_alg=algorithm,
        scheduler=RungScheduler(searcher),
        stopper=planned.stopper,
        callbacks=[Watcher(searcher)],
        trial_checkpoint_config=planned.checkpoint_config,
        storage=planned.storage,
        reuse_actors=True,
    )
    algorithm.add_configurations([planned])
    made.setup_experiments(experiments=[planned], total_num_samples=-1)
    return made
