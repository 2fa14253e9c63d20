"""How a study stands, read from its folder by another process: while it runs and after; no Ray.

The trials come from ``trials.parquet``, which the driver renews every few seconds; the epochs and curves of
running ones, and where their epochs stand, from their own folders; who runs it from ``driver.json``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from agesearch.artefacts import STUDY, not_one
from agesearch.errors import command
from agesearch.search.choice.confirmed import Candidate, candidates_of
from agesearch.search.choice.knee import Choice
from agesearch.search.front.latencies import StudyLatencies, study_latencies
from agesearch.search.run.driver import Driver, read_driver, seconds_since
from agesearch.search.space.space import trial_spec
from agesearch.search.stopping.curves import errors_of
from agesearch.search.store.records import STUDY_FILE, State, StudyFolder, StudyHeader, TrialRecord
from agesearch.search.view.progress import (
    Pace,
    RunningTrial,
    StudyProgress,
    TrialCounts,
    budget_of,
    interval_in,
    loss_budget,
    paused_trial,
    points_of,
)
from agesearch.storage import Location
from agesearch.training.curve import CURVE, read_curve
from agesearch.training.standing import WITHIN, standing

_LAST = 3


@dataclass(frozen=True)
class Status:
    """A study's progress and who holds it; ``progress`` is None while a new study is prepared. ``choice`` is
    which trial is the knee, ``notes`` what is noise on the front, ``candidates`` what is trained again,
    ``broken_limits`` which limits COMPLETE trials break, and by how much, by their number.
    """

    folder: StudyFolder
    driver: Driver | None
    progress: StudyProgress | None
    choice: Choice | None = None
    notes: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    broken_limits: Mapping[int, str] = field(default_factory=dict)

    @property
    def confirming(self) -> str:
        """How far the candidates' new trainings are; empty where there are none."""
        if not self.candidates:
            return ""
        done = sum(one.ended for one in self.candidates)
        planned = sum(one.planned for one in self.candidates)
        numbers = ", ".join(str(one.number) for one in self.candidates)
        return f"Confirming trials {numbers} with other seeds: {done} of {planned} trainings are over."

    @property
    def is_unconfirmed(self) -> bool:
        """Whether candidates are to be trained again that are not yet."""
        left = any(one.ended < one.planned for one in self.candidates)
        wanted = self.choice is not None and self.folder.header().spec.confirm is not None
        return left or (wanted and not self.candidates)

    @property
    def is_running(self) -> bool:
        """Whether a process runs the study now."""
        return self.driver is not None and self.driver.is_live

    @property
    def notes_now(self) -> tuple[str, ...]:
        """The notes that hold: while it runs, which trials break a limit."""
        if not self.is_running:
            return self.notes
        return self.notes[:1] if self.broken_limits else ()

    @property
    def holder(self) -> str:
        """Who runs the study, or how its last run ended."""
        driver = self.driver
        if driver is None:
            return "Nothing runs it."
        if self.is_running:
            doing = "Runs" if driver.searching else "Is being prepared"
            return f"{doing} in {driver.words}, since {driver.began} (UTC)."
        if not driver.outcome:
            return f"Nothing runs it: {driver.words} was killed, last seen {driver.beat} (UTC)."
        return f"Nothing runs it: {driver.words} ended {driver.ended} (UTC): {driver.outcome}."

    @property
    def how_to_go_on(self) -> str:
        """What to type next; empty where nothing is left to do or a process does it."""
        progress = self.progress
        if self.is_running or progress is None:
            return ""
        if progress.counts.finished >= progress.total and not self.is_unconfirmed:
            return ""
        return command("resume", self.folder.root)

    def as_json(self) -> dict[str, Any]:
        """The status as one JSON object."""
        progress, driver = self.progress, self.driver
        document: dict[str, Any] = {
            "study": str(self.folder.root),
            "running": self.is_running,
            "driver": driver.model_dump(mode="json") if driver else None,
        }
        if progress is None:
            return document
        left = progress.seconds_left
        return document | {
            "trials": progress.total,
            "finished": progress.counts.finished,
            **progress.counts.as_json(),
            "epochs": progress.epochs,
            "running_trials": [_as_json(trial) for trial in progress.running],
            "paused_trials": [_as_json(trial) for trial in progress.paused],
            "to_be_taken_up": progress.waiting,
            "early_stopping": progress.loss_budget.as_json() if progress.loss_budget else None,
            "front": [record.as_json() for record in progress.front],
            "knee": self.choice.chosen.number if self.choice else None,
            "knee_rule": self.choice.rule if self.choice else None,
            "notes": list(self.notes),
            "broken_limits": {str(number): words for number, words in self.broken_limits.items()},
            "confirmation": [one.as_json() for one in self.candidates],
            "trials_per_hour": progress.pace.trials_per_hour,
            "seconds_left": left,
            "resume": self.how_to_go_on or None,
        }


def study_status(where: str | os.PathLike[str] | Location) -> Status:
    """How the study at ``where`` stands; an ``InputError`` where there is none and none is being prepared."""
    folder = StudyFolder(Location.of(where))
    driver = read_driver(folder.root)
    if folder.exists():
        latencies = study_latencies(folder)
        return Status(
            folder,
            driver,
            _progress(folder, driver, latencies),
            latencies.choice,
            tuple(latencies.choice_notes()),
            tuple(candidates_of(folder)),
            latencies.broken_limits,
        )
    if driver is None:
        raise not_one(folder.root, STUDY, STUDY_FILE)
    return Status(folder, driver, None)


def _progress(folder: StudyFolder, driver: Driver | None, latencies: StudyLatencies) -> StudyProgress:
    header = folder.header()
    records = latencies.trials
    is_live = driver is not None and driver.is_live and driver.searching != ""
    begun = [record for record in records if record.state is State.RUNNING]
    under_way = [running_trial(folder, header, record) for record in begun]
    counts = TrialCounts.of(records, header.spec)
    ended = [record for record in records if record.state.ended]
    # After the last one to begin, not to end, which records do not tell; close enough for three lines.
    last = sorted(ended, key=lambda record: (record.started, record.number))[-_LAST:]
    return StudyProgress(
        folder=str(folder.root),
        total=header.spec.trials,
        counts=counts,
        front=tuple(latencies.front),
        running=tuple(under_way) if is_live else (),
        paused=tuple(
            paused_trial(record, budget_of(header.spec, record))
            for record in records
            if record.state is State.PAUSED
        ),
        waiting=0 if is_live else len(under_way),
        waiting_epochs=0 if is_live else sum(trial.epoch for trial in under_way),
        points=points_of(records),
        last=tuple(last),
        pace=_pace(driver, counts) if driver is not None and is_live else Pace(0, 0.0),
        limit=_limit(driver) if driver is not None and is_live else None,
        dashboard=driver.dashboard if driver is not None and is_live else None,
        stopping=_stopping(driver) if driver is not None and is_live else "",
        loss_budget=loss_budget(header.spec, counts),
    )


def running_trial(folder: StudyFolder, header: StudyHeader, record: TrialRecord) -> RunningTrial:
    """A trial that runs, as far as its curve on disk tells."""
    place = folder.trial_folder(record)
    rows = read_curve(place)
    files = [file.local() for file in (place / CURVE, place / WITHIN) if file.is_local and file.exists()]
    signs: list[float] = []
    with suppress(FileNotFoundError):  # gone in this very moment
        signs = [time.time() - file.stat().st_mtime for file in files]
    return RunningTrial(
        record=record,
        epoch=len(rows),
        epochs=trial_spec(header.spec, record.params).optim.epochs,
        curve=errors_of(place),
        age=seconds_since(record.started) if record.started else 0.0,
        quiet=max(0.0, min(signs)) if signs else None,
        standing=standing(place),
        interval=interval_in(rows[-1]) if rows else None,
    )


def _pace(driver: Driver, counts: TrialCounts) -> Pace:
    if not driver.searching:
        return Pace(0, 0.0)
    return Pace(max(0, counts.finished - driver.finished_before), seconds_since(driver.searching))


def _limit(driver: Driver) -> float | None:
    return max(0.0, -seconds_since(driver.deadline)) if driver.deadline else None


def _stopping(driver: Driver) -> str:
    return f"Stopping ({driver.stopping}): running trials write a checkpoint." if driver.stopping else ""


def _as_json(trial: RunningTrial) -> dict[str, Any]:
    return {
        "number": trial.record.number,
        "name": trial.record.name,
        "epoch": trial.epoch,
        "epochs": trial.epochs,
        "node": trial.node,
        "val_mae_years_by_epoch": list(trial.curve),
        "latency_ms_p50": trial.record.latency_ms_p50,
        "age_s": round(trial.age, 1),
        "quiet_s": None if trial.quiet is None else round(trial.quiet, 1),
        "val_mae_years_interval": trial.interval,
        "within_epoch": _within_as_json(trial),
    }


def _within_as_json(trial: RunningTrial) -> dict[str, Any] | None:
    """Where the epoch under way stands; None where none has gone on for long enough to be told of."""
    found = trial.standing
    if found is None:
        return None
    return asdict(found) | {"seconds_left": round(found.seconds_left(trial.epochs), 1)}
