"""The phase after a search: the front's candidates are trained again with other seeds (``--confirm``).

It is a study within the study (``agesearch.search.choice.confirmed``), kept and run as the search is: a kill
costs as little, ``resume`` goes on with it, and nothing of it reaches the sampler or the search's own front.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agesearch.errors import InputError, command
from agesearch.search.choice.candidates import candidates_for
from agesearch.search.choice.confirmed import (
    PLAN,
    SEED,
    ConfirmationPlan,
    candidates_of,
    confirmation,
    read_plan,
)
from agesearch.search.run.driver import Stopping, Urgency
from agesearch.search.run.phases.tune_run import Means, search
from agesearch.search.run.trial_manager import TrialManager
from agesearch.search.space.limits import Latencies
from agesearch.search.space.space import trial_spec
from agesearch.search.stopping.rungs import KEEP, Keep, LearningCurve
from agesearch.search.store.events import (
    Confirming,
    EventListener,
    Note,
    Outcome,
    StudyEvent,
    StudyStopping,
    TrialFinished,
    TrialProgress,
    TrialRetried,
)
from agesearch.search.store.front_limits import LIMITED
from agesearch.search.store.history import History
from agesearch.search.store.records import INHERITED, State, StudyFolder, StudyHeader, TrialRecord
from agesearch.search.store.repair import keep_header, open_history
from agesearch.specs import ConfirmSpec, Range, StudySpec

#: The largest seed of a training.
_MOST = 2**31 - 1


class Planned:
    """Hands out new trainings in the order of the plan: one more seed of every candidate, then another."""

    def __init__(self, history: History, plan: ConfirmationPlan, candidates: dict[int, TrialRecord]) -> None:
        self._history, self._plan, self._candidates = history, plan, candidates

    def suggest(self, *, new: bool = True) -> TrialRecord | None:
        """The next new training; None where all have begun."""
        number = self._history.begun
        if not new or number >= len(self._plan.runs):
            return None
        of, seed = self._plan.runs[number]
        candidate = self._candidates[of]
        parent = {} if candidate.inherited is None else {INHERITED: candidate.inherited}
        return self._history.begin(candidate.params | {SEED: seed}, parent)

    def complete_params(self, number: int) -> TrialRecord:
        """A new training that is taken up again: its parameters are known from its beginning."""
        return self._history.record(number)

    def verdict(self, trial: LearningCurve) -> Keep:
        """Every new training goes to its end."""
        return KEEP


def stated(spec: ConfirmSpec) -> str:
    """What confirming will cost at most, before a search begins."""
    return (
        f"After the search, at most {spec.candidates} candidates are trained again with {spec.seeds} other "
        f"{'seed' if spec.seeds == 1 else 'seeds'} each: up to {spec.candidates * spec.seeds} trainings more."
    )


def refuse_confirmation(folder: StudyFolder) -> None:
    """An ``InputError`` where a folder holds a study's new trainings, which go on with the study only."""
    if (folder.root / PLAN).exists():
        study = folder.root.parent
        raise InputError(
            f"'{folder.root}' holds the new trainings of the candidates of '{study}': go on with them by: "
            f"{command('resume', study)}"
        )


def is_confirmed(
    folder: StudyFolder, spec: StudySpec, records: Sequence[TrialRecord], front: Sequence[TrialRecord]
) -> bool:
    """Whether nothing is left to train again: nothing was asked for, or all of it is over."""
    if spec.confirm is None or not front:
        return True
    plan = planned(folder, spec, records, front)
    return plan == read_plan(folder) and all(one.ended == one.planned for one in candidates_of(folder))


def planned(
    folder: StudyFolder, spec: StudySpec, records: Sequence[TrialRecord], front: Sequence[TrialRecord]
) -> ConfirmationPlan:
    """What is to be trained again: what a plan has already, and behind it what is new."""
    wanted, old = spec.confirm, read_plan(folder)
    assert wanted is not None
    seeds = [(spec.student.seed + 1 + index) % _MOST for index in range(wanted.seeds)]
    candidates = candidates_for(folder, records, front, wanted.candidates)
    known = old.runs if old else ()
    runs = [(one.number, seed) for seed in seeds for one in candidates]
    return ConfirmationPlan(
        seeds=wanted.seeds, runs=(*known, *(run for run in runs if run not in set(known)))
    )


def confirm_candidates(
    folder: StudyFolder,
    header: StudyHeader,
    manager: TrialManager,
    latencies: Latencies,
    means: Means,
    on_event: EventListener,
) -> Outcome:
    """Train what is left of the candidates' new trainings; the search of ``manager`` is over."""
    plan = planned(folder, header.spec, manager.records, manager.front)
    within, spec = confirmation(folder), new_trainings(header.spec, len(plan.runs))
    records = {record.number: record for record in manager.records}
    within.root.make_dir()
    (within.root / PLAN).write_json(plan.model_dump(mode="json"))
    history = open_history(within, spec, on_event)
    keep_header(within, header.model_copy(update={"spec": spec, "spec_digest": spec.digest()}))
    on_event(Note(_cost(header.spec, plan, records, history, means.slots.concurrency)))
    books = TrialManager(
        within,
        history,
        spec,
        latencies=latencies,
        on_event=_told(on_event, plan, records, _Pace(header.spec, plan, records, history)),
        suggester=Planned(history, plan, records),
        parents=folder,
    )
    with asked_when_time_is_up(means.deadline, means.stopping) as is_up:
        outcome = search(within, books, means.without_deadline(), shown=False)
    books.close()
    manager.halted = manager.halted or books.halted
    return Outcome.TIME_UP if outcome is not Outcome.COMPLETE and is_up.is_set() else outcome


def new_trainings(spec: StudySpec, trials: int) -> StudySpec:
    """The study that the new trainings are kept as: the same space, with the seed as a dimension."""
    changes = {
        "space": {**spec.space, SEED: Range(low=0, high=_MOST, integer=True)},
        "trials": trials,
        "sampler": "random",
        "rungs": None,
        "stopping": None,
        "confirm": None,
        "max_latency_ms": None,
        "max_params": None,
        "max_bytes": None,
        "max_memory_mb": None,
        **dict.fromkeys(LIMITED),
    }
    return spec.model_copy(update=changes)


def _cost(
    spec: StudySpec,
    plan: ConfirmationPlan,
    records: dict[int, TrialRecord],
    history: History,
    concurrency: int,
) -> str:
    left = [records[number] for number, _ in plan.runs[history.finished :]]
    epochs = sum(trial_spec(spec, record.params).optim.epochs for record in left)
    minutes = sum(record.seconds for record in left) / max(1, concurrency) / 60.0
    candidates = list(dict.fromkeys(number for number, _ in plan.runs))
    done = f"; {history.finished} are done" if history.finished else ""
    numbers = ", ".join(map(str, candidates))
    return (
        f"Confirming {len(candidates)} candidates (trials {numbers}) with other seeds: {len(plan.runs)} "
        f"trainings{done}; {epochs:,} epochs, about {minutes:,.1f} min as they took in the search."
    )


class _Pace:
    """Epochs of new trainings, done and to come, and how fast this run does them."""

    def __init__(
        self,
        spec: StudySpec,
        plan: ConfirmationPlan,
        candidates: dict[int, TrialRecord],
        history: History,
    ) -> None:
        self._budgets = [trial_spec(spec, candidates[number].params).optim.epochs for number, _ in plan.runs]
        self._done = {record.number: record.epochs for record in history.records}
        self._over = {record.number for record in history.records if record.state.ended}
        self._at_first, self._began = self._epoch, time.monotonic()

    @property
    def _epoch(self) -> int:
        return sum(self._budgets[n] if n in self._over else done for n, done in self._done.items())

    def take(self, event: TrialProgress | TrialFinished) -> Confirming:
        """How the new trainings stand after an epoch or the end of one."""
        if isinstance(event, TrialFinished):
            self._done[event.record.number] = event.record.epochs
            self._over.add(event.record.number)
        else:
            self._done[event.number] = event.epoch
        epochs, done = sum(self._budgets), self._epoch
        new = done - self._at_first
        left = (time.monotonic() - self._began) / new * (epochs - done) if new > 0 else None
        return Confirming(len(self._over), len(self._budgets), done, epochs, left)


def _told(
    on_event: EventListener, plan: ConfirmationPlan, records: dict[int, TrialRecord], pace: _Pace
) -> EventListener:
    """Tells of new trainings in notes, and how they stand in all: whoever watches the study knows its own
    trials by their numbers.
    """

    def listen(event: StudyEvent) -> None:
        if isinstance(event, TrialProgress | TrialFinished):
            on_event(pace.take(event))
        if isinstance(event, Note | StudyStopping):
            on_event(event)
        elif isinstance(event, TrialFinished):
            number, seed = plan.runs[event.record.number]
            on_event(
                Note(f"Confirmed {event.finished} of {event.total}: {_ending(event, records[number], seed)}")
            )
        elif isinstance(event, TrialRetried):
            number, seed = plan.runs[event.record.number]
            on_event(Note(f"Trial {number} with seed {seed} is taken up again: {event.reason}"))

    return listen


def _ending(event: TrialFinished, candidate: TrialRecord, seed: int) -> str:
    record = event.record
    if record.state is not State.COMPLETE or record.val_mae_years is None:
        return f"trial {candidate.number} with seed {seed}: {record.state.value}, {record.reason}"
    before = "" if candidate.val_mae_years is None else f", {candidate.val_mae_years:.2f} in the search"
    return f"trial {candidate.number} with seed {seed}: {record.val_mae_years:.2f} years{before}"


@contextmanager
def asked_when_time_is_up(deadline: float | None, stopping: Stopping) -> Iterator[threading.Event]:
    """Ask for checkpoints once the time is up: a new training that is cut is nothing to pick by, and goes on
    with the next run.
    """
    is_up = threading.Event()
    if deadline is None:
        yield is_up
        return

    def ask() -> None:
        is_up.set()
        stopping.ask(Urgency.WITH_CHECKPOINTS, "the end of its time")

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), ask)
    timer.daemon = True
    timer.start()
    try:
        yield is_up
    finally:
        timer.cancel()
