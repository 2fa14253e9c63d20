"""Cross-validates the published recipe beside calibrated foreign teachers, by person.

    python reports/champion/crossvalidate.py PHOTOS WORK [ARCH@SIZE]

PHOTOS holds portraits.csv and images/; ARCH@SIZE is a network to prune from face-api's, in each fold anew
(none: the whole one). For each of five folds the teachers are calibrated and a last layer is refitted
(`agesearch refit`) on the other four; the fold's faces choose nothing. A second run goes on where the first
one stopped. WORK/result.json has the figures. Run from the repository's folder.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

import agesearch
from agesearch.ages import expected_age
from agesearch.data.dataset.arrays import FaceArrays, read_arrays
from agesearch.data.dataset.records import Part, read_manifest
from agesearch.measure.intervals import Persons, estimate
from agesearch.models.predict import open_predictor

FOLDS = 5
STUDENT = "search_spaces/teachers/faceapi.yaml"
TEACHERS = "search_spaces/teachers/ensemble.yaml"


def main(photos: Path, work: Path, network: str | None = None) -> None:
    """Refit what is missing, and print what all folds say."""
    faces = work / "faces"
    if not (faces / "dataset.json").exists():
        _ingest(photos, work, faces)
    found = [row for fold in range(FOLDS) for row in _fold(faces, work, fold, network)]
    names = ["all", *sorted({str(row["source"]) for row in found})]
    result = {name: _figures([row for row in found if name in (row["source"], "all")]) for name in names}
    (work / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, figures in result.items():
        print(name, figures)


def faces_of(faces: Path, fold: int) -> FaceArrays:
    """The faces of a fold, with their crops."""
    return read_arrays(str(faces), Part(folds=(fold,)))


def rows_with_folds(photos: Path) -> list[dict[str, str]]:
    """The labels of the portraits with a number of a fold each, drawn by a seed."""
    with open(photos / "portraits.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    order = np.random.default_rng(0).permutation(len(rows))
    folds = np.empty(len(rows), dtype=int)
    folds[order] = np.arange(len(rows)) % FOLDS
    return [row | {"fold": str(fold)} for row, fold in zip(rows, folds, strict=True)]


def write_rows(file: Path, rows: list[dict[str, str]]) -> None:
    """Labels as a CSV that 'agesearch data ingest csv' reads."""
    with open(file, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _ingest(photos: Path, work: Path, faces: Path) -> None:
    """The faces with the number of a fold each; one photograph a person."""
    work.mkdir(parents=True, exist_ok=True)
    write_rows(work / "folds.csv", [row | {"split": "train"} for row in rows_with_folds(photos)])
    agesearch.ingest("csv", work / "folds.csv", images=photos / "images", size=146, out=faces)


def _fold(faces: Path, work: Path, fold: int, network: str | None) -> list[Mapping[str, object]]:
    """Each face of a fold: its source, its age, and what student and teachers say that have not seen it."""
    others = tuple(other for other in range(FOLDS) if other != fold)
    teacher = work / f"teachers-{fold}.json"
    if not teacher.exists():
        agesearch.calibrate(TEACHERS, data=faces, split="train", folds=others, out=teacher)
    model = agesearch.refit(
        network or STUDENT,
        init=STUDENT if network else None,
        data=faces,
        folds=others,
        out=work / f"fold-{fold}" / "model",
    )
    tested, crop = faces_of(faces, fold), read_manifest(str(faces)).crop
    student, teachers = (
        expected_age(open_predictor(str(place), crop=crop).pmf(tested.images))
        for place in (model.path, teacher)
    )
    known = zip(tested.sample_id, tested.subject_id, tested.source, tested.age, strict=True)
    return [
        {"sample_id": row[0], "subject_id": row[1], "source": row[2], "age": float(row[3])}
        | {"student": float(student[at]), "teachers": float(teachers[at])}
        for at, row in enumerate(known)
    ]


def _figures(rows: list[Mapping[str, object]]) -> dict[str, object]:
    """MAE in years with 95 % intervals over persons, of student and teachers, and their paired difference."""
    persons = Persons.of(*([str(row[name]) for row in rows] for name in ("sample_id", "subject_id")))
    age = np.array([row["age"] for row in rows], dtype=float)
    student, teachers = (
        np.abs(np.array([row[name] for row in rows]) - age) for name in ("student", "teachers")
    )
    error = {"student": student, "teachers": teachers, "student minus teachers": student - teachers}
    return {"faces": len(rows)} | {name: asdict(estimate(values, persons)) for name, values in error.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
