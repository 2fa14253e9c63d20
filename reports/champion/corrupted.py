"""The student and both foreign networks on the same corrupted faces, which none of the students has seen.

    python reports/champion/corrupted.py WORK [FACES OF EACH FOLD]

WORK is the folder of crossvalidate.py: each fold's student answers for faces of its fold, and so do the
foreign networks, as they come and with an affine correction learnt from uncorrupted faces of the other folds.
The 15 corruptions of Hendrycks & Dietterich (2019), severities 1, 3 and 5. Run from the repository's folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from crossvalidate import FOLDS, faces_of

from agesearch.ages import expected_age
from agesearch.data.dataset.records import read_manifest
from agesearch.measure.calibration.corrections import fit_affine
from agesearch.measure.intervals import Persons, estimate
from agesearch.measure.robustness.corruptions import CORRUPTIONS, corrupt
from agesearch.models.predict import open_predictor
from agesearch.models.predictors import Predictor

FOREIGN = ("faceapi", "faceres")
LEVELS = [(name, severity) for name in CORRUPTIONS[:15] for severity in (1, 3, 5)]

Ages = npt.NDArray[np.float64]


def main(work: Path, most: int) -> None:
    """Print MAE in years: uncorrupted, under each corruption, over all of them, and paired differences."""
    faces = work / "faces"
    crop = read_manifest(str(faces)).crop
    foreign = {name: open_predictor(f"search_spaces/teachers/{name}.yaml", crop=crop) for name in FOREIGN}
    drawn = [faces_of(faces, fold) for fold in range(FOLDS)]
    images = [fold.images[:most] for fold in drawn]
    ids = [[str(name) for name in fold.sample_id[:most]] for fold in drawn]
    age = np.concatenate([fold.age[:most] for fold in drawn]).astype(np.float64)
    said: dict[str, list[Ages]] = {}
    for name, severity in [("clean", 0), *LEVELS]:
        shown = [
            np.stack(
                [corrupt(face, name, severity, sample_id) for face, sample_id in zip(*fold, strict=True)]
            )
            if severity
            else fold[0]
            for fold in zip(images, ids, strict=True)
        ]
        students = [
            _ages(open_predictor(str(work / f"fold-{fold}" / "model")), shown[fold]) for fold in range(FOLDS)
        ]
        said.setdefault("student", []).append(np.concatenate(students))
        for other, predictor in foreign.items():
            said.setdefault(other, []).append(_ages(predictor, np.concatenate(shown)))
        print(
            name,
            severity,
            {model: round(float(np.abs(found[-1] - age).mean()), 2) for model, found in said.items()},
            flush=True,
        )
    of_fold = np.repeat(np.arange(FOLDS), [len(fold) for fold in ids])
    for other in FOREIGN:
        said[f"{other}, corrected"] = _corrected(said[other], age, of_fold)
    persons = Persons.of(
        [name for fold in ids for name in fold],
        [name for fold in drawn for name in fold.subject_id[:most]],
    )
    errors = {model: np.abs(np.stack(found) - age) for model, found in said.items()}
    for model, error in errors.items():
        print(model, "clean", estimate(error[0], persons), "corrupted", estimate(error[1:].mean(0), persons))
        print("  student minus it, corrupted", estimate((errors["student"] - error)[1:].mean(0), persons))
        for at, name in enumerate(CORRUPTIONS[:15]):
            print("  ", name, round(float(error[1 + 3 * at : 4 + 3 * at].mean()), 2))


def _ages(predictor: Predictor, images: npt.NDArray[np.uint8]) -> Ages:
    return expected_age(predictor.pmf(images)).astype(np.float64)


def _corrected(found: list[Ages], age: Ages, of_fold: npt.NDArray[np.int64]) -> list[Ages]:
    """The answers to each level, corrected by what the other folds' uncorrupted faces teach."""
    corrected = [np.empty_like(answers) for answers in found]
    for fold in range(FOLDS):
        own = of_fold == fold
        correction = fit_affine(found[0][~own], age[~own])
        for answers, better in zip(found, corrected, strict=True):
            better[own] = correction.ages(answers[own])
    return corrected


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
