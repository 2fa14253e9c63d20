"""[ray] One trial inside its reused Tune actor, and its card in the Ray dashboard.

Imported late, once ``ray_session`` has set Ray's environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ray
from ray import tune

from agesearch.cluster.nodes import this_node, unreadable, unwritable
from agesearch.cluster.ray_internals import name_process
from agesearch.errors import ConflictError, NodeFaultError, StorageFullError, first_line
from agesearch.machine import NODE_VARIABLE, node_name
from agesearch.metrics import EPOCH
from agesearch.search.run.ddp import train_ddp
from agesearch.search.run.published.trial import WorkingTrial, working_trial
from agesearch.search.run.reports import (
    COMPLETED,
    CUT,
    FAILED,
    MISPLACED,
    NODE,
    NODE_ID,
    NOTE,
    OUTCOME,
    REASON,
    SECONDS,
    STOPPED,
)
from agesearch.search.run.trial_inputs import TrialInputs
from agesearch.specs import TrainSpec
from agesearch.storage import Location, exclusive, is_denied, is_full
from agesearch.training.curve import trained_seconds
from agesearch.training.stopping import TrainingStopped

#: Seconds that a trial waits for the process of its earlier attempt to end.
_ORPHAN_S = 120.0


def run_trial(config: dict[str, Any], inputs: TrialInputs) -> None:
    """One trial, inside the reused Tune actor: train, report each epoch, and end with an outcome.

    A configuration that fails is reported as such, with its reason: it must never end the study. A full disk
    is no fault of the configuration: where all nodes share it the trial is cut, and the study stops; where it
    is this node's own, or the node lacks files or credentials, the trial goes on elsewhere.
    """
    spec = TrainSpec.model_validate_json(config["spec"])
    out = Location.of(config["folder"])
    os.environ[NODE_VARIABLE] = f"{socket.gethostname()} ({_address()})"
    _call_process(config["name"])
    with _notes() as notes:
        try:
            _check_node(inputs.reads, inputs.writes)
            with working_trial(out) as working, _alone(working.folder):
                last = _trained(spec, inputs, working, notes, config["name"])
        except ConflictError:  # not the configuration's doing: taken up again
            raise
        except Exception as error:  # anything a configuration can provoke: divergence, memory, bad weights
            last = _ended_by(error, is_shared=out.is_local)
    tune.report({**last, NODE: node_name()})


@lru_cache(maxsize=1)
def _check_node(places: tuple[str, ...], folder: str | None) -> None:
    """A ``NodeFaultError`` where this node cannot read what its trials need, or write into their ``folder``:
    it may have joined lately.
    """
    for place in places:
        if (why := unreadable(place)) is not None:
            raise NodeFaultError(f"it cannot read '{place}' ({why})")
    if folder is not None and (why := unwritable(folder)) is not None:
        raise NodeFaultError(f"it cannot write '{folder}' ({why})")


def _address() -> str:
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _call_process(trial: str) -> None:
    """Let the process carry the trial's name, in ``ps`` and on the dashboard's page of each node: the actor
    keeps one name for all of its trials, and Ray calls the process anew with each report.
    """
    name_process(f"trial {trial}")


def _trained(
    spec: TrainSpec, inputs: TrialInputs, working: WorkingTrial, notes: list[str], name: str
) -> dict[str, Any]:
    """Train and report each epoch; what the trial ends with."""
    out = working.folder
    before = trained_seconds(out)
    told = _Reports(working, notes, name, time.perf_counter() - before)
    try:
        (out / "spec.json").write_json(spec.model_dump(mode="json"))
        working.publish()
        if inputs.workers > 1:
            final = train_ddp(spec, inputs, out, before)
        else:
            final = inputs.trainer(
                spec, inputs.train, inputs.val, out, inputs.crop, report=told.report, resume=True
            )
        # The best epoch's metrics, but the epochs trained: those were the trial's budget.
        epochs = told.epoch or spec.optim.epochs
        last = {**final, **inputs.measures.of(out), EPOCH: epochs, OUTCOME: COMPLETED}
    except SystemExit as error:
        if told.stopped:
            raise
        last = {EPOCH: told.epoch, OUTCOME: FAILED, REASON: f"the training called sys.exit({error.code!r})"}
    except TrainingStopped:
        last = {EPOCH: told.epoch, OUTCOME: STOPPED}
    except Exception as error:
        last = {EPOCH: told.epoch, **_ended_by(error, is_shared=working.is_shared)}
    finally:
        told.over = True
    return {**last, SECONDS: told.seconds}


@dataclass
class _Reports:
    """A training's epochs, told to Tune with its ``notes``: the last ``epoch``, whether Tune has ``stopped``
    the trial, and whether it is ``over``. ``started`` is on the clock of its first attempt.
    """

    working: WorkingTrial
    notes: list[str]
    name: str
    started: float
    epoch: int = 0
    stopped: bool = False
    over: bool = False

    @property
    def seconds(self) -> float:
        """For how long the trial has trained, earlier attempts included."""
        return time.perf_counter() - self.started

    def report(self, metrics: dict[str, float]) -> None:
        """Tell of an epoch."""
        if self.over:  # by a thread that outlives its training: the process belongs to another trial now
            return
        self.epoch = int(metrics.get(EPOCH, self.epoch))
        noted = {NOTE: "; ".join(self.notes)} if self.notes else {}
        self.notes.clear()
        if self.epoch:
            self.working.publish()
        try:
            tune.report({**metrics, **noted, SECONDS: self.seconds, NODE: node_name()})
            _call_process(self.name)
        except SystemExit:  # how Tune ends a function that is not to go on
            self.stopped = True
            raise


@contextlib.contextmanager
def _alone(out: Location) -> Iterator[None]:
    """Hold a trial's folder: the process of an earlier attempt may outlive its driver or node for a while.

    Raises ``ConflictError`` where it does so for too long.
    """
    deadline = time.monotonic() + _ORPHAN_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(out, "the trial"))
                break
            except ConflictError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield


@contextlib.contextmanager
def _notes() -> Iterator[list[str]]:
    """What the training warns of within the block."""
    noted: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: noted.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("agesearch")
    logger.addHandler(handler)
    try:
        yield noted
    finally:
        logger.removeHandler(handler)


def _ended_by(error: Exception, *, is_shared: bool) -> dict[str, Any]:
    """How a trial ended with an error, and why: the node's fault, that of a full disk which all nodes share
    (where the trial's folder ``is_shared``), or else the configuration's.
    """
    full = _no_room(error)
    if isinstance(error, NodeFaultError) or is_denied(error) or (full and not is_shared):
        return {OUTCOME: MISPLACED, REASON: first_line(error), NODE_ID: this_node()}
    outcome = CUT if full else FAILED
    return {OUTCOME: outcome, REASON: _described(error, outcome)}


def _no_room(error: BaseException) -> bool:
    """Whether a disk is full; a trainer of several workers tells their errors in its own words only."""
    return is_full(error) or StorageFullError.__name__ in str(error)


def _described(error: Exception, outcome: str = FAILED) -> str:
    first = (str(error).splitlines() or [""])[0]
    if outcome == CUT and isinstance(error, StorageFullError):
        return first
    return f"{type(error).__name__}: {first}"[:300] if first else type(error).__name__


class TrialCards:
    """Shows trials in the Ray dashboard: each is a task under its readable name, running, finished or failed.

    Tune's own actors are reused from trial to trial and keep one name; hence these cards, which cost one idle
    process for the study. A board that breaks is forgotten: it only shows.
    """

    def __init__(self) -> None:
        self._actor: Any = ray.remote(num_cpus=0)(_Cards).options(name="agesearch trials").remote()
        self._cards: dict[int, Any] = {}

    def show(self, number: int, name: str) -> None:
        """Put up a trial's card."""
        with contextlib.suppress(ray.exceptions.RayError):
            self._cards[number] = self._actor.show.options(name=name).remote(number)

    def take_down(self, number: int, failure: str = "") -> None:
        """End a trial's card, as failed with a reason where there is one."""
        card = self._cards.pop(number, None)
        if card is None:
            return
        with contextlib.suppress(ray.exceptions.RayError):
            self._actor.take_down.remote(number, failure)
            if failure:  # collected here, or Ray would print it as an error nobody handled
                ray.get(card, timeout=5)

    def close(self) -> None:
        """Take the whole board down."""
        ray.kill(self._actor)


class _Cards:
    """The asyncio actor behind ``TrialCards``: a call to ``show`` lasts as long as its trial."""

    def __init__(self) -> None:
        self._ends: dict[int, asyncio.Future[str]] = {}

    async def show(self, number: int) -> None:
        self._ends.setdefault(number, asyncio.get_running_loop().create_future())
        failure = await self._ends[number]
        del self._ends[number]
        if failure:
            raise RuntimeError(failure)

    async def take_down(self, number: int, failure: str) -> None:
        self._ends.setdefault(number, asyncio.get_running_loop().create_future())
        if not self._ends[number].done():
            self._ends[number].set_result(failure)
