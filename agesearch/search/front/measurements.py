"""What was measured on a study after its search, as records: speed, predictions, robustness, a few faces.

``STUDY/measured/`` holds ``speed.parquet``, ``predictions.parquet``, ``robustness.parquet``,
``faces.parquet`` and ``measured.json`` (which trial was picked, under which settings).
``agesearch.search.front.measure`` writes them; everything else, reports above all, only reads them here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from agesearch.errors import InputError, command
from agesearch.measure.accuracy import AgeBin, accuracy_by_decade, mae_estimate
from agesearch.measure.intervals import Estimate, Persons
from agesearch.measure.robustness.corruptions import REPORT_CORRUPTIONS, REPORT_SEVERITIES
from agesearch.measure.robustness.scores import RobustnessRow
from agesearch.measure.speed.rows import SpeedRow
from agesearch.search.store.records import StudyFolder
from agesearch.specs import SharedRecord, Spec, parse_spec

FOLDER = "measured"
SPEED_FILE = "speed.parquet"
PREDICTIONS_FILE = "predictions.parquet"
ROBUSTNESS_FILE = "robustness.parquet"
FACES_FILE = "faces.parquet"
SUMMARY_FILE = "measured.json"

#: Fields of rows that are kept as JSON.
_NESTED = frozenset({"versions", "others"})

#: Models that are no trial. A trial goes by its name.
TEACHER = "teacher"
MEDIAN = "median"

PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("subject_id", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("age", pa.float32(), nullable=False),
        pa.field("predicted_age", pa.float32(), nullable=False),
        pa.field("spread", pa.float32()),
    ]
)

FACES_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("age", pa.float32(), nullable=False),
        pa.field("predicted_age", pa.float32(), nullable=False),
        pa.field("spread", pa.float32(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
    ]
)


class MeasureSpec(Spec):
    """What to measure on a study's front: how many faces at most, and which corruptions.

    ``faces`` bounds the predictions of each split, ``robustness_faces`` the corrupted faces; where a split
    has more, the same ones are drawn every time (by a hash of their ids).
    """

    faces: int = Field(20_000, ge=1)
    robustness_faces: int = Field(500, ge=1)
    corruptions: tuple[str, ...] = REPORT_CORRUPTIONS
    severities: tuple[int, ...] = REPORT_SEVERITIES


class Summary(SharedRecord):
    """``measured.json``: the picked trial, what was asked, and on what it was measured."""

    pick: int
    spec: MeasureSpec
    median_age: float | None = Field(None, description="of the training faces, in years")
    hardware: str
    versions: dict[str, str]
    created: str


@dataclass(frozen=True)
class MeasuredPredictions:
    """One model on one split: ids, persons' names (None: unknown), sources, true and predicted ages and PMF
    spreads in years.
    """

    sample_id: list[str]
    subject_id: list[str | None]
    source: list[str]
    age: npt.NDArray[np.float32]
    predicted_age: npt.NDArray[np.float32]
    spread: npt.NDArray[np.float32]

    @cached_property
    def persons(self) -> Persons:
        """Who each face shows: what intervals resample."""
        return Persons.of(self.sample_id, self.subject_id)

    def mae(self) -> Estimate:
        """MAE in years with its interval."""
        return mae_estimate(self.predicted_age, self.age, self.persons)

    def by_decade(self) -> list[AgeBin]:
        """MAE with its interval, and bias, by decade of true age."""
        return accuracy_by_decade(self.predicted_age, self.age, self.persons)


@dataclass(frozen=True)
class FaceRow:
    """A face of the picked student's best, typical or worst: ages in years, the crop as encoded bytes."""

    kind: str
    sample_id: str
    source: str
    age: float
    predicted_age: float
    spread: float
    image: bytes


@dataclass(frozen=True)
class Measurements:
    """All that was measured on a study. MeasuredPredictions go by (split, model)."""

    summary: Summary
    speed: list[SpeedRow]
    predictions: dict[tuple[str, str], MeasuredPredictions]
    robustness: list[RobustnessRow]
    faces: list[FaceRow]


def has_measurements(study: StudyFolder) -> bool:
    """Whether a study was measured."""
    return (study.root / FOLDER / SUMMARY_FILE).exists()


def read_summary(study: StudyFolder) -> Summary:
    """Which trial was picked, and how a study was measured."""
    file = study.root / FOLDER / SUMMARY_FILE
    return parse_spec(Summary, file.read_json(), f"'{file}'")


def read_measurements(study: StudyFolder) -> Measurements:
    """The measurements of a study; an ``InputError`` where nothing was measured yet."""
    folder = study.root / FOLDER
    if not has_measurements(study):
        raise InputError(
            f"The study '{study.root}' has no '{FOLDER}/{SUMMARY_FILE}' yet; it is measured by: "
            f"{command('report', study.root)}"
        )
    return Measurements(
        summary=read_summary(study),
        speed=read_speed(study),
        predictions=_predictions((folder / PREDICTIONS_FILE).read_table()),
        robustness=[parse_spec(RobustnessRow, row, ROBUSTNESS_FILE) for row in _rows(study, ROBUSTNESS_FILE)],
        faces=[FaceRow(**row) for row in _rows(study, FACES_FILE)],
    )


def read_speed(study: StudyFolder) -> list[SpeedRow]:
    """The side-by-side timings of a study; none where it was not measured."""
    if not (study.root / FOLDER / SPEED_FILE).exists():
        return []
    return [parse_spec(SpeedRow, row, SPEED_FILE) for row in _rows(study, SPEED_FILE)]


def spec_rows(rows: Iterable[Spec], digests: dict[str, str]) -> pa.Table:
    """Rows of one spec as a table, mappings and lists as JSON, with the digest of each row's ``model``."""
    documents = []
    for row in rows:
        document = row.model_dump(mode="json")
        for name, value in document.items():
            is_nested = isinstance(value, dict | list)
            document[name] = json.dumps(value, sort_keys=True) if is_nested else value
        documents.append(document | {"digest": digests[document["model"]]})
    return pa.Table.from_pylist(documents)


def _rows(study: StudyFolder, file: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (study.root / FOLDER / file).read_table().to_pylist()
    for row in rows:
        row.pop("digest", None)
        for name in _NESTED & row.keys():
            row[name] = json.loads(row[name] or "[]")
    return rows


def _predictions(table: pa.Table) -> dict[tuple[str, str], MeasuredPredictions]:
    frame = {"subject_id": [None] * table.num_rows} | table.to_pydict()  # measured before it was kept
    places: dict[tuple[str, str], list[int]] = {}
    for index, key in enumerate(zip(frame["split"], frame["model"], strict=True)):
        places.setdefault(key, []).append(index)
    return {key: _predictions_at(frame, where) for key, where in places.items()}


def _predictions_at(frame: dict[str, list[Any]], where: Sequence[int]) -> MeasuredPredictions:
    def numbers(name: str) -> npt.NDArray[np.float32]:
        return np.array([frame[name][index] for index in where], dtype=np.float32)

    return MeasuredPredictions(
        [frame["sample_id"][index] for index in where],
        [frame["subject_id"][index] for index in where],
        [frame["source"][index] for index in where],
        numbers("age"),
        numbers("predicted_age"),
        numbers("spread"),
    )
