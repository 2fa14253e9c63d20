"""Which trials of a study keep their weights where it is to keep those of its front (``keep: front``).

Weights are nearly all of a study's bytes, and those of a dominated trial are hardly ever asked for: its
record, curve, spec and answers stay, and ``agesearch trial STUDY N --rerun`` trains it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import pyarrow.fs as pafs

from agesearch.errors import AgeSearchError
from agesearch.metrics import or_nan
from agesearch.models.manifest import MANIFEST, WEIGHTS, read_folder_manifest
from agesearch.search.space.conditions import possible
from agesearch.search.store.records import TRIALS_FOLDER, State, StudyFolder, TrialRecord
from agesearch.specs import ConfirmSpec, StudySpec

#: Of the trials behind a front, so many times as many as are wanted are compared with it, the nearest first.
COMPARED = 2


def needed(
    complete: Sequence[TrialRecord],
    front: Sequence[TrialRecord],
    going_on: Iterable[TrialRecord] = (),
    *,
    behind: int,
    inherits: bool = False,
) -> set[int]:
    """The numbers of the COMPLETE trials whose weights may be needed: the front's; of those behind it the
    ``behind`` nearest, which confirming may choose; where trials inherit weights, the best one of each
    architecture. And whatever these, and trials ``going_on``, started from.
    """
    kept = {record.number for record in front}
    gaps = [(_gap(record, front), record.number) for record in complete if record.number not in kept]
    kept |= {number for _, number in sorted(gaps)[:behind]}
    if inherits:
        best: dict[str, TrialRecord] = {}
        for record in sorted(complete, key=lambda one: (or_nan(one.val_mae_years), one.number)):
            best.setdefault(record.arch, record)
        kept |= {record.number for record in best.values()}
    started = [record for record in complete if record.number in kept]
    return kept | {record.inherited for record in (*started, *going_on) if record.inherited is not None}


def _gap(record: TrialRecord, front: Sequence[TrialRecord]) -> float:
    """By how many years it errs more than the best of the front that is at most as slow."""
    faster = [one for one in front if or_nan(one.latency_ms_p50) <= or_nan(record.latency_ms_p50)]
    errors = [or_nan(one.val_mae_years) for one in faster]
    return or_nan(record.val_mae_years) - min(errors, default=float("-inf"))


class KeptWeights:
    """Removes the weights of trials that will not need them, as they are found to be behind others.

    ``records`` are the trials of earlier runs.
    """

    def __init__(self, folder: StudyFolder, spec: StudySpec, records: Iterable[TrialRecord]) -> None:
        self._folder = folder
        self._behind = COMPARED * (spec.confirm or ConfirmSpec(seeds=1)).candidates
        self._inherits = possible(spec, "model.inherit") != ["none"]
        there = _with_weights(folder)
        self._complete = {record.number: record for record in records if record.number in there}

    def ended(
        self, record: TrialRecord, front: Sequence[TrialRecord], going_on: Iterable[TrialRecord]
    ) -> None:
        """A trial is COMPLETE, and the ``front`` with it is written; others are ``going_on``."""
        self._complete[record.number] = record
        self.sweep(front, going_on)

    def sweep(self, front: Sequence[TrialRecord], going_on: Iterable[TrialRecord]) -> None:
        """Remove what is not needed beside this front."""
        complete = [one for one in self._complete.values() if one.state is State.COMPLETE]
        kept = needed(complete, front, going_on, behind=self._behind, inherits=self._inherits)
        for number in [one.number for one in complete if one.number not in kept]:
            with suppress(AgeSearchError, OSError):  # out of reach: some bytes more
                (self._folder.trial_folder(number) / WEIGHTS).delete()
            del self._complete[number]


def has_weights(study: StudyFolder, trial: TrialRecord) -> bool:
    """Whether a COMPLETE trial's weights are there: a study may have been told once not to keep all."""
    place = study.trial_folder(trial)
    if (place / WEIGHTS).exists() or not (place / MANIFEST).exists():
        return True
    return WEIGHTS not in read_folder_manifest(place).files


def _with_weights(folder: StudyFolder) -> set[int]:
    """The trials that have weights now, by one listing."""
    trials = folder.place / TRIALS_FOLDER
    listed = pafs.FileSelector(trials.path, allow_not_found=True, recursive=True)
    found = (info.path.split("/") for info in trials.filesystem.get_file_info(listed))
    return {int(path[-2]) for path in found if path[-1] == WEIGHTS and path[-2].isdigit()}
