"""[ray] The study's searcher on Ray Tune: Tune asks it for trials and tells it how they end; the
``TrialManager`` decides.

Why our own and not ``OptunaSearch``: see ``agesearch.search.run.suggester``. Concurrency is held here and not
by Tune's ``ConcurrencyLimiter``, whose slot is lost when an actor fails to reset; a trial that Tune gives up
is found at the end of each of Tune's steps, by whichever way it was lost.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import ray
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from agesearch.cluster.left_out import LeftOutNodes
from agesearch.cluster.room import Room
from agesearch.errors import InputError
from agesearch.search.run.driver import Stopping, Urgency
from agesearch.search.run.published import exchange
from agesearch.search.run.reports import MISPLACED, NODE_ID, OUTCOME, REASON
from agesearch.search.run.trial import TrialCards
from agesearch.search.run.trial_manager import TrialManager
from agesearch.search.run.watchdog import Death, Watchdog
from agesearch.search.store.records import StudyFolder
from agesearch.search.store.repair import WRITE_ERRORS, write_fault
from agesearch.training.standing import Standing, standing_now

#: Words of Ray's where an actor went down with its whole node.
_NODE_LOST = ("actor's node was terminated", "node it was running on is dead", "died by preemption")
#: And where it does not answer, of a node that is not known to be lost yet.
_OUT_OF_REACH = re.compile(r"ActorUnavailable|[Tt]he actor \S+ is unavailable")

#: How often is looked for hung trials: at each of Tune's steps it would take a large study's driver long.
_LOOK_EVERY_S = 0.2
#: How often is looked where the epochs of running trials stand, in at most this share of the time.
_STANDING_EVERY_S = 2.0
_STANDING_SHARE = 0.02


class NotPickled:
    """Tune pickles whatever it is given into records of its own, which nothing here reads: leave nothing
    there.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class StudySearcher(NotPickled, Searcher):
    """Hands the manager's trials to Tune, as many at once as have ``room``."""

    def __init__(
        self,
        manager: TrialManager,
        folder: StudyFolder,
        *,
        room: Room,
        board: TrialCards | None = None,
        stopping: Stopping | None = None,
        watchdog: Watchdog | None = None,
        left_out: LeftOutNodes | None = None,
    ) -> None:
        super().__init__()
        self._left_out = left_out or LeftOutNodes("the study", "")
        self._watchdog = watchdog or Watchdog(math.inf)
        self._hung: dict[int, str] = {}
        self._stood: dict[int, Standing] = {}
        self._stopping = stopping or Stopping()
        self._heeded = Urgency.NOT
        self._manager = manager
        self._folder = folder
        self._room = room
        self._board = board
        self._numbers: dict[str, int] = {}
        self._handed_out: dict[str, Trial] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial as Tune's config; None while none may start; FINISHED when all are over."""
        if self._manager.live >= self._room.now(self._manager.live):
            return None
        record = None
        with self._halting():
            record = self._manager.next_trial()
        if record is None:
            finished: Any = Searcher.FINISHED  # a string, which Tune takes in place of a config
            return finished if self._manager.exhausted else None
        self._numbers[trial_id] = record.number
        if self._folder.home is not None:
            exchange.begin(self._folder.trial_folder(record))
        return {
            "number": record.number,
            "name": record.name,
            "folder": str(self._folder.trial_folder(record)),
            "spec": self._manager.spec_of(record).model_dump_json(),
            "without": sorted(self._left_out.reasons),
        }

    def began(self, trial: Trial) -> None:
        """Tune has an actor for the trial."""
        number, name = trial.config["number"], trial.config["name"]
        if self._board:
            self._board.show(number, name)
        self._watchdog.began(number)
        with self._halting():
            self._manager.began(number)

    def report(self, trial_id: str, result: dict[str, Any]) -> bool:
        """An epoch was reported, to the scheduler, which is asked first; whether the trial ends with it."""
        number = self._numbers.get(trial_id)
        if number is None:
            return False
        self._watchdog.heard(number)
        self.heed()
        ends: bool | None = None
        with self._halting():
            ends = self._manager.report(number, result)
        return bool(ends)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: ``report`` has heard of it."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial is over. Errors are settled by ``settle_lost``, which also sees those Tune tells nobody."""
        if error or trial_id not in self._numbers:
            return
        number = self._numbers.pop(trial_id)
        self._handed_out.pop(trial_id, None)
        self._watchdog.over(number)
        self._stood.pop(number, None)
        report = result or {}
        if report.get(OUTCOME) == MISPLACED:
            self._leave_out(str(report[NODE_ID]), str(report[REASON]))
        with self._halting():
            self._manager.ended(number, report)
        self._take_card_down(number, str(report.get(REASON, "")))

    def _leave_out(self, node: str, why: str) -> None:
        """Give a node no more trials; where no other is left the study stops."""
        self._left_out.add(node, why)
        try:
            self._left_out.check()
        except InputError as error:
            self._manager.halted = self._manager.halted or str(error)

    def settle_lost(self, trials: list[Trial]) -> None:
        """Take up or FAIL the trials whose actor Tune has given up."""
        if len(self._handed_out) < len(self._numbers):
            self._find_new(trials)
        for trial in [trial for trial in self._handed_out.values() if trial.status == Trial.ERROR]:
            number = self._numbers.pop(trial.trial_id)
            del self._handed_out[trial.trial_id]
            self._watchdog.over(number)
            hung = self._hung.pop(number, None)
            death = Death(hung) if hung else _last_words(trial)
            self._take_card_down(number, death.reason)
            with self._halting():
                self._manager.died(number, death)

    def _find_new(self, trials: list[Trial]) -> None:
        """Tune's own object of each new trial; its list grows with the study, the new ones are at its end."""
        unseen = self._numbers.keys() - self._handed_out.keys()
        for trial in reversed(trials):
            if not unseen:
                break
            if trial.trial_id in unseen:
                unseen.discard(trial.trial_id)
                self._handed_out[trial.trial_id] = trial

    def kill_hung(self, trials: list[Trial]) -> None:
        """End the processes of trials that have gone silent: they are settled like all that die."""
        hung = self._watchdog.hung()
        if not hung:
            return
        for trial in trials:
            number = self._numbers.get(trial.trial_id)
            actor = trial.temporary_state.ray_actor
            if number in hung and actor is not None:
                self._hung[number] = hung[number]
                with suppress(ray.exceptions.RayError):
                    ray.kill(actor)

    def look_within(self) -> None:
        """See where the epochs of running trials stand, by what these write into their folders, or tell
        the cluster where a study is published.
        """
        for number in self._numbers.values():
            working = self._folder.working_folder(number)
            if self._folder.home is not None:
                exchange.exchange(self._folder.trial_folder(number), working)
            found = standing_now(working)
            if found is not None and found != self._stood.get(number):
                self._stood[number] = found
                self._watchdog.moved(number)
                self._manager.stands(number, found)

    def heed(self) -> None:
        """Obey what the study was asked since the last time: to stop, or to stop now."""
        if self._stopping.urgency > self._heeded:
            self._heeded = self._stopping.urgency
            self._manager.wind_down(self._stopping.by, at_once=self.stops_now)

    @property
    def stops_now(self) -> bool:
        """Whether the study is to end without waiting for what runs."""
        return self._stopping.urgency is Urgency.NOW

    def stop(self, reason: str) -> None:
        """Start no more trials; those that run end as PRUNED with this reason."""
        self._manager.stop_reason = self._manager.stop_reason or reason

    @contextmanager
    def _halting(self) -> Iterator[None]:
        """Stop the study where its records cannot be written: what runs is kept for a later run."""
        try:
            yield
        except WRITE_ERRORS as error:
            self._manager.halted = self._manager.halted or write_fault(error)
        if self._manager.halted:
            self._stopping.ask(Urgency.WITH_CHECKPOINTS, "a failed write")

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the history is on disk already, and Tune's copy is never read."""

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Nothing, for the same reason."""

    def _take_card_down(self, number: int, failure: str) -> None:
        if self._board:
            self._board.take_down(number, failure)


class Watcher(NotPickled, Callback):
    """Tells the searcher what Tune tells its callbacks only."""

    def __init__(self, searcher: StudySearcher) -> None:
        self._searcher = searcher
        self._next_look = self._next_standing = 0.0

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """An actor is ready for the trial."""
        self._searcher.began(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """One turn of Tune's loop is over. Lost trials are settled at once: where the last one that runs is
        lost, Tune waits in its next turn for ten minutes for a new trial, and hands over nothing meanwhile.
        """
        self._searcher.settle_lost(trials)
        now = time.monotonic()
        if now >= self._next_look:
            self._searcher.kill_hung(trials)
            self._next_look = now + _LOOK_EVERY_S
        if now >= self._next_standing:
            self._searcher.look_within()
            took = time.monotonic() - now
            self._next_standing = now + max(_STANDING_EVERY_S, took / _STANDING_SHARE)
        self._searcher.heed()


class Deadline(NotPickled, Stopper):
    """Ends the study when its time is up: no new trials, and running ones stop after their epoch."""

    def __init__(
        self, searcher: StudySearcher, seconds: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._searcher = searcher
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never: Tune asks here first, and the manager decides. Notes when the time is up."""
        self._look()
        return False

    def stop_all(self) -> bool:
        """Only where the study is to stop now: Tune does not tell the searcher of these trials, which stay
        RUNNING for a later run. Notes when the time is up.
        """
        self._look()
        return self._searcher.stops_now

    def _look(self) -> None:
        if self._end is not None and self._clock() >= self._end:
            self._searcher.stop("time is up")


def _last_words(trial: Trial) -> Death:
    """How an actor was lost, in one line: Tune keeps the text of its error beside the trial."""
    path = Path(trial.error_file) if trial.error_file else None
    text = path.read_text(encoding="utf-8", errors="replace") if path and path.exists() else ""
    if "OutOfMemoryError" in text or "memory pressure" in text:
        return Death("worker died: out of memory")
    if any(words in text for words in _NODE_LOST):
        return Death("its node was lost", of_node=True)
    if _OUT_OF_REACH.search(text):
        return Death("worker out of reach", of_node=True)
    if "ActorDiedError" in text or "actor died" in text:
        return Death("worker died")
    lines = [line for line in text.splitlines() if line.strip()]
    return Death(f"worker failed: {lines[-1].strip()}"[:300] if lines else "worker failed to take the trial")
