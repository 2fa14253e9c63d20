"""What is noise among the errors of a study's students: paired differences on the same validation faces.

Each training keeps what its best epoch answered (``training.curve.ANSWERS``), so that two students are
compared face by face and persons are resampled (``agesearch.measure.intervals``): far fewer faces tell them
apart than two separate intervals would need. The noise of training anew with another seed is in no single
run: ``agesearch.search.choice.confirmed`` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from agesearch.errors import AgeSearchError
from agesearch.measure.intervals import Estimate, Persons, estimate
from agesearch.search.store.records import StudyFolder, TrialRecord
from agesearch.storage import Location
from agesearch.training.curve import ANSWERS

Values = npt.NDArray[np.float64]

#: Half of a 95 % interval is so many standard errors of a mean.
_ERRORS_OF_95 = 1.96


@dataclass(frozen=True)
class Answers:
    """The absolute errors in years of one student ``[N]``, on which faces, and whom they show."""

    faces: tuple[str, ...]
    persons: Persons
    errors: Values


@dataclass(frozen=True)
class Difference:
    """The error of trial ``faster`` minus that of trial ``slower``, in years, with its paired interval; None
    where the two did not keep their answers for the same faces.
    """

    faster: int
    slower: int
    years: Estimate | None

    @property
    def is_noise(self) -> bool:
        """Whether the two are not told apart: the 95 % interval holds zero."""
        return self.years is not None and self.years.low <= 0.0 <= self.years.high


def answers_of(study: StudyFolder, trial: TrialRecord) -> Answers | None:
    """What a COMPLETE trial's best epoch answered; None where nothing tells."""
    folder = study.trial_folder(trial)
    if not (folder / ANSWERS).exists():
        return None
    return _read(str(folder), trial.started, trial.seconds)


def difference(study: StudyFolder, faster: TrialRecord, slower: TrialRecord) -> Difference:
    """The paired difference of two trials of a study."""
    one, other = answers_of(study, faster), answers_of(study, slower)
    found = None
    if one is not None and other is not None and one.faces == other.faces:
        found = _estimated(_Pair(one, other))
    return Difference(faster.number, slower.number, found)


def neighbours(study: StudyFolder, front: Sequence[TrialRecord]) -> list[Difference]:
    """Each member of a front (by rising latency) against the next: what one pays the milliseconds for."""
    return [difference(study, one, other) for one, other in zip(front, front[1:], strict=False)]


def standard_error(found: Estimate) -> float:
    """That of an estimate, from its 95 % interval."""
    return (found.high - found.low) / 2.0 / _ERRORS_OF_95


def alike(found: Sequence[Difference]) -> dict[int, list[int]]:
    """By trial, its neighbours on the front whose error is not told apart from its own."""
    pairs: dict[int, list[int]] = {}
    for one in found:
        if one.is_noise:
            pairs.setdefault(one.faster, []).append(one.slower)
            pairs.setdefault(one.slower, []).append(one.faster)
    return pairs


def words(front: Sequence[TrialRecord], found: Sequence[Difference]) -> str:
    """What is noise on a front, in a sentence or two; empty where there is no pair to compare."""
    if not found:
        return ""
    known = [one for one in found if one.years is not None]
    if not known:
        return "Which errors differ by more than noise is not known: these trials kept no answers."
    noisy = [f"{one.faster} and {one.slower}" for one in known if one.is_noise]
    basis = next(one.years.basis for one in known if one.years is not None)
    rest = "" if len(known) == len(found) else f" {len(found) - len(known)} pairs kept no answers."
    if not noisy:
        return f"Neighbours on the front differ by more than noise (paired, {basis}).{rest}"
    return (
        f"Not told apart by their errors (paired 95 % intervals, {basis}): trials {'; '.join(noisy)}.{rest}"
    )


class _Pair:
    """Two answers, to be remembered by whose they are: a screen asks for them every two seconds."""

    def __init__(self, one: Answers, other: Answers) -> None:
        self.one, self.other = one, other

    def __hash__(self) -> int:
        return hash((id(self.one), id(self.other)))

    def __eq__(self, pair: object) -> bool:
        return isinstance(pair, _Pair) and self.one is pair.one and self.other is pair.other


@lru_cache(maxsize=512)
def _estimated(pair: _Pair) -> Estimate:
    return estimate(pair.one.errors - pair.other.errors, pair.one.persons)


@lru_cache(maxsize=256)
def _read(folder: str, started: str, seconds: float) -> Answers | None:
    """``started`` and ``seconds`` tell a trial from another one that lay there before."""
    try:
        table = (Location.of(folder) / ANSWERS).read_table()
        columns = {name: table.column(name).to_pylist() for name in ("sample_id", "subject_id")}
        age, predicted = (table.column(name).to_numpy() for name in ("age", "predicted_age"))
    except (AgeSearchError, KeyError):  # of another make, or damaged: nothing is known
        return None
    errors = np.abs(np.asarray(predicted, dtype=np.float64) - np.asarray(age, dtype=np.float64))
    if not len(errors) or not np.isfinite(errors).all():
        return None
    return Answers(
        tuple(columns["sample_id"]), Persons.of(columns["sample_id"], columns["subject_id"]), errors
    )
