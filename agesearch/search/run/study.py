"""[ray] Runs a study: preparation, the trials on Ray Tune, and the records; or goes on with one that was cut.

``run_study`` starts one in a new folder, ``resume_study`` goes on from the records of an old one: finished
trials stay as they are, and a trial that ran when its driver was killed goes on from its own checkpoint under
its own number. Ray is imported only inside the functions, after ``ray_session`` has set its environment.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agesearch.artefacts import own_folder
from agesearch.cluster.left_out import LeftOutNodes
from agesearch.cluster.monitoring import Recorder
from agesearch.cluster.nodes import check_shared
from agesearch.data.dataset.records import read_manifest
from agesearch.errors import AgeSearchError, InputError, command
from agesearch.machine import cores
from agesearch.search.choice.confirmed import with_seeds
from agesearch.search.choice.kept import KeptWeights
from agesearch.search.run.driver import DRIVER_FILE, DriverHeartbeat, registered_driver
from agesearch.search.run.latencies import fitting_trials, time_networks
from agesearch.search.run.phases.confirm import (
    confirm_candidates,
    is_confirmed,
    refuse_confirmation,
    stated,
)
from agesearch.search.run.phases.tune_run import Means, search
from agesearch.search.run.published.study import working_copy
from agesearch.search.run.setup import (
    SetupFunctions,
    check_end_measures,
    dataset_digest,
    default_functions,
    paced,
    refuse_empty,
    same_source,
    same_teachers,
    study_header,
    taken,
    warn_of_other_crops,
)
from agesearch.search.run.teachers import TEACHERS_FOLDER, chosen_teachers
from agesearch.search.run.trial_manager import TrialManager
from agesearch.search.run.watchdog import STALL_MINUTES, Watchdog
from agesearch.search.sampler.earlier import begin_like
from agesearch.search.space.limits import Latencies
from agesearch.search.space.space import check_space
from agesearch.search.store.events import EventListener, Note, Outcome, StudyEnded, StudyStarted, unheard
from agesearch.search.store.history import History
from agesearch.search.store.records import (
    DATABASE,
    LATENCY_FILE,
    STUDY_FILE,
    TRIALS_FILE,
    State,
    StudyFolder,
    StudyHeader,
    TrialRecord,
    open_study,
)
from agesearch.search.store.repair import (
    WRITE_ERRORS,
    keep_header,
    mended_header,
    open_history,
    refuse_headless,
    write_fault,
)
from agesearch.search.tracking.monitoring import StudyFigures
from agesearch.session import RaySession, ray_session, require_reachable
from agesearch.specs import StudySpec
from agesearch.storage import Location, exclusive
from agesearch.training.preflight import Plan, plan

if TYPE_CHECKING:
    from agesearch.search.run.trial_inputs import TrialInputs

#: What a folder holds that a study was begun in, one of these at least, whenever its preparation was cut.
_BELONGINGS = (STUDY_FILE, DATABASE, TRIALS_FILE, LATENCY_FILE, DRIVER_FILE, TEACHERS_FOLDER)


@dataclass(frozen=True)
class RunLimits:
    """How much a run may use; without a limit, what the study and the machine give.

    ``minutes`` counts from the start of the run, its preparation included. ``workers_per_trial`` processes
    train one student together; ``gpus_per_trial`` are a share of a GPU, or one for each worker.
    ``stall_minutes`` without a sign of life make a trial count as hung (see ``watchdog.Watchdog``).
    ``checkpoint_minutes`` is that of the spec's trainings, from now on.
    """

    minutes: float | None = None
    concurrency: int | None = None
    workers_per_trial: int = 1
    gpus_per_trial: float | None = None
    address: str | None = None
    dashboard: bool = True
    stall_minutes: float = STALL_MINUTES
    checkpoint_minutes: float | None = None


@dataclass(frozen=True)
class StudyResult:
    """How a run ended, and the study's records then; ``front`` is by rising latency."""

    folder: StudyFolder
    outcome: Outcome
    records: list[TrialRecord]
    front: list[TrialRecord]
    total: int


def run_study(
    spec: StudySpec,
    dataset: str | Location,
    teacher: str | Location | None,
    out: str | Location,
    *,
    order_teacher: str | Location | None = None,
    like: str | Location | None = None,
    scale: float = 1.0,
    limits: RunLimits | None = None,
    on_event: EventListener = unheard,
    functions: SetupFunctions | None = None,
) -> StudyResult:
    """Search ``spec`` on a dataset with a teacher, into the new study folder ``out``.

    ``teacher`` and ``order_teacher`` come before those of the spec, which are trained first where they are
    described. The first trials are the best ones of the study ``like``. ``scale`` is what ``scaled_study``
    made of the spec's budget, for the record.

    Raises ``InputError`` for anything wrong before a trial starts, and ``ConflictError`` where ``out`` holds
    a study already. Failed trials do not end the run; they are recorded with their reason.
    """
    study, limits = StudyFolder(Location.of(out)), limits or RunLimits()
    manifest, spec = read_manifest(dataset), paced(spec, limits.checkpoint_minutes)
    place, began = Location.of(dataset), time.monotonic()
    refuse_empty(place, manifest)
    check_end_measures(spec, place)
    earlier = None
    if like is not None:
        beginning = begin_like(like, check_space(spec), manifest.content_digest)
        spec, earlier = beginning.spec, beginning.source
        for text in beginning.notes:
            on_event(Note(text))
    teachers = chosen_teachers(check_space(spec), study, teacher, order_teacher)
    _check_workers(study, limits)
    own_folder(study.root, "a study", _BELONGINGS)
    with exclusive(study.root, "the study") as held:
        if study.exists():
            raise taken(study, spec, manifest, teachers)
        refuse_headless(study)
        with working_copy(study, held) as folder, registered_driver(folder.root) as heartbeat:
            found = teachers.trained(place, on_event, limits.address)
            header = study_header(spec, place, manifest, found, scale, earlier)
            warn_of_other_crops(manifest, teachers.age, on_event)
            return _run(folder, header, limits, on_event, functions, heartbeat, began)


def resume_study(
    out: str | Location,
    *,
    dataset: str | Location | None = None,
    teacher: str | Location | None = None,
    order_teacher: str | Location | None = None,
    trials: int | None = None,
    confirm: int | None = None,
    keep: str | None = None,
    limits: RunLimits | None = None,
    on_event: EventListener = unheard,
    functions: SetupFunctions | None = None,
) -> StudyResult:
    """Go on with a study, to ``trials`` finished trials where that is given; its candidates are then trained
    again with ``confirm`` other seeds. From now on it is to ``keep`` the weights of "all" trials or of those
    at its "front".

    ``dataset``, ``teacher`` and ``order_teacher`` say where they lie now, if they were moved.

    Raises ``InputError`` where either is no longer what the study was started with.
    """
    study, limits = StudyFolder(Location.of(out)), limits or RunLimits()
    if not (study.root / DATABASE).exists():
        open_study(out)  # says what is wrong where there is no study at all
    _check_workers(study, limits)
    refuse_confirmation(study)
    with exclusive(study.root, "the study") as held, working_copy(study, held) as folder:
        header = mended_header(folder, on_event)
        asked = {"trials": trials, "confirm": with_seeds(header.spec, confirm), "keep": keep}
        spec = header.spec.with_values({name: value for name, value in asked.items() if value is not None})
        spec = paced(spec, limits.checkpoint_minutes)
        header = header.model_copy(
            update={
                "spec": spec,
                "spec_digest": spec.digest(),
                "dataset": same_source("dataset", header.dataset, dataset, dataset_digest),
                **same_teachers(study, header, teacher, order_teacher),
            }
        )
        with registered_driver(folder.root) as heartbeat:
            return _run(folder, header, limits, on_event, functions, heartbeat)


def _run(
    folder: StudyFolder,
    header: StudyHeader,
    limits: RunLimits,
    on_event: EventListener,
    functions: SetupFunctions | None,
    heartbeat: DriverHeartbeat,
    began: float | None = None,
) -> StudyResult:
    deadline, watchdog = _deadline(limits.minutes, began), _watchdog(limits.stall_minutes)
    figures = StudyFigures(Recorder(study=folder.place.name))
    on_event = figures.hearing(on_event)
    if limits.address is None:  # before minutes are spent on timing networks
        plan(cores(), 0, concurrency=limits.concurrency, workers=limits.workers_per_trial)
    else:
        require_reachable(limits.address)
    spec, history = header.spec, open_history(folder, header.spec, on_event)
    weights = _kept_weights(folder, header, history)
    is_over = history.finished >= spec.trials
    if is_over and is_confirmed(folder, spec, history.records, history.front()):
        heartbeat.outcome = Outcome.COMPLETE.value
        return _nothing_left(folder, history, header.spec.trials)
    functions = functions or default_functions(header.spec)
    with ExitStack() as stack:
        # Networks are timed in a process that does nothing else: before it starts a Ray, or joins one.
        manager, latencies = _with_latencies(folder, header.spec, history, functions, weights, on_event)
        session = stack.enter_context(
            ray_session(limits.address, dashboard=limits.dashboard, on_progress=on_event)
        )
        stack.enter_context(figures.recorder.refreshed())
        _slots(session.cpus, session, limits, manager.total)  # refuses before a teacher is asked
        inputs = functions.inputs(header, on_event)
        left_out = _left_out(folder, limits, inputs, on_event)
        slots = _slots(session.cpus - left_out.cpus(), session, limits, manager.total)
        inputs = inputs.on_workers(slots.workers, slots.gpus_per_worker)
        if folder.home is not None and not session.is_local:
            inputs = replace(inputs, writes=str(folder.home))
        keep_header(folder, header)
        heartbeat.search_began(
            finished=history.finished,
            concurrency=slots.concurrency,
            dashboard=session.dashboard_url,
            deadline=deadline,
        )
        on_event(_started(folder, header, manager, slots, session, deadline))
        means = Means(inputs, slots, session, deadline, heartbeat.stopping, watchdog, left_out)
        outcome = _phases(folder, header, manager, latencies, means, on_event)
        _close(manager, folder)
        heartbeat.outcome = outcome.value
        on_event(StudyEnded(outcome))
    return StudyResult(StudyFolder(folder.place), outcome, manager.records, manager.front, manager.total)


def _with_latencies(
    folder: StudyFolder,
    spec: StudySpec,
    history: History,
    functions: SetupFunctions,
    weights: KeptWeights | None,
    on_event: EventListener,
) -> tuple[TrialManager, Latencies]:
    """Time the networks that the study can use; what keeps its trials, of those that fit."""
    latencies, fitting = time_networks(
        folder,
        spec,
        functions.latency,
        functions.parameters,
        history.records,
        on_event,
        functions.file_bytes,
    )
    manager = TrialManager(
        folder,
        history,
        fitting_trials(spec, fitting),
        latencies=latencies,
        fitting=fitting,
        on_event=on_event,
        weights=weights,
    )
    return manager, latencies


def _kept_weights(folder: StudyFolder, header: StudyHeader, history: History) -> KeptWeights | None:
    """What removes weights, where the study is not to keep all; those of earlier runs go at once."""
    if header.spec.keep == "all":
        return None
    found = KeptWeights(folder, header.spec, history.all())
    if history.finished:
        keep_header(folder, header)  # says that weights may be gone, before they are
        found.sweep(history.front(), [*history.running, *history.paused])
    return found


def _phases(
    folder: StudyFolder,
    header: StudyHeader,
    manager: TrialManager,
    latencies: Latencies,
    means: Means,
    on_event: EventListener,
) -> Outcome:
    """The search, and then the new trainings of its candidates, where such are asked for."""
    wanted, outcome = header.spec.confirm, Outcome.COMPLETE
    if not manager.complete:
        if wanted is not None:
            on_event(Note(stated(wanted)))
        outcome = search(folder, manager, means)
    if wanted is None or not manager.front:
        return outcome
    if outcome is not Outcome.COMPLETE:
        on_event(Note("No candidate is confirmed before the search is over."))
        return outcome
    return confirm_candidates(folder, header, manager, latencies, means, on_event)


def _nothing_left(folder: StudyFolder, history: History, total: int) -> StudyResult:
    """The result of a study whose trials are all finished; its records are written anew for readers."""
    folder.write_trials(history.records)
    folder.write_front(history.front())
    return StudyResult(StudyFolder(folder.place), Outcome.COMPLETE, history.records, history.front(), total)


def _left_out(
    folder: StudyFolder, limits: RunLimits, inputs: TrialInputs, on_event: EventListener
) -> LeftOutNodes:
    """The nodes that see the study, and what its trials read, and those that do not: these train none.

    Workers of one trial are not kept off a node: all nodes must see the study there.
    """
    remedy = (
        "put the study, its dataset and weights into folders that the nodes share, or behind a URI that they "
        "can read and write."
    )
    found = LeftOutNodes("the study", remedy, lambda text: on_event(Note(text)))
    if limits.workers_per_trial > 1:
        check_shared(folder.place, "the study")
    else:
        found.ask(lambda: [str(folder.place / ".lock"), *inputs.reads], [str(folder.place)])
    return found


def _slots(cpus: float, session: RaySession, limits: RunLimits, trials: int) -> Plan:
    """How many trials run at once, and on what."""
    return plan(
        cpus,
        session.gpus,
        concurrency=limits.concurrency,
        workers=limits.workers_per_trial,
        gpus_per_trial=limits.gpus_per_trial,
        trials=trials,
        grows=not session.is_local,
    )


def _close(manager: TrialManager, folder: StudyFolder) -> None:
    """Write the records a last time; an ``AgeSearchError`` where they, or a trial's files, had no room."""
    try:
        manager.close()
    except WRITE_ERRORS as error:
        manager.halted = manager.halted or write_fault(error)
    if manager.halted:
        raise AgeSearchError(
            f"The study stopped: {manager.halted} Nothing finished is lost; once it can be written, go on "
            f"with: {command('resume', folder.place)}"
        )


def _started(
    folder: StudyFolder,
    header: StudyHeader,
    manager: TrialManager,
    slots: Plan,
    session: RaySession,
    deadline: float | None,
) -> StudyStarted:
    records = manager.records
    return StudyStarted(
        folder=str(folder.place),
        total=manager.total,
        records=tuple(records),
        resumed=sum(record.state is State.RUNNING for record in records),
        concurrency=slots.concurrency,
        dashboard_url=session.dashboard_url,
        header=header,
        front=tuple(manager.front),
        seconds=None if deadline is None else deadline - time.monotonic(),
    )


def _check_workers(study: StudyFolder, limits: RunLimits) -> None:
    """Several workers of a trial write into one folder, on whichever nodes they are."""
    if not study.root.is_local and limits.workers_per_trial > 1:
        raise InputError(
            f"'{study.root}' is no folder that the workers of a trial share, and they write their checkpoint "
            "and curve into one, where they look for requests to stop, too: use --workers-per-trial 1, or "
            "--out with a folder that all nodes see."
        )


def _deadline(minutes: float | None, began: float | None) -> float | None:
    if minutes is None:
        return None
    if not minutes > 0:
        raise InputError(f"--minutes is {minutes:g}, but must be > 0.")
    return (time.monotonic() if began is None else began) + 60.0 * minutes


def _watchdog(minutes: float) -> Watchdog:
    if not minutes > 0:
        raise InputError(f"--stall-minutes is {minutes:g}, but must be > 0.")
    return Watchdog(60.0 * minutes)
