"""How sure the errors of a front are: intervals over the validation persons, and the median baseline's.

The front itself holds each trial's mean error only. A few students on some thousand faces are scored again in
seconds; where it would take longer, only the baseline is known, and ``measure_study`` is asked for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agesearch.data.dataset.records import Split, read_manifest
from agesearch.errors import AgeSearchError
from agesearch.machine import cores
from agesearch.measure.accuracy import mae_estimate
from agesearch.measure.intervals import Estimate
from agesearch.measure.labelled_faces import median_error
from agesearch.measure.predictions import Labels, predict_faces, read_labels
from agesearch.models.predict import open_predictor
from agesearch.progress import Listener, Progress, silent
from agesearch.search.front.measurements import MEDIAN
from agesearch.search.store.records import StudyFolder, TrialRecord
from agesearch.storage import Location

#: Students are scored where that takes about so long at most, in seconds of one core.
_MOST_S = 30.0


def front_accuracy(
    study: StudyFolder, front: Sequence[TrialRecord], on_progress: Listener = silent
) -> dict[str, Estimate]:
    """MAE in years with its interval on the validation faces, by the trial's name, and ``median``.

    What cannot be measured (the dataset has moved or has groups alone, a model is not there, or it would take
    too long) is left out.
    """
    header = study.header()
    dataset = Location.of(header.dataset.path)
    try:
        if read_manifest(dataset).content_digest != header.dataset.content_digest:
            return {}
        labels = read_labels(dataset, Split.VAL)
        labels = labels.take(np.isfinite(labels.age))
        found = {MEDIAN: median_error(dataset, labels)}
        if _seconds(front, labels) > _MOST_S:
            return found
        return {**found, **_scored(study, front, labels, dataset, on_progress)}
    except AgeSearchError:  # a report says what is wrong; a search that ended well does not fail here
        return {}


def _seconds(front: Sequence[TrialRecord], labels: Labels) -> float:
    return sum(record.latency_ms_p50 or 0.0 for record in front) * len(labels) / 1000.0


def _scored(
    study: StudyFolder,
    front: Sequence[TrialRecord],
    labels: Labels,
    dataset: Location,
    on_progress: Listener,
) -> dict[str, Estimate]:
    models = {record.name: open_predictor(study.trial_folder(record), "torch") for record in front}

    def heard(done: int) -> None:
        on_progress(Progress("Intervals of the front", done, len(labels), note="faces"))

    heard(0)
    predictions = predict_faces(models, dataset, labels, part=Split.VAL, threads=cores(), on_batch=heard)
    return {
        name: mae_estimate(faces.predicted, faces.age, faces.persons) for name, faces in predictions.items()
    }
