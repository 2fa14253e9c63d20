"""Cross-validates students that a search of `search_spaces/portraits.yaml` found, by person.

    python reports/champion/students.py PHOTOS WORK STUDY TRIAL...

PHOTOS holds portraits.csv and images/, STUDY the search. In each of five folds (those of `crossvalidate.py`)
the other four make the teacher and the mixed faces (`students.sh`), on which the configurations of these
trials are trained anew; the last epoch's weights answer the fold's faces, which choose nothing. A second run
goes on where the first one stopped. WORK/students.json has the figures. Run from the repository's folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from crossvalidate import FOLDS, rows_with_folds, write_rows

import agesearch
from agesearch.measure.intervals import Persons, estimate

SPACE = Path("search_spaces/portraits.yaml")


def main(photos: Path, work: Path, study: Path, trials: list[int]) -> None:
    """Train what is missing, and print what all folds say of each configuration."""
    work.mkdir(parents=True, exist_ok=True)
    _write_space(work / "space.yaml", study, trials)
    rows = rows_with_folds(photos)
    source = {row["subject_id"]: row["source"] for row in rows}
    found: dict[str, list[pa.Table]] = {}
    for fold in range(FOLDS):
        folder = work / f"fold-{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        split = [row | {"split": "val" if row["fold"] == str(fold) else "train"} for row in rows]
        write_rows(folder / "faces.csv", split)
        _train(folder, photos, work / "space.yaml", len(trials))
        for trial in agesearch.open_study(folder / "study").records.to_pylist():
            answers = pq.read_table(folder / "study" / trial["folder"] / "validation.parquet")
            found.setdefault(f"{trial['number']} {trial['name']}", []).append(answers)
    result = {name: _figures(pa.concat_tables(tables), source) for name, tables in found.items()}
    (work / "students.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def _write_space(file: Path, study: Path, trials: list[int]) -> None:
    """The space with these configurations of a study first, no limits, and no choice of an epoch."""
    space = yaml.safe_load(SPACE.read_text(encoding="utf-8"))
    space = {name: value for name, value in space.items() if not name.startswith("max_")}
    space["student"]["optim"]["keep"] = "last"
    records = {row["number"]: row for row in agesearch.open_study(study).records.to_pylist()}
    space["first"] = [{name: records[trial][f"params_{name}"] for name in space["space"]} for trial in trials]
    text = yaml.safe_dump(space, sort_keys=False)
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise SystemExit(f"'{file.parent}' holds folds of other trials: remove it, or name another folder.")
    file.write_text(text, encoding="utf-8")


def _train(folder: Path, photos: Path, space: Path, trials: int) -> None:
    """The first configurations of the space on a fold, none stopped early."""
    command = ["sh", "reports/champion/students.sh", str(folder), str(folder / "faces.csv"), str(space)]
    tune = ["--", "--trials", str(trials), "--no-rungs"]
    subprocess.run([*command, *tune], env=os.environ | {"PHOTOS": str(photos)}, check=True)


def _figures(answers: pa.Table, source: dict[str, str]) -> dict[str, object]:
    """MAE in years with 95 % intervals over persons, on all faces and by source; by fold without."""
    columns = {name: answers[name].to_numpy(zero_copy_only=False) for name in answers.column_names}
    error = np.abs(columns["predicted_age"] - columns["age"]).astype(float)
    sources = np.array([source[name.rpartition("/")[2]] for name in columns["subject_id"]])
    persons = Persons.of(columns["sample_id"].tolist(), columns["subject_id"].tolist())
    parts = {"all": np.ones(len(error), dtype=bool)} | {name: sources == name for name in set(sources)}
    figures = {name: asdict(estimate(error[part], persons.take(part))) for name, part in parts.items()}
    ends = np.cumsum([len(chunk) for chunk in answers["age"].chunks])[:-1]
    return {"faces": len(error), "folds": [float(fold.mean()) for fold in np.split(error, ends)]} | figures


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), [int(trial) for trial in sys.argv[4:]])
