"""Cross-validates one configuration with calibrated foreign teachers, by person, on a few hundred faces.

    python reports/champion/crossvalidate.py PHOTOS WORK

PHOTOS holds portraits.csv and images/. For each of five folds the teachers, and the network that the student
starts from, are calibrated and the student of search_spaces/champion.yaml is trained on the other four; the
last epoch is kept, so that the fold's faces choose nothing. A second run goes on where the first one stopped.
Run from the repository's folder.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import agesearch
from agesearch.ages import expected_age
from agesearch.data.dataset.records import Part, read_manifest
from agesearch.data.reading.loading import SplitFaces
from agesearch.data.reading.stored_faces import StoredFaces
from agesearch.distill.targets import teacher_targets
from agesearch.documents import load_spec
from agesearch.measure.intervals import Persons, estimate
from agesearch.specs import StudySpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.curve import ANSWERS
from agesearch.training.run import train_student

FOLDS = 5
TEACHERS = "search_spaces/teachers/ensemble.yaml"
START = "search_spaces/teachers/faceapi.yaml"


def main(photos: Path, work: Path) -> None:
    """Train what is missing, and print what all folds say."""
    spec = load_spec(StudySpec, "search_spaces/champion.yaml").student
    faces = work / "faces"
    if not (faces / "dataset.json").exists():
        _ingest(photos, work, faces)
    found = [row for fold in range(FOLDS) for row in _fold(spec, faces, work, fold)]
    parts = {name: [row for row in found if name in (row["source"], "all")] for name in _names(found)}
    result = {name: _figures(rows) for name, rows in parts.items()}
    (work / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, figures in result.items():
        print(name, figures)


def _ingest(photos: Path, work: Path, faces: Path) -> None:
    """The faces with the number of a fold each, drawn by a seed; one photograph a person."""
    with open(photos / "portraits.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    order = np.random.default_rng(0).permutation(len(rows))
    folds = np.empty(len(rows), dtype=int)
    folds[order] = np.arange(len(rows)) % FOLDS
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "folds.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, [*rows[0], "fold", "split"])
        writer.writeheader()
        for row, fold in zip(rows, folds, strict=True):
            writer.writerow(row | {"fold": fold, "split": "train"})
    agesearch.ingest("csv", work / "folds.csv", images=photos / "images", size=146, out=faces)


def _fold(spec: TrainSpec, faces: Path, work: Path, fold: int) -> list[dict[str, object]]:
    """Each face of a fold: its source, and the errors of student and teachers that have not seen it."""
    others = tuple(other for other in range(FOLDS) if other != fold)
    place, teacher, start = (
        work / name for name in (f"fold-{fold}", f"teachers-{fold}.json", f"start-{fold}.json")
    )
    for uncalibrated, out in ((TEACHERS, teacher), (START, start)):
        if not out.exists():
            agesearch.calibrate(uncalibrated, data=faces, split="train", folds=others, out=out)
    model = spec.model.model_copy(update={"weights": str(start)})
    targets = teacher_targets(str(teacher), str(faces))
    train = SplitFaces(StoredFaces.of(faces, Part(folds=others), targets=targets))
    tested = SplitFaces(StoredFaces.of(faces, Part(folds=(fold,))))
    train_student(
        spec.model_copy(update={"model": model}), train, tested, Location.of(place), read_manifest(faces).crop
    )
    said = pq.read_table(targets[0].path).to_pylist()
    teachers = {row["sample_id"]: float(expected_age(np.array(row["pmf"], dtype=np.float32))) for row in said}
    known = pq.read_table(str(faces / "shards"), columns=["sample_id", "source"]).to_pylist()
    source = {row["sample_id"]: row["source"] for row in known}
    return [
        row | {"source": source[row["sample_id"]], "teachers": teachers[row["sample_id"]]}
        for row in pq.read_table(place / ANSWERS).to_pylist()
    ]


def _names(found: list[dict[str, object]]) -> list[str]:
    return ["all", *sorted({str(row["source"]) for row in found})]


def _figures(rows: list[dict[str, object]]) -> dict[str, object]:
    """MAE in years with 95 % intervals over persons, of student and teachers, and their paired difference."""
    persons = Persons.of([row["sample_id"] for row in rows], [row["subject_id"] for row in rows])
    age = np.array([row["age"] for row in rows], dtype=float)
    student, teachers = (
        np.abs(np.array([row[name] for row in rows]) - age) for name in ("predicted_age", "teachers")
    )
    error = {"student": student, "teachers": teachers, "student minus teachers": student - teachers}
    return {"faces": len(rows)} | {name: asdict(estimate(values, persons)) for name, values in error.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
