"""Gives a trained model intervals by what five models of its recipe said of faces that they had not seen.

    python reports/champion/intervals.py WORK FACES MODEL

WORK is the folder of crossvalidate.py, FACES the dataset that it made of the same photographs, MODEL the
model's folder, which gets a calibration.json. The model has seen all of these faces, so it cannot calibrate
itself by them; the five models have seen a fifth less each, so their errors are no smaller.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from crossvalidate import FOLDS

from agesearch.data.dataset.records import Part, read_manifest
from agesearch.deploy.calibration import write_into
from agesearch.measure.calibration.faces import AnsweredFaces
from agesearch.measure.calibration.folds import person_folds
from agesearch.measure.calibration.run import CalibrationSpec, learn_intervals
from agesearch.measure.intervals import Persons
from agesearch.models.calibration.record import Calibration, CalibrationFaces
from agesearch.models.manifest import folder_digest, library_versions
from agesearch.provenance import now
from agesearch.storage import Location


def main(work: Path, faces: Path, model: Path) -> None:
    """Write the calibration into the model's folder, and print how often it holds."""
    rows = pq.read_table(work / "answers.parquet").to_pylist()
    persons = Persons.of([row["sample_id"] for row in rows], [row["subject_id"] for row in rows])
    age, pmf = (np.array([row[name] for row in rows]) for name in ("age", "pmf"))
    said = AnsweredFaces(pmf.astype(np.float32), age.astype(np.float64), persons)
    learnt = learn_intervals(said, said, None, person_folds(persons), CalibrationSpec(correct="off"))
    data, folder = read_manifest(faces), Location.of(model)
    calibration = Calibration(
        model_digest=folder_digest(folder, corrected=False),
        intervals=learnt.intervals,
        faces=CalibrationFaces(
            data=data.name,
            data_digest=data.content_digest,
            part=Part(),
            label_kind=data.label_kind,
            faces=len(rows),
            persons=persons.count,
            folds=FOLDS,
        ),
        evidence=learnt.evidence.model_dump(mode="json"),
        created=now(),
        versions=library_versions(),
    )
    print(write_into(folder, calibration))
    print(learnt.evidence.calibrated)


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:4]))
