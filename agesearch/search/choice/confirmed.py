"""A front's candidates trained again with other seeds: what that found, as it lies in ``STUDY/confirm``.

The folder is a study of its own (``store.records``), whose trials are the new trainings: their parameters
are the candidate's, and ``seed``. ``plan.json`` says which trial trains which candidate, in the order they
are handed out. A candidate was chosen for an error that luck had a part in, so its mean is that of the new
trainings alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agesearch.measure.intervals import Estimate
from agesearch.measure.repeated import repeated_estimate, spread
from agesearch.search.choice.noise import Answers, answers_of
from agesearch.search.store.records import State, StudyFolder, TrialRecord
from agesearch.specs import Spec, StudySpec, parse_spec

FOLDER = "confirm"
PLAN = "plan.json"
SEED = "seed"


class ConfirmationPlan(Spec):
    """Which candidate (a trial's number in the study) each new training is of, and with which seed."""

    seeds: int
    runs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A candidate's new trainings that are COMPLETE, of how many planned; ``answers`` are theirs, where each
    kept them for the same faces.
    """

    number: int
    planned: int
    ended: int
    records: tuple[TrialRecord, ...]
    answers: tuple[Answers, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether all its trainings ended, and one of them COMPLETE at least."""
        return self.ended == self.planned and bool(self.records)

    @property
    def mean_years(self) -> float:
        """Mean error in years over the new trainings."""
        return float(np.mean([record.val_mae_years for record in self.records]))

    @property
    def spread_years(self) -> float:
        """Standard deviation of the error over the new trainings."""
        return spread([float(record.val_mae_years or 0.0) for record in self.records])

    @property
    def interval(self) -> Estimate | None:
        """The mean with its interval over persons and seeds; None where the answers were not kept."""
        if not self.answers:
            return None
        return repeated_estimate(np.stack([one.errors for one in self.answers]), self.answers[0].persons)

    @property
    def words(self) -> str:
        """``trial 7: 5.61 years (5.40–5.82, spread 0.08 over 3 seeds)``."""
        found = self.interval
        ends = "" if found is None else f"{found.low:.2f}–{found.high:.2f}, "
        count = len(self.records)
        over = f"spread {self.spread_years:.2f} over {count} seeds" if count > 1 else "1 seed"
        return f"trial {self.number}: {self.mean_years:.2f} years ({ends}{over})"

    def as_json(self) -> dict[str, Any]:
        """The candidate for a program."""
        found = self.interval
        return {
            "number": self.number,
            "trainings": len(self.records),
            "planned": self.planned,
            "mean_val_mae_years": self.mean_years if self.records else None,
            "spread_years": self.spread_years,
            "interval": None if found is None else [found.low, found.high],
            "val_mae_years": [record.val_mae_years for record in self.records],
        }


def with_seeds(spec: StudySpec, seeds: int | None) -> dict[str, int] | None:
    """What ``--confirm`` asks for, in place of what the study says; None where nothing is asked."""
    if seeds is None:
        return None
    return (spec.confirm.model_dump() if spec.confirm else {}) | {"seeds": seeds}


def confirmation(study: StudyFolder) -> StudyFolder:
    """The folder of a study's new trainings, whether it is there or not."""
    return study.inside(FOLDER)


def read_plan(study: StudyFolder) -> ConfirmationPlan | None:
    """What is to be trained again; None where nothing is."""
    file = confirmation(study).root / PLAN
    return parse_spec(ConfirmationPlan, file.read_json(), f"'{file}'") if file.exists() else None


def candidates_of(study: StudyFolder) -> list[Candidate]:
    """Every candidate of the plan as it stands, in the order of the plan."""
    plan = read_plan(study)
    if plan is None:
        return []
    folder = confirmation(study)
    records = folder.trials()
    found = []
    for number in dict.fromkeys(candidate for candidate, _ in plan.runs):
        planned = [index for index, (candidate, _) in enumerate(plan.runs) if candidate == number]
        own = [record for record in records if record.number in planned]
        done = tuple(record for record in own if record.state is State.COMPLETE)
        ended = sum(record.state.ended for record in own)
        found.append(Candidate(number, len(planned), ended, done, _answers(folder, done)))
    return found


def confirmed_candidates(study: StudyFolder) -> list[Candidate]:
    """Those whose new trainings are over; none while any candidate's are not, so that nobody is chosen for
    being early.
    """
    found = [one for one in candidates_of(study) if one.records or one.ended < one.planned]
    return found if all(one.is_over for one in found) else []


def mean_difference(one: Candidate, other: Candidate) -> Estimate | None:
    """The mean error of ``one`` minus that of ``other`` with its interval over persons and seeds, paired seed
    by seed; None where they have not the same faces and seeds.
    """
    if len(one.answers) != len(other.answers) or not one.answers:
        return None
    if one.answers[0].faces != other.answers[0].faces:
        return None
    pairs = zip(one.answers, other.answers, strict=True)
    return repeated_estimate(np.stack([a.errors - b.errors for a, b in pairs]), one.answers[0].persons)


def _answers(folder: StudyFolder, records: Sequence[TrialRecord]) -> tuple[Answers, ...]:
    found = [answers_of(folder, record) for record in records]
    known = tuple(one for one in found if one is not None)
    same = all(one.faces == known[0].faces for one in known)
    return known if same and len(known) == len(records) else ()
