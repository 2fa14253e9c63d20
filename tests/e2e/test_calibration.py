"""Calibration: exact ranks and moves, coverage on others, corrections that must earn their place, and where a
calibration may come from and is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_study import write_measured, write_study
from foreign_graphs import write_teacher
from published_sets import tiny_model, write_set
from typer.testing import CliRunner

from agesearch.ages import age_spread, expected_age, gaussian_pmf
from agesearch.cli.main import app
from agesearch.data.dataset.records import Split, read_manifest
from agesearch.deploy.calibration import calibrate_model
from agesearch.deploy.card import calibrated_card, calibration_section
from agesearch.deploy.places import model_place
from agesearch.deploy.registry import SUMS, Registry, verify
from agesearch.distill.targets import teacher_targets
from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.calibration.conformal import conformal_offset, fit_intervals, least_faces, rank
from agesearch.measure.calibration.corrections import choose_correction, fit_affine, fit_isotonic
from agesearch.measure.calibration.coverage import coverage_of, inside
from agesearch.measure.calibration.engines import engine_coverage
from agesearch.measure.calibration.folds import person_folds
from agesearch.measure.calibration.run import CalibrationSpec, evidence_of
from agesearch.measure.intervals import Persons
from agesearch.measure.leakage import calibration_notes
from agesearch.measure.predictions import read_labels
from agesearch.measure.speed.gate import closed
from agesearch.models.calibration.correction import AgeCorrection, moved_to
from agesearch.models.calibration.record import CALIBRATION, IntervalCell, Intervals
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


def test_the_rank_is_the_smallest_that_keeps_the_promise() -> None:
    assert [rank(n, 0.1) for n in (9, 10, 19, 20, 99)] == [9, 10, 18, 19, 90]
    assert conformal_offset(np.arange(19.0), 0.1) == 17.0
    assert (least_faces(0.8), least_faces(0.9), least_faces(0.95)) == (9, 19, 39)
    with pytest.raises(InputError, match="8 faces are too few"):
        conformal_offset(np.arange(8.0), 0.1)


def test_a_pmf_moves_as_it_is_and_loses_no_mass() -> None:
    one = np.zeros((1, 101), np.float32)
    one[0, 30] = 1.0
    moved = moved_to(one, [32.25])
    assert {int(age): float(moved[0, age]) for age in np.flatnonzero(moved[0])} == {32: 0.75, 33: 0.25}
    shapes = gaussian_pmf([40.0, 50.0], [6.0, 9.0])
    np.testing.assert_allclose(
        moved_to(shapes, [43.0, 45.0])[:, 20:80], np.stack([shapes[0, 17:77], shapes[1, 25:85]]), atol=1e-7
    )
    np.testing.assert_allclose(age_spread(moved_to(shapes, [43.0, 45.0])), [6.0, 9.0], atol=1e-3)


@pytest.mark.parametrize("mean", [0.0, 0.5, 3.0, 50.0, 98.0, 100.0])
def test_the_mean_is_right_at_the_ends_too(mean: float) -> None:
    rng = np.random.default_rng(0)
    moved = moved_to(rng.dirichlet(np.full(101, 0.2), 20).astype(np.float32), np.full(20, mean))
    np.testing.assert_allclose(expected_age(moved), mean, atol=2e-4)
    np.testing.assert_allclose(moved.sum(axis=1), 1.0, atol=1e-6)
    assert (moved >= 0).all()


def test_a_correction_is_a_rising_map() -> None:
    line = AgeCorrection(kind="affine", points=((0.0, 5.0), (100.0, 95.0)))
    np.testing.assert_allclose(line.ages([0, 50, 100, 200]), [5, 50, 95, 100])
    curve = AgeCorrection(kind="isotonic", points=((20.0, 24.0), (30.0, 30.0)))
    np.testing.assert_allclose(curve.ages([10, 20, 25, 30, 90]), [14, 24, 27, 30, 90])
    np.testing.assert_allclose(expected_age(curve.pmf(gaussian_pmf([25.0], [4.0]))), [27.0], atol=1e-3)
    for points in ([[20, 24], [30, 23]], [[30, 1], [20, 2]], [[0, float("nan")], [1, 1]]):
        with pytest.raises(ValueError, match="points must be finite"):
            AgeCorrection.model_validate({"kind": "isotonic", "points": points})


def test_lines_and_curves_are_found_again_in_spite_of_wild_labels() -> None:
    rng = np.random.default_rng(1)
    predicted = rng.uniform(15, 80, 400)
    age = 0.9 * predicted + 8 + rng.normal(0, 1, 400)
    age[:20] = 100.0
    np.testing.assert_allclose(fit_affine(predicted, age).ages([20, 60]), [26, 62], atol=1.0)
    bent = np.where(predicted < 40, predicted, 40 + 1.5 * (predicted - 40)).clip(0, 99)
    np.testing.assert_allclose(fit_isotonic(predicted, bent).ages([20, 39, 60]), [20, 39, 70], atol=1.0)


def persons(count: int, each: int = 1) -> Persons:
    return Persons.of([f"{i}" for i in range(count * each)], [f"p{i // each}" for i in range(count * each)])


def test_nobody_is_in_two_folds_and_the_order_of_faces_plays_no_part() -> None:
    who = persons(23, each=3)
    folds = person_folds(who)
    assert all(len(set(folds[who.codes == code])) == 1 for code in np.unique(who.codes))
    assert sorted(np.bincount(folds[::3])) == [4, 4, 5, 5, 5]
    shuffled = np.random.default_rng(0).permutation(69)
    np.testing.assert_array_equal(person_folds(who.take(shuffled)), folds[shuffled])


def test_a_correction_is_refused_where_it_does_not_help_others() -> None:
    rng = np.random.default_rng(2)
    age, who = rng.uniform(10, 80, 120), persons(120)
    folds = person_folds(who)
    right = choose_correction(age + rng.normal(0, 6, 120), age, who, folds)
    assert right.correction is None
    assert [trial.helps for trial in right.tried] == [False, False]
    young = choose_correction(age - 6 + rng.normal(0, 6, 120), age, who, folds)
    assert young.correction is not None
    assert young.correction.kind == "affine"
    assert young.tried[0].before_bias_years == pytest.approx(-6, abs=1.5)
    assert young.tried[0].after_bias_years == pytest.approx(0, abs=1.5)
    assert choose_correction(age - 6, age, who, folds, "off").tried == ()


def _faces(count: int, seed: int) -> tuple[Any, Any]:
    """PMFs that believe 2 years of themselves, and ages that are off by 3 to 9 years, more for the old."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(5, 90, count)
    predicted = np.clip(age + rng.normal(0, 1, count) * (3 + age / 15) + 2, 0, 100)
    return gaussian_pmf(predicted, np.full(count, 2.0)), age


def test_repeated_splits_cover_what_is_promised() -> None:
    held, own, by_cell = [], [], []
    for seed in range(40):
        pmf, age = _faces(400, seed)
        intervals = fit_intervals(pmf[:200], age[:200], 0.8)
        low, high = intervals.of(pmf[200:])
        found = inside(low, high, age[200:])
        held.append(found.mean())
        old = expected_age(pmf[200:]) >= 60
        by_cell.append((found[old].mean(), found[~old].mean()))
        own.append(inside(expected_age(pmf[200:]) - 2.6, expected_age(pmf[200:]) + 2.6, age[200:]).mean())
    assert np.mean(held) == pytest.approx(0.8, abs=0.02)
    np.testing.assert_allclose(np.mean(by_cell, axis=0), 0.8, atol=0.04)
    assert np.mean(own) < 0.5  # what the model believes of itself


def test_cells_are_joined_until_they_have_faces_enough() -> None:
    pmf, age = _faces(300, 0)
    cells = fit_intervals(pmf, age, 0.8).cells
    assert (cells[0].first, cells[-1].last) == (0.0, 101.0)
    assert all(cell.faces >= 50 for cell in cells)
    assert sum(cell.faces for cell in cells) == 300
    assert len(fit_intervals(pmf[:40], age[:40], 0.8).cells) == 1
    with pytest.raises(InputError, match="needs 9 calibration faces, but there are 8"):
        fit_intervals(pmf[:8], age[:8], 0.8)


def test_a_face_of_an_unknown_group_gets_what_every_group_needs() -> None:
    pmf = gaussian_pmf([30.0, 30.0, 30.0, 30.0], np.full(4, 3.0))
    cells = [(None, 1.0, 1.0), ("female", 0.0, 4.0), ("male", 6.0, -2.0)]
    intervals = Intervals(
        level=0.8,
        by="sex",
        cells=tuple(
            IntervalCell(first=0, last=101, below=below, above=above, faces=60, group=group)
            for group, below, above in cells
        ),
    )
    own_low, own_high = intervals.of(pmf)[0][0] + 6.0, intervals.of(pmf)[1][0] - 4.0
    groups = np.array(["female", "male", "other", None], dtype=object)
    low, high = intervals.of(pmf, groups)
    np.testing.assert_allclose(own_low - low, [0, 6, 1, 6], atol=1e-9)
    np.testing.assert_allclose(high - own_high, [4, -2, 1, 4], atol=1e-9)


def test_intervals_hold_their_estimate_and_stay_on_the_axis() -> None:
    cell = IntervalCell(first=0, last=101, below=-20.0, above=40.0, faces=60)
    low, high = Intervals(level=0.8, cells=(cell,)).of(gaussian_pmf([30.0, 95.0], [3.0, 3.0]))
    np.testing.assert_allclose(low, [30.0, 94.77], atol=0.01)
    assert high[1] == 100.0
    with pytest.raises(ValueError, match="follow each other"):
        Intervals(level=0.8, cells=(cell.model_copy(update={"last": 90.0}),))


def test_coverage_counts_ages_on_an_end_as_inside() -> None:
    age = np.array([10.0, 20.0, 21.0, 35.0])
    found = coverage_of(np.full(4, 10.0), np.full(4, 20.0), age, persons(4))
    assert found.coverage.value == 0.5
    assert [(row.first, row.coverage.faces, row.coverage.value) for row in found.decades] == [
        (10, 1, 1.0),
        (20, 2, 0.5),
        (30, 1, 0.0),
    ]


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
    wide, narrow = (np.zeros(4), np.full(4, 50.0)), (np.full(4, 1.0), np.full(4, 9.0))
    younger = engine_coverage(one.engine, wide, narrow, np.array([5.0, 9, 10, 60]), persons(4))
    assert (younger.coverage.value, younger.difference.value, younger.width_years) == (0.5, -0.25, 8.0)


def test_a_published_version_stays_and_becomes_the_next_one(
    tmp_path: Path, own: tuple[Location, Path]
) -> None:
    folder, faces = own
    registry = Registry(str(tmp_path / "registry"))
    manifest = read_model_manifest(folder)
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    files["card.md"] = (
        b"# ages 0001\n\nold. The interval it gives is the model's own belief and was not calibrated.\n"
    )
    update = {"kind": "version", "name": "ages", "version": 1, "files": manifest.files | {"card.md": ""}}
    files[MANIFEST] = ModelManifest.model_validate(manifest.model_dump() | update).model_dump_json().encode()
    with registry.locked("ages"):
        old = registry.add("ages", 1, files)
    registry.move_alias(old, "champion")
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
