"""Which trials of a study are worth training again before one of them is picked."""

from __future__ import annotations

from collections.abc import Sequence

from agesearch.metrics import or_nan
from agesearch.search.choice.kept import COMPARED, has_weights
from agesearch.search.choice.noise import difference
from agesearch.search.store.records import State, StudyFolder, TrialRecord, knee_of


def candidates_for(
    study: StudyFolder, records: Sequence[TrialRecord], front: Sequence[TrialRecord], most: int
) -> list[TrialRecord]:
    """At most ``most`` trials by rising latency: the front's, those nearest to its knee first; then those
    that are behind it by no more than noise, the nearest first.
    """
    if not front:
        return []
    at = [member.number for member in front].index(knee_of(front).number)
    ranked = sorted(range(len(front)), key=lambda index: (abs(index - at), index))
    chosen = [front[index] for index in ranked[:most]]
    if len(chosen) < most:
        chosen += _behind(study, records, front, most)[: most - len(chosen)]
    return sorted(chosen, key=lambda trial: (or_nan(trial.latency_ms_p50), trial.number))


def _behind(
    study: StudyFolder, records: Sequence[TrialRecord], front: Sequence[TrialRecord], most: int
) -> list[TrialRecord]:
    """Trials whose error is not told apart from that of the best student which is at most as slow."""
    known = {member.configuration for member in front}
    excess: list[tuple[float, TrialRecord, TrialRecord]] = []
    for trial in records:
        if trial.state is not State.COMPLETE or trial.configuration in known:
            continue
        faster = [one for one in front if or_nan(one.latency_ms_p50) <= or_nan(trial.latency_ms_p50)]
        if faster:
            known.add(trial.configuration)
            gap = or_nan(trial.val_mae_years) - or_nan(faster[-1].val_mae_years)
            excess.append((gap, trial, faster[-1]))
    excess.sort(key=lambda one: (one[0], one[1].number))
    return [
        trial
        for _, trial, better in excess[: COMPARED * most]
        if difference(study, better, trial).is_noise and has_weights(study, trial)
    ]
