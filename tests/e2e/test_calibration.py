"""Calibration: which faces it may come from, and where it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_study import write_measured, write_study
from foreign_graphs import write_teacher
from published_sets import tiny_model, write_set
from typer.testing import CliRunner

from agesearch.ages import expected_age
from agesearch.cli.main import app
from agesearch.data.dataset.records import Split, read_manifest
from agesearch.deploy.calibration import calibrate_model
from agesearch.deploy.card import calibrated_card, calibration_section
from agesearch.deploy.integrity import SUMS, file_digest, verify
from agesearch.deploy.places import model_place
from agesearch.deploy.registry import Registry, Version
from agesearch.distill.targets import teacher_targets
from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.calibration.run import CalibrationSpec, evidence_of
from agesearch.measure.leakage import calibration_notes
from agesearch.measure.predictions import read_labels
from agesearch.measure.speed.gate import closed
from agesearch.models.calibration.record import CALIBRATION
from agesearch.models.identity import (
    calibrated_teacher,
    calibration_of,
    calibrations_in,
    model_digest,
    read_model_manifest,
)
from agesearch.models.manifest import MANIFEST, ModelManifest, folder_calibration
from agesearch.models.predict import open_predictor
from agesearch.models.runtimes.engines import BF16, OPENVINO, Engine
from agesearch.models.trained_on import trained_on
from agesearch.reporting.report import build_report
from agesearch.search.front.latencies import picked
from agesearch.search.run.teachers import chosen_teachers
from agesearch.search.store.records import StudyFolder
from agesearch.specs import ModelSpec, StudySpec, TeacherPlace, TeachersSpec, TrainSpec
from agesearch.storage import Location

RUNNER = CliRunner()


@pytest.fixture
def young(tmp_path: Path) -> tuple[Path, Path]:
    """A foreign teacher that answers six years too young, and 60 faces of each split."""
    rng = np.random.default_rng(3)
    rows = []
    for split in ("train", "val", "test"):
        for age in rng.uniform(15, 75, 60):
            shows = float(np.clip(age - 6 + rng.normal(0, 3), 1, 100))
            rows.append({"age": float(age), "shows": shows, "split": split})
    write_set(tmp_path / "faces", rows, "real")
    output = {"kind": "scalar", "name": "means", "scale": 0.5, "spread": 8.0}
    return write_teacher(tmp_path / "mean", output=output), tmp_path / "faces"


def test_a_foreign_teacher_is_calibrated_beside_it_and_then_teaches(young: tuple[Path, Path]) -> None:
    teacher, faces = young
    where = teacher.parent / "calibrated.json"
    result = RUNNER.invoke(
        app, ["calibrate", str(teacher), "--data", str(faces), "--out", str(where), "--json"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["calibration"]
    assert found["faces"]["part"]["split"] == "train"
    assert found["correction"]["kind"] == "affine"
    assert "/" not in json.loads(where.read_text())["teacher"]
    images = np.full((1, 32, 32, 3), 80, np.uint8)
    before, after = (expected_age(open_predictor(str(one)).pmf(images))[0] for one in (teacher, where))
    assert (before, after) == (pytest.approx(40, abs=0.1), pytest.approx(46, abs=1.5))
    assert model_digest(str(where)) != model_digest(str(teacher))
    (plain,), (targets,) = teacher_targets(str(teacher), str(faces)), teacher_targets(str(where), str(faces))
    assert (plain.parent.name, targets.parent.name) == (model_digest(str(teacher)), model_digest(str(where)))
    told = expected_age(np.stack(targets.read_table().column("pmf").to_pylist()))
    raw = expected_age(np.stack(plain.read_table().column("pmf").to_pylist()))
    assert np.mean(told - raw) == pytest.approx(6, abs=1.0)
    evidence = evidence_of(calibration_of(str(where)))  # type: ignore[arg-type]
    assert evidence.calibrated.coverage.value == pytest.approx(0.8, abs=0.1)
    assert any("not known" in note for note in evidence.notes)


def test_a_space_names_a_teacher_with_its_calibration(young: tuple[Path, Path]) -> None:
    teacher, faces = young
    where = str(teacher.parent / "calibrated.json")
    calibrate_model(Location.of(teacher), str(faces), CalibrationSpec(), out=where)
    student = TrainSpec(model=ModelSpec(arch="lcnet_035"))
    space = {"optim.learning_rate": {"low": 0.001, "high": 0.01}}
    place = TeacherPlace(path=str(teacher), calibration=where)
    spec = StudySpec.model_validate({"student": student, "space": space, "teachers": TeachersSpec(age=place)})
    folder = StudyFolder(Location.of(faces.parent / "study"))
    assert chosen_teachers(spec, folder, None, None).age == Location.of(where)
    other = write_teacher(
        teacher.parent / "other", name="other", output={"kind": "scalar", "name": "means", "spread": 1}
    )
    with pytest.raises(InputError, match=r"calibrates the model .* calibrate that one"):
        calibrated_teacher(str(other), where)
    with pytest.raises(
        InputError, match="is no calibration of a teacher: make one with: agesearch calibrate"
    ):
        calibrated_teacher(str(teacher), str(teacher))


def test_a_teacher_that_changed_is_not_answered_for(young: tuple[Path, Path]) -> None:
    teacher, faces = young
    where = str(teacher.parent / "calibrated.json")
    calibrate_model(Location.of(teacher), str(faces), CalibrationSpec(), out=where)
    teacher.write_text(teacher.read_text().replace("spread: 8.0", "spread: 9.0"))
    with pytest.raises(InputError, match="calibrate it again, or correct 'teacher'"):
        open_predictor(where)


def test_what_cannot_be_written_is_told_before_any_face(young: tuple[Path, Path]) -> None:
    teacher, faces = young
    for words, message in (
        ([], "name the file for"),
        (["--out", str(faces)], "must end with .json"),
        (["--out", str(teacher)], "is no calibration, and stays as it is"),
    ):
        result = RUNNER.invoke(app, ["calibrate", str(teacher), "--data", str(faces), *words])
        assert isinstance(result.exception, AgeSearchError)
        assert message in str(result.exception)


@pytest.fixture
def own(tmp_path: Path) -> tuple[Location, Path]:
    """A model folder that was trained on a dataset of 40 faces a split."""
    rows = [
        {"age": 10.0 + i % 60, "split": split, "sex": "male" if i % 10 else "female"}
        for split in ("train", "val", "test")
        for i in range(40)
    ]
    data = write_set(tmp_path / "faces", rows, "real")
    folder = Location.of(tiny_model(tmp_path / "model"))
    manifest = read_model_manifest(folder).model_copy(update={"trained_on": trained_on(data)})
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))
    return folder, tmp_path / "faces"


@pytest.mark.parametrize(("split", "seen"), [("train", "was trained"), ("val", "had its best epoch chosen")])
def test_faces_that_trained_or_chose_are_refused(own: tuple[Location, Path], split: str, seen: str) -> None:
    folder, faces = own
    with pytest.raises(InputError, match=f"{seen} on 40 of the 40 .* must have chosen nothing"):
        calibrate_model(folder, str(faces), CalibrationSpec(split=Split(split)))
    assert folder_calibration(folder) is None


def test_it_becomes_a_file_of_a_folder_and_takes_the_place_of_the_one_before(
    own: tuple[Location, Path],
) -> None:
    folder, faces = own
    digest = model_digest(folder)
    first = calibrate_model(folder, str(faces), CalibrationSpec(by="sex"))
    assert str(first.calibration.faces.part) == "split 'test'"
    assert "own: female (4 faces), male (36 faces); theirs" in " ".join(evidence_of(first.calibration).notes)
    assert first.calibration.evidence["corrections"] == []
    assert model_digest(folder) == digest  # intervals alone change no answer
    second = calibrate_model(folder, str(faces), CalibrationSpec(level=0.9, correct="affine"))
    kept = folder_calibration(folder)
    assert kept == second.calibration
    assert kept is not None
    assert kept.level == 0.9
    assert (model_digest(folder) != digest) == (kept.correction is not None)
    assert kept.model_digest == digest
    (folder / CALIBRATION).write_bytes(b"{}")
    with pytest.raises(InputError, match="is damaged"):
        folder_calibration(folder)


def test_too_few_faces_are_refused(tmp_path: Path, own: tuple[Location, Path]) -> None:
    write_set(tmp_path / "few", [{"age": 20.0 + i} for i in range(9)], "real")
    with pytest.raises(InputError, match=r"has 9 faces of 9 persons .* needs 13 faces of 10"):
        calibrate_model(own[0], str(tmp_path / "few"), CalibrationSpec(split=Split.TEST))
    write_set(tmp_path / "guessed", [{"age": 20.0 + i} for i in range(30)], "teacher")
    with pytest.raises(InputError, match="has 0 faces"):
        calibrate_model(own[0], str(tmp_path / "guessed"), CalibrationSpec(split=Split.TEST))


def test_a_calibration_says_what_its_intervals_hold_on_the_other_engines_of_a_version(
    own: tuple[Location, Path],
) -> None:
    """The same network on OpenVINO differs by rounding; behind a closed gate nothing is measured."""
    folder, faces = own
    held = closed(Engine(OPENVINO), 0.1, "").with_values({"holds": True})
    gates = [held, closed(Engine(OPENVINO, BF16), 0.1, "it loses too much")]
    manifest = read_model_manifest(folder)
    rows = [gate.model_dump(mode="json") for gate in gates]
    (folder / MANIFEST).write_json(manifest.model_copy(update={"precisions": rows}).model_dump(mode="json"))
    made = calibrate_model(folder, str(faces), CalibrationSpec()).calibration
    evidence = evidence_of(made)
    (one,) = evidence.engines
    assert one.engine == Engine(OPENVINO)
    assert one.coverage.value == pytest.approx(evidence.calibrated.coverage.value, abs=0.03)
    assert one.width_years == pytest.approx(evidence.calibrated.width_years, abs=0.01)
    assert abs(one.difference.value) <= 0.03
    assert "| openvino fp32 | " in calibration_section(made)


@pytest.fixture
def published(tmp_path: Path, own: tuple[Location, Path]) -> Version:
    """The model folder as the champion of a registry."""
    folder, _ = own
    registry = Registry(str(tmp_path / "registry"))
    manifest = read_model_manifest(folder)
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    files["card.md"] = (
        b"# ages 0001\n\nold. The interval it gives is the model's own belief and was not calibrated.\n"
    )
    update = {
        "kind": "version",
        "name": "ages",
        "version": 1,
        "files": manifest.files | {"card.md": file_digest(files["card.md"])},
    }
    files[MANIFEST] = ModelManifest.model_validate(manifest.model_dump() | update).model_dump_json().encode()
    with registry.locked("ages"):
        old = registry.add("ages", 1, files)
    registry.move_alias(old, "champion")
    return old


def test_a_published_version_stays_and_becomes_the_next_one(
    published: Version, own: tuple[Location, Path]
) -> None:
    old, faces = published, own[1]
    before = {child.name: child.read_bytes() for child in old.folder.children()}
    made = calibrate_model(old.folder, str(faces), CalibrationSpec())
    assert made.version is not None
    assert (made.version.label, made.moved) == ("ages:0002", ("champion",))
    assert {child.name: child.read_bytes() for child in old.folder.children()} == before
    verify(made.version.folder)
    assert CALIBRATION in (made.version.folder / SUMS).read_text()
    assert folder_calibration(made.version.folder) == made.calibration
    card = (made.version.folder / "card.md").read_text()
    assert card.startswith("# ages 0002\n")
    assert "was not calibrated" not in card
    assert "80% of the true ages lie inside its intervals, learnt from 40 faces" in card
    again = calibrate_model(made.version.folder, str(faces), CalibrationSpec())
    assert again.version is not None
    recalibrated = calibrated_card(card, made.version.manifest(), again.version.manifest(), again.calibration)
    assert recalibrated.count("## How sure it is") == 1


def test_a_version_of_the_package_goes_on_in_the_registry_of_ones_own(
    tmp_path: Path, published: Version, own: tuple[Location, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = published.folder.parent.parent.parent
    monkeypatch.setattr("agesearch.deploy.registry.SHIPPED", str(shipped))
    before = sorted(str(file) for file in shipped.local().rglob("*"))
    mine = Registry(str(tmp_path / "mine"))
    place = model_place("ages", str(mine.root))
    made = calibrate_model(place, str(own[1]), CalibrationSpec(), registry=mine.root)
    assert sorted(str(file) for file in shipped.local().rglob("*")) == before
    assert [version.number for version in mine.versions("ages")] == ["0001", "0002"]
    assert mine.find("ages").folder == made.place.parent


def test_a_test_on_calibration_faces_says_so(young: tuple[Path, Path]) -> None:
    teacher, faces = young
    where = str(teacher.parent / "calibrated.json")
    calibrate_model(Location.of(teacher), str(faces), CalibrationSpec(), out=where)
    both = teacher.parent / "both.yaml"
    members = [{"teacher": "mean.yaml"}, {"teacher": "calibrated.json"}]
    both.write_text(json.dumps({"kind": "ensemble", "name": "both", "members": members}))
    data = read_manifest(str(faces))
    said = (
        "The model learnt its age correction and intervals from 60 of the 60 faces tested: these figures are "
        "no test."
    )
    for place in (where, both):
        found = calibrations_in(str(place))
        notes = [calibration_notes(found, data, read_labels(str(faces), split)) for split in Split]
        assert notes == [(said,), (), ()]
    intervals = [calibration_of(where).model_copy(update={"correction": None})]  # type: ignore[union-attr]
    (note,) = calibration_notes(intervals, data, read_labels(str(faces), Split.TRAIN))
    assert note.endswith("what these hold here is no test.")


def test_a_study_is_calibrated_in_its_pick_and_its_report_tells(tmp_path: Path) -> None:
    study = write_study(Location.of(tmp_path / "study"), 6)
    place = model_place(str(tmp_path / "study"))
    assert place == study.trial_folder(picked(study))
    tiny_model(place.local())
    write_set(tmp_path / "faces", [{"age": 10.0 + i % 60} for i in range(40)], "real")
    calibrate_model(place, str(tmp_path / "faces"), CalibrationSpec(split=Split.TEST))
    write_measured(study)
    build_report(study, Location.of(tmp_path / "report.html"), faces_from=[])
    page = (tmp_path / "report.html").read_text()
    assert "calibrated, 80%" in page
    assert "five folds over 40 faces, split &#39;test&#39;" in page
