"""A study folder with plausible records and no training behind it, for tests of whatever reads records."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pyarrow as pa

from agesearch.measure.robustness.corruptions import CLEAN, REPORT_CORRUPTIONS, REPORT_SEVERITIES
from agesearch.measure.robustness.scores import RobustnessRow
from agesearch.measure.speed.rows import SpeedRow
from agesearch.models.manifest import MANIFEST, ModelManifest
from agesearch.search.front.latencies import picked
from agesearch.search.front.measurements import (
    FACES_FILE,
    FACES_SCHEMA,
    FOLDER,
    MEDIAN,
    PREDICTIONS_FILE,
    PREDICTIONS_SCHEMA,
    ROBUSTNESS_FILE,
    SPEED_FILE,
    SUMMARY_FILE,
    TEACHER,
    MeasureSpec,
    Summary,
    spec_rows,
)
from agesearch.search.space.space import trial_name
from agesearch.search.store.records import State, StudyFolder, StudyHeader, StudyInput, TrialRecord
from agesearch.specs import Choices, CropSpec, ModelSpec, Range, StudySpec, TrainSpec
from agesearch.storage import Location

ARCHS = (
    "mobilenetv3_small_050",
    "mobilenetv3_small_100",
    "mobilenetv2_050",
    "efficientnet_lite0",
    "lcnet_050",
)
#: ms a face at 64 px, and the error each could reach at best, in years.
_COST = dict(zip(ARCHS, (0.4, 0.7, 0.9, 2.6, 0.35), strict=True))
_REACH = dict(zip(ARCHS, (7.0, 6.3, 6.1, 5.5, 7.4), strict=True))

SPEC = StudySpec(
    description="A fake study for tests.",
    trials=24,
    student=TrainSpec(model=ModelSpec(arch=ARCHS[0])),
    space={
        "model.arch": Choices(choices=ARCHS),
        "model.input_size": Choices(choices=(64, 96, 128)),
        "optim.learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "distill.temperature": Range(low=1.0, high=8.0),
    },
)
MACHINE = "Test CPU, 2 cores"


def write_study(root: Location, trials: int = 24, *, seed: int = 0, complete: bool = True) -> StudyFolder:
    """Header, trials, curves and manifests; every eighth trial fails, one in seven is pruned."""
    study = StudyFolder(root)
    source = StudyInput(path="/data/faces", content_digest="d" * 16)
    study.write_header(
        StudyHeader(
            spec=SPEC,
            dataset=source,
            teacher=StudyInput(path="/models/teacher", content_digest="e" * 16),
            crop=CropSpec(),
            spec_digest=SPEC.digest(),
            created="2026-01-02T03:04:05+00:00",
            hardware=MACHINE,
            versions={"torch": "2.9.0"},
        )
    )
    generator = np.random.default_rng(seed)
    records = [_trial(study, number, generator, complete) for number in range(trials)]
    study.write_trials(records)
    study.write_front(study.front())
    return study


def _trial(study: StudyFolder, number: int, generator: np.random.Generator, complete: bool) -> TrialRecord:
    arch = ARCHS[int(generator.integers(len(ARCHS)))]
    size = int(generator.choice([64, 96, 128]))
    rate = float(10 ** generator.uniform(-4, -2))
    mae = _REACH[arch] + 64 / size - 0.5 + 1.5 * abs(np.log10(rate) + 2.7) + float(generator.exponential(0.3))
    state = State.FAIL if number % 8 == 7 else State.PRUNED if number % 7 == 5 else State.COMPLETE
    if state is State.COMPLETE and not complete:
        state = State.PRUNED
    model = ModelSpec(arch=arch, input_size=size)
    epochs = {State.FAIL: 2, State.PRUNED: 6}.get(state, 20)
    reason = {State.FAIL: "the loss is not finite at epoch 3", State.PRUNED: "stopped: 9.1 years at epoch 6"}
    record = TrialRecord(
        number,
        state,
        trial_name(number, model),
        {
            "model.arch": arch,
            "model.input_size": size,
            "optim.learning_rate": rate,
            "distill.temperature": float(generator.uniform(1, 8)),
        },
        reason.get(state, ""),
        None if state is State.FAIL else mae,
        None if state is State.FAIL else 0.42,
        _COST[arch] * (size / 64) ** 1.7,
        epochs,
        "2026-01-02T03:04:05+00:00",
        float(generator.uniform(20, 90)),
    )
    folder = study.trial_folder(number)
    curve = [mae + 9 * float(np.exp(-epoch / 4)) + float(generator.normal(0, 0.1)) for epoch in range(epochs)]
    rows = [{"epoch": index + 1, "val_mae_years": value} for index, value in enumerate(curve)]
    (folder / "curve.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n{torn")
    if state is State.COMPLETE:
        manifest = ModelManifest(kind="trial", model=model, crop=CropSpec(), parameters=900_000 + size * 1000)
        (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))
    return record


def write_measured(study: StudyFolder, pick: str = "knee", *, faces: int = 160, test: bool = True) -> None:
    """What ``measure_study`` would have written, made up: the teacher's error is 5.2 years at 34 ms."""
    trial, front, folder = picked(study, pick), study.front(), study.root / FOLDER
    measured = [*front, *([] if trial in front else [trial])]
    errors = {TEACHER: 5.2, **{record.name: float(record.val_mae_years or 0) for record in measured}}
    digests = {name: f"{index:016x}" for index, name in enumerate(errors)}
    latencies = {TEACHER: 34.0, **{record.name: float(record.latency_ms_p50 or 0) for record in measured}}
    rows = [_speed(name, latency, 1, 1) for name, latency in latencies.items()]
    for threads, batch in ((2, 1), (1, 32), (2, 32)):
        rows += [_speed(name, latencies[name], threads, batch) for name in (TEACHER, trial.name)]
    (folder / SPEED_FILE).write_table(spec_rows(rows, digests))
    (folder / PREDICTIONS_FILE).write_table(_predictions(errors, digests, faces, test))
    (folder / ROBUSTNESS_FILE).write_table(spec_rows(_robustness(errors, (TEACHER, trial.name)), digests))
    (folder / FACES_FILE).write_table(_faces())
    summary = Summary(
        pick=trial.number,
        spec=MeasureSpec(),
        median_age=43.0,
        hardware=MACHINE,
        versions={"onnxruntime": "1.23.0"},
        created="2026-01-02T04:04:05+00:00",
    )
    (folder / SUMMARY_FILE).write_json(summary.model_dump(mode="json"))


def _speed(model: str, latency: float, threads: int, batch: int) -> SpeedRow:
    call = latency * batch / (1 + 0.6 * (threads - 1))
    return SpeedRow(
        model=model,
        arch="fake",
        input_size=96,
        threads=threads,
        batch=batch,
        calls=50,
        latency_ms_p50=call,
        latency_ms_p95=call * 1.2,
        images_per_s=batch * 1000 / call,
        hardware=MACHINE,
        versions={"onnxruntime": "1.23.0"},
    )


def _predictions(errors: dict[str, float], digests: dict[str, str], faces: int, test: bool) -> pa.Table:
    generator = np.random.default_rng(1)
    tables = []
    for split in ("val", "test") if test else ("val",):
        ages = generator.uniform(18, 85, faces).astype(np.float32)
        shared = generator.normal(0, 1, faces)
        guesses = {MEDIAN: np.full(faces, 43.0)}
        for model, error in errors.items():
            noise = 0.8 * shared + 0.6 * generator.normal(0, 1, faces)
            guesses[model] = np.clip(ages + noise * error * 1.2533, 0, 100)
        for model, predicted in guesses.items():
            columns = {
                "model": [model] * faces,
                "digest": [digests.get(model, MEDIAN)] * faces,
                "split": [split] * faces,
                "sample_id": [f"{split}{index}" for index in range(faces)],
                "subject_id": [f"{split}-person{index // 4}" for index in range(faces)],
                "source": ["painted" if index % 2 else "drawn" for index in range(faces)],
                "age": ages,
                "predicted_age": predicted.astype(np.float32),
                "spread": np.full(faces, np.nan if model == MEDIAN else 6.0, dtype=np.float32),
            }
            tables.append(pa.table(columns, schema=PREDICTIONS_SCHEMA))
    return pa.concat_tables(tables)


def _robustness(errors: dict[str, float], models: tuple[str, ...]) -> list[RobustnessRow]:
    cells = [(CLEAN, 0), *((name, severity) for name in REPORT_CORRUPTIONS for severity in REPORT_SEVERITIES)]
    rows = []
    for index, (name, severity) in enumerate(cells):
        for model in models:
            added = 0.3 * severity * (1 + index % 3) * (1.4 if model == TEACHER else 1.0)
            rows.append(
                RobustnessRow(
                    model=model,
                    corruption=name,
                    severity=severity,
                    mae_years=errors[model] + added,
                    mae_low=errors[model] + added - 0.4,
                    mae_high=errors[model] + added + 0.4,
                    faces=160,
                    persons=40,
                )
            )
    return rows


def _faces() -> pa.Table:
    generator = np.random.default_rng(2)
    rows = []
    for source in ("drawn", "painted"):
        for kind, error in (("best", 0.4), ("typical", 5.0), ("worst", 21.0)):
            for index in range(6):
                age = float(generator.uniform(20, 80))
                rows.append(
                    {
                        "kind": kind,
                        "sample_id": f"{source}-{kind}-{index}",
                        "source": source,
                        "age": age,
                        "predicted_age": age + error,
                        "spread": 6.0,
                        "image": _drawing(generator),
                    }
                )
    return pa.Table.from_pylist(rows, schema=FACES_SCHEMA)


def _drawing(generator: np.random.Generator) -> bytes:
    """A face of circles."""
    image = np.full((112, 112, 3), generator.integers(60, 200, 3), dtype=np.uint8)
    skin = tuple(int(value) for value in generator.integers(120, 230, 3))
    cv2.ellipse(image, (56, 60), (34, 44), 0, 0, 360, skin, -1, cv2.LINE_AA)
    for x in (43, 69):
        cv2.circle(image, (x, 50), 5, (30, 30, 30), -1, cv2.LINE_AA)
    cv2.ellipse(image, (56, 80), (14, 7), 0, 0, 180, (40, 40, 120), 2, cv2.LINE_AA)
    return bytes(cv2.imencode(".jpg", image)[1])
