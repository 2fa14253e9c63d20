"""The learning curves of a running study, as the rungs compare them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from agesearch.search.space.conditions import setting
from agesearch.search.stopping.rungs import LearningCurve
from agesearch.search.store.records import State, StudyFolder, TrialRecord
from agesearch.specs import StudySpec
from agesearch.storage import Location
from agesearch.training.curve import epoch_errors

_EPOCHS = "optim.epochs"
EPOCH_FACES = "optim.epoch_faces"


class StudyCurves:
    """Hears the error of each epoch; a trial taken up again goes on from the curve in its folder."""

    def __init__(self, folder: StudyFolder, spec: StudySpec) -> None:
        self._folder = folder
        self._spec = spec
        self._live: dict[int, dict[int, float]] = {}
        self._curves: dict[int, LearningCurve] = {}

    def hear(self, number: int, epoch: int, error: float) -> None:
        """The error in years after an epoch."""
        curve = self._live.setdefault(number, {})
        for later in range(epoch + 1, len(curve) + 1):  # of an attempt that went further than its checkpoint
            curve.pop(later, None)
        curve[epoch] = error
        self._curves.pop(number, None)

    def go_on(self, record: TrialRecord) -> None:
        """A trial is taken up again, from its last checkpoint."""
        known = dict(enumerate(record.curve, start=1))
        self._live[record.number] = epoch_errors(self._folder.trial_folder(record)) or known
        self._curves.pop(record.number, None)

    def epochs(self, number: int) -> int:
        """How many epochs are known of a trial that runs."""
        return len(_dense(self._live.get(number, {})))

    def end(self, number: int) -> tuple[float, ...]:
        """A trial is over; its errors epoch by epoch."""
        self._curves.pop(number, None)
        return _dense(self._live.pop(number, {}))

    def forget_checkpoint(self, number: int) -> None:
        """Remove what a stopped trial could go on from: it never will."""
        from agesearch.training.checkpoint import delete_state

        delete_state(self._folder.trial_folder(number))

    def curves(
        self, record: TrialRecord, records: Iterable[TrialRecord]
    ) -> tuple[LearningCurve, list[LearningCurve]]:
        """The curve of one trial so far, and those of all trials that have a latency."""
        known = [other for other in records if other.latency_ms_p50 is not None]
        return self.curve(record), [self.curve(other) for other in known]

    def curve(self, record: TrialRecord) -> LearningCurve:
        """The curve of one trial; made again only once there is something new of it."""
        kept = self._curves.get(record.number)
        if kept is not None and kept.state is record.state:
            return kept
        running = record.state is State.RUNNING
        errors = _dense(self._live.get(record.number, {})) if running else record.curve
        if record.state is State.COMPLETE and not errors:  # by a version that kept curves in the folder only
            errors = errors_of(self._folder.trial_folder(record))
        latency = math.inf if record.latency_ms_p50 is None else record.latency_ms_p50
        epochs = int(setting(self._spec, record.params, _EPOCHS))
        faces = setting(self._spec, record.params, EPOCH_FACES)
        curve = LearningCurve.of(record.number, latency, epochs, errors, record.state, faces)
        if record.latency_ms_p50 is not None:
            self._curves[record.number] = curve
        return curve


def errors_of(folder: Location) -> tuple[float, ...]:
    """The error after each epoch from the curve in a trial's folder, to the first epoch that has none."""
    return _dense(epoch_errors(folder))


def _dense(errors: dict[int, float]) -> tuple[float, ...]:
    """The errors from the first epoch to the first that is missing."""
    found: list[float] = []
    while len(found) + 1 in errors:
        found.append(errors[len(found) + 1])
    return tuple(found)
