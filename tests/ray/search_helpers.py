"""A search without learning: folders that look like a dataset and a teacher, and trainers that pretend."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from agesearch.bench.pretended import pretended_error, pretended_speed
from agesearch.data.dataset.records import MANIFEST, SCHEMA, SHARDS, Manifest
from agesearch.measure.speed.rows import SpeedRow
from agesearch.metrics import VAL_MAE_C_YEARS, VAL_WORST_DECADE_FIRST_YEARS, VAL_WORST_DECADE_MAE_YEARS
from agesearch.models.manifest import WEIGHTS, ModelManifest
from agesearch.progress import Listener
from agesearch.search.run.setup import SetupFunctions
from agesearch.search.run.trial_inputs import EndMeasures, TrialInputs
from agesearch.search.store.records import StudyHeader
from agesearch.specs import Choices, CropSpec, ModelSpec, Range, StudySpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.curve import write_answers

EPOCHS = 3
ARCHS = ("mobilenetv3_small_050", "mobilenetv2_100")


def tiny_spec(**changes: Any) -> StudySpec:
    """Two networks and one number to search."""
    student = TrainSpec(model=ModelSpec(arch=ARCHS[0])).with_values({"optim.epochs": EPOCHS})
    space = {
        "model.arch": Choices(choices=ARCHS),
        "optim.learning_rate": Range(low=1e-4, high=1e-2, log=True),
    }
    spec = StudySpec(student=student, space=space, trials=4, startup_trials=2, rungs=None)  # none is stopped
    return spec.model_copy(update=changes)


def write_sources(root: Path) -> tuple[str, str]:
    """A dataset and a teacher as far as a study looks at them before it opens them."""
    manifest = Manifest(
        name="tiny",
        label_kind="real",
        crop=CropSpec(),
        counts={"train": 8, "val": 12},
        content_digest="d" * 16,
    )
    teacher = ModelManifest(
        kind="teacher", model=ModelSpec(arch=ARCHS[1]), crop=CropSpec(), files={WEIGHTS: "0" * 64}
    )
    faces = Location.of(root / "ds")
    (faces / MANIFEST).write_json(manifest.model_dump(mode="json"))
    rows = [
        {"sample_id": f"{split}{index}", "image": b"", "age": 30.0, "source": "tiny", "split": split}
        for split, count in manifest.counts.items()
        for index in range(count)
    ]
    (faces / SHARDS / "0.parquet").write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    (Location.of(root / "teacher") / "manifest.json").write_json(teacher.model_dump(mode="json"))
    return str(root / "ds"), str(root / "teacher")


def error_of(spec: TrainSpec) -> float:
    """What the pretended training reaches."""
    return pretended_error(spec, ARCHS[0])


def pretend(
    spec: TrainSpec,
    train: Any,
    val: Any,
    out: Location,
    crop: CropSpec,
    *,
    report: Callable[[dict[str, float]], None],
    resume: bool = True,
) -> dict[str, float]:
    """Trains nothing, but keeps a curve and goes on where it ends, as ``train_student`` does; the first
    network is 2 years worse in its worst decade, the other 20.
    """
    curve = out / "curve.jsonl"
    lines = curve.read_text().splitlines() if resume and curve.exists() else []
    for epoch in range(len(lines) + 1, EPOCHS + 1):
        time.sleep(float(train))
        lines.append(json.dumps({"epoch": epoch, "pid": os.getpid(), "epoch_s": 10.0}))
        curve.write_text("\n".join(lines) + "\n")
        report({"epoch": epoch, "val_mae_years": error_of(spec) + EPOCHS - epoch})
    worst = error_of(spec) + (2.0 if spec.model.arch == ARCHS[0] else 20.0)
    by_decade = {VAL_WORST_DECADE_MAE_YEARS: worst, VAL_WORST_DECADE_FIRST_YEARS: 60.0}
    return {"val_mae_years": error_of(spec), "val_cs5": 0.5, **by_decade}


def curved(
    spec: TrainSpec, train: Any, val: Any, out: Location, crop: CropSpec, **options: Any
) -> dict[str, float]:
    """A curve a network: the slow one falls, the fast one too; a high learning rate makes it flat and bad."""
    errors = [curved_error(spec, epoch) for epoch in range(1, spec.optim.epochs + 1)]
    return along(errors, float(train), out, options["report"])


def uneven(
    spec: TrainSpec, train: Any, val: Any, out: Location, crop: CropSpec, **options: Any
) -> dict[str, float]:
    """Curves that fall at different speeds, so that how much is still gained is not sure."""
    return along(uneven_errors(spec), float(train), out, options["report"])


def lucky(
    spec: TrainSpec, train: Any, val: Any, out: Location, crop: CropSpec, **options: Any
) -> dict[str, float]:
    """Errors with the luck of the seed, answers for sixty faces, and weights."""
    (out / WEIGHTS).write_bytes(b"weights")
    end = error_of(spec) + float(np.random.default_rng(spec.seed).normal(0.0, 0.1))
    ages = np.full(60, 40.0, dtype=np.float32)
    said = ages + np.random.default_rng(1).normal(0.0, end, 60).astype(np.float32)
    names = [f"face{index:02d}" for index in range(60)]
    write_answers(out, names, [name[:-1] for name in names], ages, said)
    return along([end + EPOCHS - epoch for epoch in range(1, EPOCHS + 1)], 0.05, out, options["report"])


def along(
    errors: list[float], epoch_s: float, out: Location, report: Callable[[dict[str, float]], None]
) -> dict[str, float]:
    """Follow a curve from the epoch that the folder's own ends with, leaving a checkpoint each."""
    curve = out / "curve.jsonl"
    lines = curve.read_text().splitlines() if curve.exists() else []
    for epoch in range(len(lines) + 1, len(errors) + 1):
        time.sleep(epoch_s)
        row = {"epoch": epoch, "val_mae_years": errors[epoch - 1], "pid": os.getpid()}
        lines.append(json.dumps(row))
        (out / "checkpoint/state.pt").write_text(str(epoch))
        curve.write_text("\n".join(lines) + "\n")
        report(row)
    return {"val_mae_years": errors[-1]}


def curved_error(spec: TrainSpec, epoch: int) -> float:
    """Years after an epoch: 9 falling by a half, or 20 for ever where the learning rate is above 1e-3."""
    if spec.optim.learning_rate > 1e-3:
        return 20.0
    return 9.0 + (spec.model.arch == ARCHS[0]) - 0.5 * epoch + 100 * spec.optim.learning_rate


def uneven_errors(spec: TrainSpec) -> list[float]:
    """Years after each epoch, by the network and the learning rate."""
    rate, epochs = spec.optim.learning_rate, spec.optim.epochs
    speed = 1.0 + 3.0 * math.modf(rate * 1e5)[0]
    end = 6.0 - (spec.model.arch == ARCHS[1]) + abs(math.log(rate / 2e-3))
    return [end + 5.0 * math.exp(-speed * epoch / epochs) for epoch in range(1, epochs + 1)]


def without_error(spec: TrainSpec, train: Any, *args: Any, **options: Any) -> dict[str, float]:
    """Reports no error in years, or none that is a number; both must end after one epoch."""
    for epoch in range(1, 100):
        error = {} if spec.model.arch == ARCHS[0] else {"val_mae_years": float("nan")}
        options["report"]({"epoch": epoch, "train_loss": 1.0, **error})
    return {}


def broken(*args: Any, **options: Any) -> dict[str, float]:
    """Fails before its first epoch."""
    raise MemoryError("no room for it")


def faulty(spec: TrainSpec, *args: Any, **options: Any) -> dict[str, float]:
    """One architecture raises, the other returns NaN at low learning rates and works at high ones."""
    if spec.model.arch == ARCHS[1]:
        raise MemoryError("no room for it")
    result = pretend(spec, *args, **options)
    return result | {"val_mae_years": float("nan")} if spec.optim.learning_rate < 1e-3 else result


def suicidal(
    spec: TrainSpec, train: Any, val: Any, out: Location, crop: CropSpec, **options: Any
) -> dict[str, float]:
    """Kills its own process in its second epoch: once for one architecture, every time for the other."""
    deaths = out / "deaths"
    count = len(deaths.read_text()) if deaths.exists() else 0
    if (out / "curve.jsonl").exists() and (count == 0 or spec.model.arch == ARCHS[1]):
        deaths.write_text("x" * (count + 1))
        os.kill(os.getpid(), signal.SIGKILL)

    def report(metrics: dict[str, float]) -> None:
        options["report"](metrics)
        if count == 0 or spec.model.arch == ARCHS[1]:
            deaths.write_text("x" * (count + 1))
            os.kill(os.getpid(), signal.SIGKILL)

    return pretend(spec, train, val, out, crop, **{**options, "report": report})


def fake_latency(model: ModelSpec) -> SpeedRow:
    """A row whose latency follows from the name."""
    return pretended_speed(model.arch, model.input_size, 0.5 if model.arch == ARCHS[0] else 1.5)


def functions(trainer: Any = pretend, epoch_s: float = 0.0) -> SetupFunctions:
    """A setup whose trials pretend; an epoch lasts ``epoch_s`` seconds."""

    def inputs(header: StudyHeader, on_progress: Listener) -> Any:
        measures = PretendedMeasures() if header.spec.max_mae_c_years is not None else EndMeasures()
        return TrialInputs(trainer, epoch_s, None, header.crop, measures=measures)

    return SetupFunctions(fake_latency, inputs)


class PretendedMeasures(EndMeasures):
    """Measures nothing at the end of a trial: the first network is 2 years worse under corruption, the other
    20.
    """

    def of(self, folder: Location) -> dict[str, float]:
        trained = json.loads((folder / "spec.json").local().read_text())
        worse = 2.0 if trained["model"]["arch"] == ARCHS[0] else 20.0
        return {VAL_MAE_C_YEARS: error_of(TrainSpec.model_validate(trained)) + worse}
