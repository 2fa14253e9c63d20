"""The model card: what was measured stands in it, and nothing from outside becomes markup."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from agesearch.data.dataset.records import Part
from agesearch.deploy.card import calibration_section, render_card
from agesearch.deploy.evidence import Accuracy, Evidence
from agesearch.deploy.export import Parity
from agesearch.measure.accuracy import AgeBin
from agesearch.measure.calibration.faces import AnsweredFaces
from agesearch.measure.calibration.folds import person_folds
from agesearch.measure.calibration.run import CalibrationSpec, learn_intervals
from agesearch.measure.intervals import Estimate, Persons
from agesearch.models.calibration.record import Calibration, CalibrationFaces
from agesearch.models.manifest import ModelManifest
from agesearch.specs import CropSpec, ModelSpec


def manifest(**fields: object) -> ModelManifest:
    provenance = {
        "dataset": {"name": "mine <script>|", "counts": {"val": 7}, "label_kind": "real", "detector": "none"},
        "parity": Parity(7, 1e-6, 2e-5).as_json(),
        "study": "first",
        "trial": 3,
        "trial_name": "0003-lcnet_035-48px",
        "teacher": {"name": "big"},
    }
    known = {
        "kind": "version",
        "model": ModelSpec(arch="lcnet_035", input_size=48),
        "crop": CropSpec(),
        "name": "ages",
        "version": 2,
        "provenance": provenance,
    }
    return ModelManifest.model_validate(known | fields)


def test_measurements_stand_in_the_card() -> None:
    evidence = Evidence(
        accuracy=[
            Accuracy("test", Estimate(5.5, 5.0, 6.0, 70), 0.62, -0.4, Estimate(5.0, 4.6, 5.5, 70), None)
        ],
        by_decade=[AgeBin(20, 29, Estimate(4.0, 3.0, 5.0, 12), 1.5)],
    )
    rows = [("clean", 0, 5.5), ("fog", 1, 6.0), ("fog", 3, 7.0), ("jpeg", 3, 8.0)]
    robustness = [{"corruption": name, "severity": level, "mae_years": mae} for name, level, mae in rows]
    lines = render_card(manifest(robustness=robustness), evidence).splitlines()
    assert "| test | 70 | 5.50 (5.00-6.00) | 62% | −0.40 | 5.00 (4.60-5.50) | - |" in lines
    assert "| 20-29 | 12 | 4.00 (3.00-5.00) | +1.50 |" in lines
    assert "| corruption | severity 1 | severity 3 |" in lines
    assert "| fog | 6.00 | 7.00 |" in lines
    assert "| jpeg | - | 8.00 |" in lines
    assert any("uncorrupted 5.50" in line for line in lines)
    assert "agesearch serve ages:0002" in lines


@pytest.mark.parametrize(
    ("folds", "told"),
    [
        (None, "40 faces of 40 persons (mine, the whole dataset) that chose nothing else about it."),
        (5, "for which 5 models of its recipe answered, each for those that it had not seen."),
    ],
)
def test_the_card_says_whose_answers_taught_the_intervals(folds: int | None, told: str) -> None:
    age = np.arange(20.0, 60.0)
    pmf = np.exp(-(((np.arange(101) - age[:, None] - 3.0) / 5.0) ** 2)).astype(np.float32)
    persons = Persons.of([str(one) for one in age], [None] * 40)
    answered = AnsweredFaces(pmf / pmf.sum(1, keepdims=True), age, persons)
    learnt = learn_intervals(answered, answered, None, person_folds(persons), CalibrationSpec())
    faces = CalibrationFaces(
        data="mine", data_digest="0", part=Part(), label_kind="real", faces=40, persons=40, folds=folds
    )
    found = Calibration(
        model_digest="0",
        intervals=learnt.intervals,
        faces=faces,
        evidence=learnt.evidence.model_dump(mode="json"),
    )
    assert told in calibration_section(found)
    assert ("folds" in found.model_dump(mode="json")["faces"]) == (folds is not None)  # old digests stay


def test_the_hub_reads_the_results_off_the_card() -> None:
    accuracy = [
        Accuracy(split, Estimate(value, 5.0, 6.0, 70, 30), 0.62, -0.4, None, None)
        for split, value in (("test", 5.5), ("val", 5.25))
    ]
    made = manifest()
    text = render_card(made, Evidence(accuracy=accuracy))
    card = ModelCard(text, ignore_metadata_errors=False)
    assert card.data.model_name == "ages-0002"
    assert (card.data.license, card.data.library_name) == ("other", "agesearch")
    found = {(row.dataset_split, row.metric_type): row.metric_value for row in card.data.eval_results or ()}
    assert (found["test", "mae"], found["val", "mae"], found["test", "bias"]) == (5.5, 5.25, -0.4)
    assert {row.dataset_name for row in card.data.eval_results or ()} == {"mine (script)/"}
    assert {row.dataset_type for row in card.data.eval_results or ()} == {"mine-script"}
    assert "of 30 persons" in text
    assert card.text.strip().startswith("# ages 0002")
    json.dumps(yaml.safe_load(text.split("---")[1]))  # plain values, no tags
    assert "model-index" not in ModelCard(render_card(made, Evidence())).data.to_dict()


def test_what_was_not_measured_is_said_and_names_are_no_markup() -> None:
    card = render_card(manifest(metrics={"val_mae_years": 7.0}), Evidence())
    assert "| val_mae_years | 7.000 |" in card
    assert card.count("Not measured.") == 2
    assert "mine (script)/, real ages; faces: 7 val" in card
    assert "<" not in card
    assert "trial 3 (0003-lcnet_035-48px), teacher big." in card


def test_the_licences_of_foreign_teachers_stand_in_the_card() -> None:
    licences = {"data": "CC0", "teacher faceapi": "MIT", "teacher faceres": "MIT"}
    lines = render_card(manifest(licences=licences), Evidence()).splitlines()
    at = lines.index("- Learnt from the teacher faceapi of other people, under: MIT")
    assert lines[at + 1] == "- Learnt from the teacher faceres of other people, under: MIT"
    assert lines[at - 1].endswith("Licence of the data: CC0")
    assert lines[at + 2].startswith("- Study")
