"""The faces that decisions are measured on: of each what a decision needs, and never its crop or PMF.

Crops are streamed past all models at once; of an answer stay the estimate and the ends of its interval, in
hundredths of a year, as they are told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agesearch.ages import FloatArray, expected_age
from agesearch.data.dataset.records import Part
from agesearch.data.dataset.shards import row_batches
from agesearch.data.dataset.texts import Texts
from agesearch.measure.intervals import Persons, Values
from agesearch.measure.predictions import Labels, crop_batches
from agesearch.models.calibration.record import Calibration, own_interval
from agesearch.models.predictors import Predictor
from agesearch.storage import Location

#: The middle share of its own probability that stands in for an interval where a model is not calibrated.
OWN_SHARE = 0.8
UNKNOWN = "unknown"

Told = npt.NDArray[np.int16]


@dataclass(frozen=True)
class DecisionFaces:
    """N faces with a true age, and what a model says of them, in hundredths of a year ``int16 [N]``.

    ``eyes`` are pixels between the eyes in the photograph (NaN: unknown).
    """

    age: Values
    eyes: FloatArray
    sex: Texts
    group: Texts
    persons: Persons
    estimates: Told
    lows: Told
    highs: Told

    def __len__(self) -> int:
        return len(self.age)

    @property
    def predicted(self) -> Values:
        """Estimates in years, as they are told."""
        return self.estimates / 100.0

    @property
    def low(self) -> Values:
        """The lower ends of the intervals in years."""
        return self.lows / 100.0

    @property
    def high(self) -> Values:
        """The upper ends of the intervals in years."""
        return self.highs / 100.0

    def take(self, where: npt.NDArray[Any]) -> Self:
        """The faces at some indices, or where a mask is true."""
        columns: dict[str, Any] = {
            field.name: getattr(self, field.name)[where] for field in fields(self) if field.name != "persons"
        }
        return type(self)(**columns, persons=self.persons.take(where))


@dataclass(frozen=True)
class Judge:
    """An open model and its calibration (None: it has none)."""

    predictor: Predictor
    calibration: Calibration | None

    def told(self, images: Any, labels: Labels, at: npt.NDArray[np.int64]) -> Told:
        """What it says of the images of n faces: estimates, lower and upper ends ``int16 [3, n]``."""
        pmf = self.predictor.pmf(images)
        if self.calibration is None:
            ends = own_interval(pmf, OWN_SHARE)
        else:
            by = self.calibration.intervals.by
            groups = None if by is None else np.array(list(getattr(labels, by)[at]), dtype=object)
            ends = self.calibration.intervals.of(pmf, groups)
        return np.round(100.0 * np.stack([expected_age(pmf), *ends])).astype(np.int16)


def judged_faces(
    judges: Mapping[str, Judge],
    dataset: str | Location,
    labels: Labels,
    *,
    part: Part | None = None,
    threads: int = 1,
    on_batch: Callable[[int], None] = lambda _: None,
) -> dict[str, DecisionFaces]:
    """The faces of ``labels``, all of which have an age, as each model judges them; each crop is read once
    for all.
    """
    told = {name: np.zeros((3, len(labels)), dtype=np.int16) for name in judges}
    done = 0
    for at, images in crop_batches(dataset, labels, part=part, threads=threads):
        for name, judge in judges.items():
            told[name][:, at] = judge.told(images, labels, at)
        done += len(at)
        on_batch(done)
    eyes = eye_distances(dataset, labels, part)
    sex, group = (texts.renamed(lambda text: text or UNKNOWN) for texts in (labels.sex, labels.ethnicity))
    age = labels.age.astype(np.float64)
    return {
        name: DecisionFaces(age, eyes, sex, group, labels.persons, *found) for name, found in told.items()
    }


def eye_distances(dataset: str | Location, labels: Labels, part: Part | None = None) -> FloatArray:
    """Pixels between the eyes of each face in its photograph ``[N]``; NaN where no landmarks are known."""
    place = np.full(len(labels.sample_id.names) + 1, -1, dtype=np.int64)
    place[labels.sample_id.numbers] = np.arange(len(labels))
    found = np.full(len(labels), np.nan, dtype=np.float32)
    for batch in row_batches(dataset, part, ["sample_id", "landmarks"]):
        known = batch.filter(batch["landmarks"].is_valid())
        points = known["landmarks"].to_pylist()
        eyes = np.array([row[:4] if len(row) >= 4 else [np.nan] * 4 for row in points]).reshape(-1, 4)
        at = place[labels.sample_id.places(known["sample_id"])]
        wanted = at >= 0
        across = np.hypot(eyes[:, 2] - eyes[:, 0], eyes[:, 3] - eyes[:, 1])
        found[at[wanted]] = across[wanted]
    return found
