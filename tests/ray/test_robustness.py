"""Corruptions across processes, and a study measured for real: tiny nets, a tiny dataset, on Ray."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_study import write_study

from agesearch.data.dataset.records import Split, read_manifest
from agesearch.data.dataset.writer import DatasetWriter
from agesearch.data.images.crop import encode_crop
from agesearch.deploy.evidence import study_evidence
from agesearch.deploy.publish import publish
from agesearch.errors import InputError
from agesearch.measure.evaluate import evaluate
from agesearch.measure.labelled_faces import labelled_faces, median_age
from agesearch.measure.protocols import protocol_named
from agesearch.measure.robustness.corruptions import CLEAN, CORRUPTIONS, corrupt
from agesearch.measure.robustness.protocol import CorruptionLevel
from agesearch.measure.robustness.run import robustness, score
from agesearch.measure.speed.latency_table import LatencyTable
from agesearch.measure.teachers import teacher_accuracy
from agesearch.metrics import MAE_YEARS
from agesearch.models.folder import write_model
from agesearch.models.identity import model_digest
from agesearch.models.manifest import ModelManifest
from agesearch.models.predict import open_predictor
from agesearch.models.predictors import folder_onnx
from agesearch.models.scorers import OnnxScorer
from agesearch.models.zoo import build
from agesearch.progress import Progress, silent
from agesearch.reporting.findings import read_findings
from agesearch.reporting.report import build_report
from agesearch.search.front import measure as measured
from agesearch.search.front.latencies import study_latencies
from agesearch.search.front.measurements import (
    FOLDER,
    MEDIAN,
    PREDICTIONS_FILE,
    ROBUSTNESS_FILE,
    TEACHER,
    MeasureSpec,
    has_measurements,
    read_measurements,
)
from agesearch.search.store.records import State, StudyFolder
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location

CROP = CropSpec(size=40)
SPEC = MeasureSpec(corruptions=("gaussian_noise", "impulse_noise"), severities=(1, 5), robustness_faces=9)
FACES = 30

# Run by fresh interpreters: digests of all corruptions of one face, in an order, with other draws between.
_SCRIPT = """
import hashlib, json, sys
import numpy as np
from agesearch.measure.robustness.corruptions import CORRUPTIONS, corrupt
rgb = np.random.default_rng(3).integers(0, 256, (48, 48, 3), dtype=np.uint8)
names = list(CORRUPTIONS)
if sys.argv[1] == "backwards":
    names.reverse()
    np.random.seed(99)
    for name in ("glass_blur", "impulse_noise", "frost"):
        corrupt(rgb, name, 5, "another face")
digests = {n: hashlib.sha256(corrupt(rgb, n, 3, "face").tobytes()).hexdigest() for n in names}
print(json.dumps(digests, sort_keys=True))
"""


def face(side: int = 48) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_all_corruptions_are_bit_identical_across_processes_and_orders() -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", _SCRIPT, order], stdout=subprocess.PIPE, text=True)
        for order in ("forwards", "backwards")
    ]
    first, second = (json.loads(run.communicate(timeout=120)[0]) for run in runs)
    assert set(first) == set(CORRUPTIONS)
    assert first == second
    here = hashlib.sha256(corrupt(face(), "motion_blur", 3, "face").tobytes()).hexdigest()
    assert here == first["motion_blur"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """Thirty faces a split of two sources: brightness grows with age; two have no age."""
    out = Location.of(tmp_path_factory.mktemp("faces") / "ds")
    generator = np.random.default_rng(0)
    writer = DatasetWriter(out, name="tiny", label_kind="real", licence="CC0", crop=CROP, detector="none")
    for split in Split:
        rows = []
        for index in range(FACES + 2):
            age = float(generator.uniform(5, 90))
            image = np.full((40, 40, 3), 40 + 2 * age, dtype=np.uint8)
            rows.append(
                {
                    "sample_id": f"{split}-{index:02d}",
                    "image": encode_crop(image, CROP),
                    "age": age if index < FACES else None,
                    "subject_id": f"{split}-{index % 10}" if index < 20 else None,
                    "source": "even" if index % 2 == 0 else "odd",
                    "split": str(split),
                }
            )
        writer.add(rows)
    writer.finish()
    return out


@pytest.fixture(scope="module")
def study(dataset: Location, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A fake search's study whose complete trials and teacher are networks with random weights."""
    root = tmp_path_factory.mktemp("study")
    made = write_study(Location.of(root / "study"), trials=6)
    teacher = Location.of(root / "teacher")
    _write_net(teacher, ModelSpec(arch="mobilenetv3_small_100", input_size=40), "teacher", seed=99)
    for record in made.trials():
        if record.state is State.COMPLETE:
            model = ModelSpec(arch="lcnet_035", input_size=32 + 16 * (record.number % 2))
            _write_net(made.trial_folder(record), model, "trial", seed=record.number)
    header = made.header().model_dump()
    header["dataset"] = {"path": str(dataset), "content_digest": read_manifest(dataset).content_digest}
    header["teacher"] = {"path": str(teacher), "content_digest": model_digest(teacher)}
    made.write_header(type(made.header()).model_validate(header))
    return made


def _write_net(folder: Location, model: ModelSpec, kind: str, seed: int) -> None:
    """An untrained network that answers differently to different faces: its norms have seen some noise."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        net = build(model)
        for parameter in net.head.parameters():
            torch.nn.init.normal_(parameter)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        net.train()(torch.rand(32, 3, model.input_size, model.input_size) * 255)
    manifest = ModelManifest.model_validate(
        {"kind": kind, "model": model, "crop": CROP, "parameters": sum(p.numel() for p in net.parameters())}
    )
    write_model(folder, net.state_dict(), manifest)


def test_faces_are_the_same_sample_every_time(dataset: Location) -> None:
    every = labelled_faces(dataset, Split.VAL, 1000)
    some = labelled_faces(dataset, Split.VAL, 7)
    assert len(every) == FACES
    assert some.sample_id == every.sample_id[:7] != sorted(every.sample_id)[:7]
    assert some.images.shape == (7, 40, 40, 3)
    assert 5 <= median_age(dataset) <= 90


@pytest.mark.usefixtures("ray_local")
def test_every_model_scores_the_same_corrupted_pixels(
    study: StudyFolder, dataset: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agesearch.measure.robustness.run._TASK_FACES", 4)  # several tasks a cell
    faces = labelled_faces(dataset, Split.VAL, 10)
    folder = study.trial_folder(study.front()[0])
    model = OnnxScorer(folder_onnx(folder), 32)
    seen: list[Progress] = []
    levels = [CorruptionLevel(CLEAN, 0), CorruptionLevel("impulse_noise", 3)]
    found = score({"one": model, "two": model}, faces, levels, seen.append)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, 20, 20)
    for cell in levels:
        assert np.array_equal(found[cell]["one"].age, found[cell]["two"].age)
    images = [
        corrupt(image, "impulse_noise", 3, name)
        for image, name in zip(faces.images, faces.sample_id, strict=True)
    ]
    expected = open_predictor(folder).pmf(np.stack(images)) @ np.arange(101, dtype=np.float32)
    assert found[levels[1]]["one"].age == pytest.approx(expected, abs=1e-3)
    assert not np.array_equal(found[levels[0]]["one"].age, found[levels[1]]["one"].age)

    rows = robustness({"one": model}, faces, ["impulse_noise"], [3])
    assert [(row.corruption, row.severity, row.faces) for row in rows] == [
        ("clean", 0, 10),
        ("impulse_noise", 3, 10),
    ]
    assert rows[1].mae_years == pytest.approx(float(np.abs(expected - faces.age).mean()), abs=1e-3)
    with pytest.raises(InputError, match="no faces|there are none"):
        robustness({"one": model}, faces.first(0))


@pytest.mark.usefixtures("ray_local")
def test_a_study_is_measured_once_and_then_only_what_is_new(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not has_measurements(study)
    first = measured.measure_study(study, pick="fastest", spec=SPEC)
    complete = [record for record in study.trials() if record.state is State.COMPLETE]
    assert {row.model for row in first.speed} == {TEACHER, *(record.name for record in complete)}
    front = study_latencies(study).front
    names = {TEACHER, *(record.name for record in front)}
    single = {row.model: row.latency_ms_p50 for row in first.speed if (row.threads, row.batch) == (1, 1)}
    assert len({single[record.name] for record in complete}) == 2  # one timing a network, of two
    assert {model for split, model in first.predictions if split == "val"} == names | {MEDIAN}
    assert len(first.predictions["val", TEACHER].age) == FACES
    assert {row.model for row in first.robustness} == {TEACHER, front[0].name}
    assert {(row.corruption, row.severity) for row in first.robustness} == {
        (CLEAN, 0),
        *((name, severity) for name in SPEC.corruptions for severity in SPEC.severities),
    }
    assert {(face.kind, face.source) for face in first.faces} == {
        (kind, source) for kind in ("best", "typical", "worst") for source in ("even", "odd")
    }

    def not_again(*_: object, **__: object) -> None:
        raise AssertionError("this was measured before")

    with monkeypatch.context() as patched:
        patched.setattr("agesearch.search.front.speeds.side_by_side", not_again)
        for name in ("score", "robustness"):
            patched.setattr(measured, name, not_again)
        again = measured.measure_study(study, pick="fastest", spec=SPEC)
        assert (again.speed, again.robustness, again.faces) == (first.speed, first.robustness, first.faces)

    scored: list[str] = []
    monkeypatch.setattr(
        measured, "robustness", lambda models, *rest: scored.extend(models) or robustness(models, *rest)
    )
    other = next(record for record in complete if record.number != front[0].number)
    second = measured.measure_study(study, pick=str(other.number), spec=SPEC)
    assert scored == [other.name]
    again_single = {
        row.model: row.latency_ms_p50 for row in second.speed if (row.threads, row.batch) == (1, 1)
    }
    assert again_single == single  # another pick is timed under more settings, not once more under this one
    assert {row.model for row in second.speed if row.batch > 1} == {TEACHER, other.name}
    kept = [row for row in second.robustness if row.model == TEACHER]
    assert kept == [row for row in first.robustness if row.model == TEACHER]
    assert second.summary.pick == other.number

    build_report(study, Location.of(tmp_path / "page.html"))
    assert "impulse noise" in (tmp_path / "page.html").read_text()


def test_a_model_has_one_interval_on_the_same_faces_wherever_it_is_measured(study: StudyFolder) -> None:
    if not has_measurements(study):
        pytest.skip("needs the study that the test above measured")
    trial, dataset = study.trial(read_measurements(study).summary.pick), study.header().dataset.path
    folder = study.trial_folder(trial)
    reported = read_findings(study).mae(trial.name)
    rows = study_evidence(study, trial, Location.of(dataset)).accuracy
    carded = next(row.mae_years for row in rows if row.split == "val")
    protocol = protocol_named("standard", split=Split.VAL)
    evaluated = evaluate({"m": folder}, dataset, protocol).record.models[0].kinds[0].scores[MAE_YEARS]
    shown = teacher_accuracy(folder, dataset, Split.VAL).mae_years
    assert (reported.faces, reported.persons) == (30, 20)  # 10 persons of two faces, 10 faces of nobody known
    for other in (carded, evaluated, shown):
        assert (other.faces, other.persons) == (30, 20)
        for name in ("value", "low", "high"):
            assert getattr(other, name) == pytest.approx(getattr(reported, name), abs=1e-3)
    clean = [row for row in read_measurements(study).robustness if row.corruption == CLEAN]
    assert all(row.persons for row in clean)


@pytest.mark.usefixtures("ray_local")
def test_publishing_measures_what_its_card_says(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measured, "MeasureSpec", lambda: SPEC)
    shutil.copytree(study.root.local(), tmp_path / "new", ignore=shutil.ignore_patterns(FOLDER))
    seen: list[Progress] = []
    new = StudyFolder(Location.of(tmp_path / "new"))
    registry = str(tmp_path / "registry")
    published = publish(new.root, "ages", registry, pick="fastest", on_progress=seen.append)
    latencies, manifest = study_latencies(new), published.version.manifest()
    fastest = latencies.front[0]
    assert manifest.provenance["trial"] == fastest.number
    rows = {(row["threads"], row["batch"]): row for row in manifest.speed}
    assert rows[1, 1]["latency_ms_p50"] == fastest.latency_ms_p50
    assert latencies.teacher is not None
    assert rows[1, 1]["teacher_latency_ms_p50"] == latencies.teacher.latency_ms_p50
    assert manifest.robustness
    assert "val_mae_years" in manifest.intervals
    assert {"Speed, side by side", "publish"} <= {event.stage for event in seen}
    monkeypatch.setattr(measured, "measure_study", None)  # a second time nothing is measured
    assert not publish(new.root, "ages", registry, pick="fastest").is_new


def test_another_dataset_or_teacher_is_refused(study: StudyFolder, tmp_path: Path) -> None:
    other = Location.of(tmp_path / "teacher")
    _write_net(other, ModelSpec(arch="lcnet_035", input_size=32), "teacher", seed=1)
    with pytest.raises(InputError, match="teacher"):
        measured.measure_study(study, spec=SPEC, teacher=str(other))
    with pytest.raises(InputError, match="dataset"):
        measured.measure_study(study, spec=SPEC, dataset=str(tmp_path / "nowhere"))


def test_a_torn_study_measures_again(study: StudyFolder) -> None:
    """A file whose settings differ from what is asked is not taken for good."""
    if not has_measurements(study):
        pytest.skip("needs the study that the test above measured")
    job = measured._job(study, "fastest", SPEC.model_copy(update={"robustness_faces": 8}), None, None, silent)
    assert ROBUSTNESS_FILE in job.outstanding()
    (study.root / FOLDER / PREDICTIONS_FILE).delete()
    assert PREDICTIONS_FILE in job.outstanding()
    with pytest.raises(InputError):
        read_measurements(study)


def test_a_latency_leaves_the_trainers_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    row = LatencyTable(Location.of(tmp_path)).latency(ModelSpec(arch="lcnet_035", input_size=32))
    assert torch.equal(torch.rand(2), expected)
    assert 0 < row.latency_ms_p50 < 100
