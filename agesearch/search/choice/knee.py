"""The rule by which a study's knee is chosen, in words wherever it is shown.

The knee of a front is where one more millisecond stops paying (``store.pareto.knee``). Its place hangs on
errors that are noisy, so a faster student takes it where it may be as good: by the rule of one standard error
(Breiman 1984) the fastest member is chosen whose error is above the knee's by no more than one standard error
of their paired difference. Confirmed candidates (``choice.confirmed``) are chosen by the mean of their new
trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agesearch.measure.intervals import Estimate
from agesearch.search.choice.confirmed import Candidate, confirmed_candidates, mean_difference
from agesearch.search.choice.noise import difference, standard_error
from agesearch.search.store.pareto import front as pareto_front
from agesearch.search.store.pareto import knee as knee_index
from agesearch.search.store.records import StudyFolder, TrialRecord, knee_of

RULE = (
    "the fastest on the front whose error is above the knee's by no more than one standard error of their "
    "paired difference"
)
CONFIRMED_RULE = (
    "of the confirmed candidates, by the mean of their new trainings: the fastest on their front whose error "
    "is above their knee's by no more than one standard error"
)


@dataclass(frozen=True)
class Choice:
    """The trial that is meant by ``knee``, by which rule, and the one with the smallest error; ``knee`` is
    the front's own, by the errors as they are; ``candidates`` are those that were confirmed.
    """

    chosen: TrialRecord
    best: TrialRecord
    knee: TrialRecord
    rule: str
    candidates: tuple[Candidate, ...] = ()

    @property
    def words(self) -> str:
        """Which trial is chosen and why, for a person."""
        is_other = self.chosen.number != self.knee.number
        alone = f" (by the errors alone: {self.knee.number})" if is_other else ""
        return f"Knee: trial {self.chosen.number}{alone}, {self.rule}."


def choose(study: StudyFolder, trials: Sequence[TrialRecord], front: Sequence[TrialRecord]) -> Choice | None:
    """The choice from a front by rising latency, whose trials are among ``trials``; None for an empty one."""
    if not front:
        return None
    knee = knee_of(front)
    confirmed = _by_means(study, trials, knee)
    if confirmed is not None:
        return confirmed

    def excess(member: TrialRecord) -> Estimate | None:
        return difference(study, member, knee).years

    return Choice(_fastest_alike(front, knee, excess), front[-1], knee, RULE)


def _by_means(study: StudyFolder, trials: Sequence[TrialRecord], knee: TrialRecord) -> Choice | None:
    """The choice among confirmed candidates; None where there are fewer than two to choose from."""
    found = {one.number: one for one in confirmed_candidates(study)}
    records = [trial for trial in trials if trial.number in found and trial.latency_ms_p50]
    if len(records) < 2:
        return None
    means = [found[record.number].mean_years for record in records]
    times = [float(record.latency_ms_p50 or 0.0) for record in records]
    front = [records[index] for index in pareto_front(list(zip(times, means, strict=True)))]
    middle = front[
        knee_index(
            [found[record.number].mean_years for record in front],
            [float(record.latency_ms_p50 or 0.0) for record in front],
        )
    ]

    def excess(member: TrialRecord) -> Estimate | None:
        return mean_difference(found[member.number], found[middle.number])

    chosen = _fastest_alike(front, middle, excess)
    return Choice(chosen, front[-1], knee, CONFIRMED_RULE, tuple(found.values()))


def _fastest_alike(
    front: Sequence[TrialRecord], knee: TrialRecord, excess: Callable[[TrialRecord], Estimate | None]
) -> TrialRecord:
    """The fastest of a front within one standard error of its knee; the knee where that is not known."""
    for member in front:
        if member.number == knee.number:
            break
        found = excess(member)
        if found is not None and found.value <= standard_error(found):
            return member
    return knee
