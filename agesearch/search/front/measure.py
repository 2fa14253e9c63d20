"""Measure a study's front after the search: speed side by side, predictions, robustness, a few faces to show.

``measure_study`` writes the records of ``agesearch.search.front.measurements`` and measures only what is not
there yet: predictions and robustness are kept for each model by the digest of its weights, and speed is
measured anew when trials, the hardware or a version have changed (``agesearch.search.front.speeds``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agesearch.data.dataset.records import Split, read_manifest
from agesearch.errors import InputError
from agesearch.measure.labelled_faces import LabelledFaces, labelled_faces, median_age
from agesearch.measure.robustness.protocol import CLEAN_LEVEL
from agesearch.measure.robustness.run import PredictedAges, robustness, score
from agesearch.measure.speed.hardware import hardware_name, runtime_versions
from agesearch.models.identity import model_digest
from agesearch.progress import Listener, silent
from agesearch.provenance import now
from agesearch.search.front.keyed_table import KeyedTable
from agesearch.search.front.latencies import picked, study_latencies
from agesearch.search.front.measurements import (
    FACES_FILE,
    FACES_SCHEMA,
    FOLDER,
    MEDIAN,
    PREDICTIONS_FILE,
    PREDICTIONS_SCHEMA,
    ROBUSTNESS_FILE,
    SPEED_FILE,
    SUMMARY_FILE,
    TEACHER,
    Measurements,
    MeasureSpec,
    Summary,
    read_measurements,
    spec_rows,
)
from agesearch.search.front.speeds import SpeedRun, StudyModel
from agesearch.search.run.setup import dataset_digest, same_source
from agesearch.search.store.records import State, StudyFolder, TrialRecord
from agesearch.session import ray_session
from agesearch.specs import digest_of
from agesearch.storage import Location

#: Faces kept of each kind (best, typical, worst) and source; a report shows some of them.
_SHOWN_FACES = 8
_SHOWN_SOURCES = 8


#: Among the settings of rows whose faces' persons are known: older rows' intervals were drawn over faces.
_PERSONS = "persons"


@dataclass(frozen=True)
class _Job:
    """What there is to measure, and where. ``models``: the teacher, then the front by rising latency, and the
    picked trial where it is not on it.
    """

    study: StudyFolder
    spec: MeasureSpec
    dataset: Location
    pick: TrialRecord
    models: list[StudyModel]
    speeds: SpeedRun

    @cached_property
    def keys(self) -> dict[str, str]:
        """The settings of each file: while they stay, its rows stay."""
        data = read_manifest(self.dataset).content_digest
        predictions = digest_of([data, self.spec.faces, _PERSONS])
        corrupted = [_PERSONS, self.spec.robustness_faces, self.spec.corruptions, self.spec.severities]
        return {
            PREDICTIONS_FILE: predictions,
            ROBUSTNESS_FILE: digest_of([data, *corrupted]),
            FACES_FILE: digest_of([predictions, self.picked.digest]),
        }

    @cached_property
    def picked(self) -> StudyModel:
        return next(model for model in self.models if model.name == self.pick.name)

    def table(self, name: str) -> KeyedTable:
        """A file with the settings that it is wanted under."""
        return KeyedTable(self.study.root / FOLDER / name, self.keys[name])

    def lacking(self, name: str, models: Sequence[StudyModel]) -> list[StudyModel]:
        """Those of ``models`` that a file has no good rows for."""
        table = self.table(name).rows()
        pairs = (
            [] if table is None else [table.column("model").to_pylist(), table.column("digest").to_pylist()]
        )
        known = set(zip(*pairs, strict=True))
        return [model for model in models if (model.name, model.digest) not in known]

    def kept(self, name: str, replaced: Iterable[str]) -> list[pa.Table]:
        """The good rows of a file (one table or none) of models other than ``replaced``."""
        table = self.table(name).rows()
        return [] if table is None else [table.filter(~pc.field("model").isin(list(replaced)))]

    def outstanding(self) -> list[str]:
        """The files that need work; empty when all is up to date."""
        lacking = [SPEED_FILE] if self.speeds.lacks(self.pick.name) else []
        if self.table(FACES_FILE).rows() is None:
            lacking.append(FACES_FILE)
        if self.lacking(PREDICTIONS_FILE, self.models):
            lacking.append(PREDICTIONS_FILE)
        if self.lacking(ROBUSTNESS_FILE, [self.models[0], self.picked]):
            lacking.append(ROBUSTNESS_FILE)
        return lacking


def measure_study(
    study: StudyFolder,
    *,
    pick: str = "knee",
    spec: MeasureSpec | None = None,
    dataset: str | None = None,
    teacher: str | None = None,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Measurements:
    """Bring ``STUDY/measured/`` up to date for the teacher, the front and the picked trial; returns it all.

    ``dataset`` and ``teacher`` say where they lie now, if not where the study found them. Starts Ray (or uses
    the running one, or joins ``address``) only where something is to be scored. Raises ``InputError`` where
    the study has no COMPLETE trial, or its dataset or teacher is not there or is another one.
    """
    job = _job(study, pick, spec or MeasureSpec(), dataset, teacher, on_progress)
    wanted = job.outstanding()
    if SPEED_FILE in wanted:  # before Ray starts, so that nothing else runs meanwhile
        job.speeds.time_pick(job.picked, on_progress)
    if set(wanted) - {SPEED_FILE}:
        with ray_session(address, on_progress=on_progress):
            _write_scores(job, wanted, on_progress)
    _write_summary(job)
    return read_measurements(study)


def _job(
    study: StudyFolder,
    pick: str,
    spec: MeasureSpec,
    dataset: str | None,
    teacher: str | None,
    on_progress: Listener,
) -> _Job:
    """What there is to measure. The front, and so the pick, are those of the side-by-side run, so that this
    comes first.
    """
    picked(study, pick)  # speaks up where there is nothing to pick
    header = study.header()
    teacher_folder = same_source("teacher", header.teacher, teacher, model_digest).path
    data = same_source("dataset", header.dataset, dataset, dataset_digest).path
    crop = read_manifest(data).crop
    complete = {
        record.number: StudyModel(record.name, study.trial_folder(record), crop)
        for record in study.trials()
        if record.state is State.COMPLETE
    }
    speeds = SpeedRun(study, StudyModel(TEACHER, Location.of(teacher_folder), crop), list(complete.values()))
    speeds.bring_up_to_date(on_progress)
    if speeds.engines.need_gates:
        _judge_front(speeds, complete, Location.of(data), on_progress)
    latencies = study_latencies(study)
    trial, front = latencies.pick(pick), [record.number for record in latencies.front]
    numbers = front if trial.number in front else [*front, trial.number]
    models = [speeds.teacher, *(complete[number] for number in numbers)]
    return _Job(study, spec, Location.of(data), trial, models, speeds)


def _judge_front(
    speeds: SpeedRun, complete: Mapping[int, StudyModel], dataset: Location, on_progress: Listener
) -> None:
    """Judge the front on the engines that are faster than fp32, and time it anew, until all of it stands on
    engines that hold: a trial that answers worse on its fastest stands on another, and may leave the front.
    """
    while True:
        latencies, engines, judged = study_latencies(speeds.study), speeds.engines, False
        for record in latencies.front:
            model = complete[record.number]
            unknown = engines.unjudged(model.digest, latencies.rows[record.number])
            if unknown:
                judged = True
                engines.judge(model.digest, model.scorer, dataset, unknown, on_progress)
        if not judged:
            return
        speeds.bring_up_to_date(on_progress)


def _write_scores(job: _Job, wanted: Sequence[str], on_progress: Listener) -> None:
    if PREDICTIONS_FILE in wanted or FACES_FILE in wanted:
        _write_predictions(job, on_progress)
    if ROBUSTNESS_FILE in wanted:
        _write_robustness(job, on_progress)


def _write_predictions(job: _Job, on_progress: Listener) -> None:
    """Validation and test faces by every model that lacks them, by the median, and the pick's faces."""
    lacking = job.lacking(PREDICTIONS_FILE, job.models)
    tables = job.kept(PREDICTIONS_FILE, [MEDIAN, *(model.name for model in lacking)])
    median = median_age(job.dataset)
    for split in (Split.VAL, Split.TEST):
        faces = labelled_faces(job.dataset, split, job.spec.faces)
        if not len(faces):
            if split is Split.VAL:
                raise InputError(f"'{job.dataset}' has no labelled validation faces to measure on.")
            continue
        stage = f"Predictions, {split}"
        models = {model.name: model.scorer for model in lacking}
        found = score(models, faces, [CLEAN_LEVEL], on_progress, stage=stage)[CLEAN_LEVEL] if models else {}
        tables += [_prediction_rows(m.name, m.digest, split, faces, found[m.name]) for m in lacking]
        constant = np.full(len(faces), median, dtype=np.float32)
        guess = PredictedAges(constant, np.full_like(constant, np.nan))
        tables.append(_prediction_rows(MEDIAN, MEDIAN, split, faces, guess))
        if split is Split.VAL:
            _write_faces(job, faces, pa.concat_tables(tables))
    job.table(PREDICTIONS_FILE).write(tables)


def _prediction_rows(
    name: str, digest: str, split: Split, faces: LabelledFaces, scores: PredictedAges
) -> pa.Table:
    count = len(faces)
    columns = {
        "model": [name] * count,
        "digest": [digest] * count,
        "split": [str(split)] * count,
        "sample_id": faces.sample_id,
        "subject_id": faces.subject_id,
        "source": faces.source,
        "age": faces.age,
        "predicted_age": scores.age,
        "spread": scores.spread,
    }
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def _write_faces(job: _Job, faces: LabelledFaces, predictions: pa.Table) -> None:
    """Crops of the pick's best, typical and worst validation faces of each source."""
    own = predictions.filter(
        (pc.field("digest") == job.picked.digest) & (pc.field("split") == Split.VAL.value)
    )
    found = {row["sample_id"]: row for row in own.to_pylist()}
    rows = []
    for kind, index in _shown(faces, [found[name]["predicted_age"] for name in faces.sample_id]):
        row = {name: found[faces.sample_id[index]][name] for name in FACES_SCHEMA.names[1:-1]}
        rows.append(row | {"kind": kind, "image": faces.crops[index]})
    job.table(FACES_FILE).write([pa.Table.from_pylist(rows, schema=FACES_SCHEMA)])


def _shown(faces: LabelledFaces, predicted: Sequence[float]) -> Iterable[tuple[str, int]]:
    """Kind and index of the faces to keep: the smallest, the middling and the largest errors by source."""
    error = np.abs(np.asarray(predicted) - faces.age)
    for source in sorted(set(faces.source))[:_SHOWN_SOURCES]:
        inside = [index for index, name in enumerate(faces.source) if name == source]
        ranked = sorted(inside, key=lambda index: (error[index], faces.sample_id[index]))
        count = min(_SHOWN_FACES, len(ranked) // 3)
        middle = (len(ranked) - count) // 2
        parts = {
            "best": ranked[:count],
            "typical": ranked[middle : middle + count],
            "worst": ranked[len(ranked) - count :][::-1],
        }
        yield from ((kind, index) for kind, indices in parts.items() for index in indices)


def _write_robustness(job: _Job, on_progress: Listener) -> None:
    lacking = job.lacking(ROBUSTNESS_FILE, [job.models[0], job.picked])
    faces = labelled_faces(job.dataset, Split.VAL, job.spec.robustness_faces)
    models = {model.name: model.scorer for model in lacking}
    rows = robustness(models, faces, job.spec.corruptions, job.spec.severities, on_progress)
    digests = {model.name: model.digest for model in job.models}
    job.table(ROBUSTNESS_FILE).write([*job.kept(ROBUSTNESS_FILE, models), spec_rows(rows, digests)])


def _write_summary(job: _Job) -> None:
    summary = Summary(
        pick=job.pick.number,
        spec=job.spec,
        median_age=median_age(job.dataset),
        hardware=hardware_name(),
        versions=runtime_versions(),
        created=now(),
    )
    (job.study.root / FOLDER / SUMMARY_FILE).write_json(summary.model_dump(mode="json"))
