"""Cross-validates the published configuration beside calibrated foreign teachers, by person.

    python reports/champion/crossvalidate.py PHOTOS WORK

PHOTOS holds portraits.csv and images/. For each of five folds the teachers are calibrated and the student is
fitted (probe.py) on the other four; the fold's faces choose nothing. A second run goes on where the first one
stopped. WORK/result.json has the figures, WORK/answers.parquet what each student said of its fold
(intervals.py calibrates by it). Run from the repository's folder.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import probe
import pyarrow as pa
import pyarrow.parquet as pq

import agesearch
from agesearch.ages import expected_age
from agesearch.data.dataset.records import Part
from agesearch.distill.targets import teacher_targets
from agesearch.measure.intervals import Persons, estimate
from agesearch.models.predict import open_predictor

FOLDS = 5
TEACHERS = "search_spaces/teachers/ensemble.yaml"


def main(photos: Path, work: Path) -> None:
    """Train what is missing, and print what all folds say."""
    faces = work / "faces"
    if not (faces / "dataset.json").exists():
        _ingest(photos, work, faces)
    known = probe.features(probe.rows_of(faces, Part()))
    found = [row for fold in range(FOLDS) for row in _fold(faces, work, fold, known)]
    pq.write_table(pa.Table.from_pylist(found), work / "answers.parquet")
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


def _fold(faces: Path, work: Path, fold: int, known: dict[str, probe.Floats]) -> list[dict[str, object]]:
    """Each face of a fold: its source, its age, and what student and teachers say that have not seen it."""
    others = tuple(other for other in range(FOLDS) if other != fold)
    teacher = work / f"teachers-{fold}.json"
    if not teacher.exists():
        agesearch.calibrate(TEACHERS, data=faces, split="train", folds=others, out=teacher)
    said = pq.read_table(teacher_targets(str(teacher), str(faces))[0].path).to_pylist()
    teachers = {row["sample_id"]: float(expected_age(np.array(row["pmf"], dtype=np.float32))) for row in said}
    unseen = Part(folds=(fold,))
    rows = probe.rows_of(faces, unseen)
    model = probe.fit(faces, Part(folds=others), unseen, work / f"fold-{fold}", known)
    kept = ("sample_id", "subject_id", "source", "age")
    return [
        {name: row[name] for name in kept}
        | {
            "pmf": pmf.tolist(),
            "predicted_age": float(expected_age(pmf)),
            "teachers": teachers[row["sample_id"]],
        }
        for row, pmf in zip(rows, open_predictor(str(model)).pmf(probe.pixels(rows)), strict=True)
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
