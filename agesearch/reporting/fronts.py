"""A study's front as rows for a terminal or a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST
from agesearch.reporting import tables
from agesearch.search.front.measurements import (
    TEACHER,
    Measurements,
    has_measurements,
    picked,
    read_measurements,
)
from agesearch.search.store.records import State, StudyFolder, TrialRecord, knee_of, open_study


@dataclass(frozen=True)
class FrontRow:
    """A trial with what it is to the front; ``times_teacher``: how many times faster than the teacher."""

    trial: TrialRecord
    role: str
    parameters: int | None
    times_teacher: float | None

    def as_json(self) -> dict[str, Any]:
        """The trial's record with the other figures beside."""
        extra = {"role": self.role, "parameters": self.parameters, "times_teacher": self.times_teacher}
        return self.trial.as_json() | extra


def front_rows(where: str, *, every: bool = False) -> list[FrontRow]:
    """The front by rising latency, or every trial by number.

    An ``InputError`` where there is no study, or no COMPLETE trial that a front could be made of (``every``
    lists such a study all the same).
    """
    study = open_study(where)
    if not every:
        picked(study)  # speaks up where there is no front
    front = study.front()
    knee = knee_of(front).number if front else None
    measured = read_measurements(study) if has_measurements(study) else None
    pick = measured.summary.pick if measured else None
    return [
        FrontRow(
            trial,
            tables.role(trial, front, pick, knee),
            _parameters(study, trial),
            _times_teacher(measured, trial),
        )
        for trial in (study.trials() if every else front)
    ]


def _parameters(study: StudyFolder, trial: TrialRecord) -> int | None:
    folder = study.trial_folder(trial)
    if trial.state is not State.COMPLETE or not (folder / MANIFEST).exists():
        return None
    return read_model_manifest(folder).parameters


def _times_teacher(measured: Measurements | None, trial: TrialRecord) -> float | None:
    if measured is None:
        return None
    own, teacher = measured.latency_ms(trial.name), measured.latency_ms(TEACHER)
    return None if own is None or teacher is None else teacher / own
