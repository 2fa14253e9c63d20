"""A study's front as rows for a terminal or a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST
from agesearch.reporting import tables
from agesearch.search.choice.confirmed import Candidate, candidates_of
from agesearch.search.choice.noise import alike
from agesearch.search.front.latencies import Latency, StudyLatencies, study_latencies
from agesearch.search.front.measurements import has_measurements, read_summary
from agesearch.search.store.records import State, StudyFolder, TrialRecord, open_study


@dataclass(frozen=True)
class FrontRow:
    """A trial, as it was timed last, with what it is to the front: ``alike`` are its neighbours there whose
    error is not told apart from its own; ``confirmed`` are its new trainings, ``broken_limits`` which
    limits of the study keep it off.
    """

    trial: TrialRecord
    role: str
    parameters: int | None
    latency: Latency
    searched_ms: float | None
    alike: tuple[int, ...] = ()
    confirmed: Candidate | None = None
    broken_limits: str = ""

    @property
    def times_teacher(self) -> float | None:
        """How many times faster than the teacher, where both were timed in one run."""
        return self.latency.times_teacher

    def as_json(self) -> dict[str, Any]:
        """The trial's record with the other figures; ``latency_run`` says where its latency is from,
        ``runtime`` and ``precision`` what it ran on.
        """
        extra = {
            "role": self.role,
            "parameters": self.parameters,
            "times_teacher": self.times_teacher,
            "latency_run": self.latency.run.value,
            "search_latency_ms_p50": self.searched_ms,
            "not_told_apart_from": list(self.alike),
            "broken_limits": self.broken_limits or None,
            "confirmed": self.confirmed.as_json() if self.confirmed else None,
            **self.latency.engines_json(),
        }
        return self.trial.as_json() | extra


@dataclass(frozen=True)
class FrontTable:
    """The rows, and what there is to say of their latencies."""

    rows: list[FrontRow]
    notes: list[str]


def front_table(where: str, *, every: bool = False) -> FrontTable:
    """The front by rising latency, or every trial by number.

    An ``InputError`` where there is no study, or no COMPLETE trial that a front could be made of (``every``
    lists such a study all the same).
    """
    study = open_study(where)
    latencies = study_latencies(study)
    if not every:
        latencies.pick()  # speaks up where there is no front
    pick = read_summary(study).pick if has_measurements(study) else None
    near, confirmed = alike(latencies.differences), {one.number: one for one in candidates_of(study)}
    searched = {trial.number: trial.latency_ms_p50 for trial in latencies.searched}
    rows = [
        FrontRow(
            trial,
            role_of(trial, latencies, pick),
            _parameters(study, trial),
            latencies.latency(trial),
            searched[trial.number],
            tuple(near.get(trial.number, ())),
            confirmed.get(trial.number),
            latencies.broken_limits.get(trial.number, ""),
        )
        for trial in (latencies.trials if every else latencies.front)
    ]
    return FrontTable(rows, [*latencies.notes(), *latencies.choice_notes()])


def role_of(trial: TrialRecord, latencies: StudyLatencies, pick: int | None) -> str:
    """What a trial is to the front, in words."""
    knee = latencies.knee
    return tables.role(trial, latencies.front, pick, knee.number if knee else None)


def _parameters(study: StudyFolder, trial: TrialRecord) -> int | None:
    folder = study.trial_folder(trial)
    if trial.state is not State.COMPLETE or not (folder / MANIFEST).exists():
        return None
    return read_model_manifest(folder).parameters
