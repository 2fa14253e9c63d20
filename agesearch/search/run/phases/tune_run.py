"""[ray] A study's trials on Ray Tune, until the manager has none left, it is asked to stop or its time is up.

Ray is imported only inside the functions, after ``ray_session`` has set its environment.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from agesearch.cluster.left_out import LeftOutNodes
from agesearch.cluster.nodes import without
from agesearch.errors import first_line
from agesearch.search.run.driver import Stopping, signals_ask
from agesearch.search.run.trial_manager import TrialManager
from agesearch.search.run.watchdog import Watchdog
from agesearch.search.store.events import Outcome
from agesearch.search.store.records import StudyFolder
from agesearch.session import RaySession
from agesearch.storage import Location, is_full
from agesearch.training.preflight import Plan

if TYPE_CHECKING:
    from ray.tune import Tuner

    from agesearch.search.run.searcher import Deadline, StudySearcher
    from agesearch.search.run.trial_inputs import TrialInputs

#: Tune's own record of the run, which nothing reads; removed when the run ends.
_TUNE_FOLDER = ".tune"

_HELD_BYTES = 64 * 1024**2

_TUNE_ENVIRONMENT = {
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: Tune's would cut what runs
}


def _tuner(
    searcher: StudySearcher, inputs: TrialInputs, slots: Plan, scratch: Location, until: Deadline
) -> Tuner:
    """Ray Tune over the searcher's trials, one actor a trial at once."""
    from ray import tune

    from agesearch.search.run.scheduler import RungScheduler
    from agesearch.search.run.searcher import Watcher
    from agesearch.search.run.trial import run_trial

    alone = slots.workers == 1
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, inputs=inputs),
        # A trial that is not its own worker leaves its CPUs and GPUs to those; Tune wants it to hold a thing.
        partial(_held, slots.gpus_per_trial) if alone else {"memory": _HELD_BYTES},
    )
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=RungScheduler(searcher),
            num_samples=-1,
            reuse_actors=alone,  # stopping an actor is what takes a trial's workers down
            trial_name_creator=lambda trial: trial.config["name"],
            trial_dirname_creator=lambda trial: f"{trial.config['name']}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(scratch.local()),
            stop=until,
            callbacks=[Watcher(searcher)],
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    )


def _held(gpus: float, config: dict[str, Any]) -> Any:
    """What a trial holds, on any node but those that it is to run ``without``."""
    from ray.tune import PlacementGroupFactory

    selector = without(config["without"]).get("label_selector")
    where: dict[str, Any] = {"bundle_label_selector": [selector]} if selector else {}
    return PlacementGroupFactory([{"CPU": 1, "GPU": gpus}], **where)


@dataclass(frozen=True)
class Means:
    """What the trials of a run are trained with: what they share, how many at once, on which Ray, until when
    (by ``time.monotonic``), who asks them to stop, who looks after them, and which nodes train none.
    """

    inputs: TrialInputs
    slots: Plan
    session: RaySession
    deadline: float | None
    stopping: Stopping
    watchdog: Watchdog
    left_out: LeftOutNodes

    def without_deadline(self) -> Means:
        """The same, for as long as it takes."""
        return replace(self, deadline=None)


def search(folder: StudyFolder, manager: TrialManager, means: Means, *, shown: bool = True) -> Outcome:
    """Run the manager's trials; how it ended. They are ``shown`` in Ray's dashboard, where there is one."""
    from agesearch.search.run.searcher import Deadline, StudySearcher
    from agesearch.search.run.trial import TrialCards

    board = TrialCards() if shown and means.session.dashboard_url else None
    slots, stopping, deadline = means.slots, means.stopping, means.deadline
    searcher = StudySearcher(
        manager,
        folder,
        room=slots.room(means.left_out.cpus),
        board=board,
        stopping=stopping,
        watchdog=means.watchdog,
        left_out=means.left_out,
    )
    scratch = folder.root / _TUNE_FOLDER
    scratch.delete()
    until = Deadline(searcher, None if deadline is None else deadline - time.monotonic())
    tuner = _tuner(searcher, means.inputs, slots, scratch, until)
    environment = _TUNE_ENVIRONMENT | {"TUNE_MAX_PENDING_TRIALS_PG": str(slots.most_at_once)}
    with signals_ask(stopping), _environment(environment):
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failed trials are told by our own records
        try:
            tuner.fit()
        except Exception as error:  # Tune's own files; where they had no room, the study's have none either
            if manager.halted or is_full(error):
                manager.halted = manager.halted or f"'{scratch}' could not be written: {first_line(error)}"
            elif not stopping.urgency:  # what dies while a run stops, Ray included, is no fault of the study
                raise
    if board:
        board.close()
    scratch.delete()
    manager.park_all()
    if manager.winding_down and not manager.complete:
        return Outcome.INTERRUPTED
    if manager.stop_reason is not None:
        return Outcome.TIME_UP
    return Outcome.COMPLETE if manager.exhausted else Outcome.INTERRUPTED


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Tune reads these when a run starts; what the user has set stays."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
