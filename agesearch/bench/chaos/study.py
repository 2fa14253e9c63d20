"""The study that ``agesearch bench chaos`` cuts, in a process of its own: ``drive`` runs it or goes on.

Its trials train for real, or only pretend to (a sleep an epoch, with the same checkpoints and curves). Both
append a line to a log as each epoch begins, whichever process trains it, and the driver one for each trial
that ended: what the checks count.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agesearch.bench.pretended import pretended_error, pretended_speed
from agesearch.measure.speed.rows import SpeedRow
from agesearch.metrics import EPOCH, EPOCH_SECONDS, VAL_CS5, VAL_MAE_YEARS
from agesearch.models.manifest import MANIFEST
from agesearch.progress import Listener
from agesearch.search.run.setup import SetupFunctions, default_functions
from agesearch.search.store.events import Note, StudyEvent, TrialFinished, TrialPaused, TrialRetried
from agesearch.search.store.records import StudyHeader
from agesearch.specs import Choices, CropSpec, ModelSpec, Range, RungSpec, StudySpec, TrainSpec
from agesearch.storage import Location

if TYPE_CHECKING:
    from agesearch.search.run.trial_inputs import TrialInputs

_ARCHS = ("lcnet_035", "lcnet_050")
_INPUT_SIZE = 32
_FACES = 0.2
_STALL_MINUTES = 2.0

#: Rungs that stop and pause many of a few short trials.
_RUNGS = RungSpec(first_epoch=2, eta=2, evidence=3, margin=0.99, pause_margin=0.6)

#: What drivers tell of, and how it is called in their log.
_KINDS = {TrialFinished: "finished", TrialRetried: "retried", TrialPaused: "paused"}


@dataclass(frozen=True)
class Scene:
    """What a driver is told: where its study is and what it is made of."""

    study: str
    data: str
    teacher: str
    log: str
    events: str
    trials: int
    epochs: int
    seed: int
    pretend: bool = False
    rungs: bool = False
    address: str | None = None
    concurrency: int | None = 1
    epoch_s: float = 0.2

    def last_line(self) -> str:
        """What the driver said last as an error."""
        with suppress(OSError):
            lines = Path(f"{self.log}.err").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return lines[-1] if lines else "it said nothing"
        return "it said nothing"


@dataclass(frozen=True)
class Begun:
    """An epoch that a process began to train, at a time of day in seconds."""

    trial: int
    epoch: int
    pid: int
    time: float


def study_spec(scene: Scene) -> StudySpec:
    """Short trials of two networks, stopped and paused at rungs where the scene says so."""
    model = ModelSpec(arch=_ARCHS[0], input_size=_INPUT_SIZE)
    student = TrainSpec(model=model, share_of_faces=_FACES).with_values({"optim.epochs": scene.epochs})
    space = {
        "model.arch": Choices(choices=_ARCHS),
        "optim.learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "distill.temperature": Range(low=1.0, high=4.0),
    }
    return StudySpec(
        student=student,
        space=space,
        trials=scene.trials,
        startup_trials=min(8, scene.trials),
        seed=scene.seed,
        rungs=_RUNGS if scene.rungs else None,
    )


def drive() -> None:
    """Run the scene that the last argument describes, or go on with it. Ends with the study."""
    from agesearch.search.run.study import RunLimits, resume_study, run_study

    scene = Scene(**json.loads(sys.argv[-1]))
    limits = RunLimits(
        concurrency=scene.concurrency, address=scene.address, dashboard=False, stall_minutes=_STALL_MINUTES
    )
    options: dict[str, Any] = {
        "limits": limits,
        "on_event": partial(_log_event, scene.events),
        "functions": _functions(scene),
    }
    if (Location.of(scene.study) / "study.yaml").exists():
        resume_study(scene.study, **options)
    else:
        run_study(study_spec(scene), scene.data, scene.teacher, scene.study, **options)


def read_begun(log: Path) -> list[Begun]:
    """The epochs that were begun, in that order."""
    lines = log.read_text(encoding="ascii").splitlines() if log.exists() else []
    rows = [line.split() for line in lines]
    return [Begun(int(row[0]), int(row[1]), int(row[2]), float(row[3])) for row in rows if len(row) == 4]


def read_events(events: Path) -> list[dict[str, Any]]:
    """What drivers told of trials that ended, were paused or taken up again, and their notes; a line that a
    kill tore is left out.
    """
    found = []
    for line in events.read_text(encoding="utf-8").splitlines() if events.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def _log_event(events: str, event: StudyEvent) -> None:
    if isinstance(event, Note):
        _append(events, json.dumps({"kind": "note", "reason": event.text, "time": time.time()}))
    if isinstance(event, TrialFinished | TrialRetried | TrialPaused):
        record = event.record.as_json() | {"curve": list(event.record.curve)}
        reason = event.reason if isinstance(event, TrialRetried) else event.record.reason
        _append(
            events,
            json.dumps(
                {"kind": _KINDS[type(event)], "reason": reason, "time": time.time(), "record": record}
            ),
        )


def _append(file: str, line: str) -> None:
    """One line, in one write: several processes add to the file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def _functions(scene: Scene) -> SetupFunctions:
    if scene.pretend:
        return SetupFunctions(_pretended_latency, partial(_pretended_inputs, scene.log, scene.epoch_s))
    real = default_functions()

    def inputs(header: StudyHeader, on_progress: Listener) -> TrialInputs:
        made = real.inputs(header, on_progress)
        return replace(made, trainer=partial(_logged, made.trainer, scene.log))

    return replace(real, inputs=inputs)


def _logged(
    trainer: Callable[..., dict[str, float]],
    log: str,
    spec: TrainSpec,
    train: Any,
    val: Any,
    out: Location,
    crop: CropSpec,
    *,
    report: Callable[[dict[str, float]], None],
    **options: Any,
) -> dict[str, float]:
    """A trainer that logs each epoch as it begins."""
    from agesearch.training.checkpoint import load_state

    def began(epoch: int) -> None:
        if epoch <= spec.optim.epochs:
            _append(log, f"{int(out.name)} {epoch} {os.getpid()} {time.time():.3f}")

    def reported(metrics: dict[str, float]) -> None:
        report(metrics)
        began(int(metrics[EPOCH]) + 1)

    if not (out / MANIFEST).exists():
        state = load_state(out, spec.digest())
        began((state.epochs if state else 0) + 1)
    return trainer(spec, train, val, out, crop, report=reported, **options)


def _pretended_inputs(log: str, epoch_s: float, header: StudyHeader, _: Listener) -> TrialInputs:
    from agesearch.search.run.trial_inputs import TrialInputs

    return TrialInputs(partial(_logged, partial(_pretended, epoch_s), log), None, None, header.crop)


def _pretended(
    epoch_s: float,
    spec: TrainSpec,
    train: Any,
    val: Any,
    out: Location,
    crop: CropSpec,
    *,
    report: Callable[[dict[str, float]], None],
    **options: Any,
) -> dict[str, float]:
    """Sleeps for an epoch, and keeps checkpoint, curve and result as ``train_student`` does."""
    from agesearch.training.checkpoint import TrainState, load_state, save_state
    from agesearch.training.curve import append_row, keep_epochs

    state = load_state(out, spec.digest()) or TrainState(spec.digest())
    state.curve = keep_epochs(out, state.epochs, state.curve)
    best = pretended_error(spec, _ARCHS[0])
    for epoch in range(state.epochs + 1, spec.optim.epochs + 1):
        time.sleep(epoch_s)
        error = best + spec.distill.temperature * (spec.optim.epochs - epoch)
        row = {EPOCH: float(epoch), VAL_MAE_YEARS: error, EPOCH_SECONDS: epoch_s}
        state.epochs = epoch
        state.curve.append(row)
        save_state(out, state)
        append_row(out, row)
        report(row)
    (out / MANIFEST).write_json({})
    return {VAL_MAE_YEARS: best, VAL_CS5: 0.5}


def _pretended_latency(model: ModelSpec) -> SpeedRow:
    return pretended_speed(model.arch, model.input_size, 0.5 if model.arch == _ARCHS[0] else 1.0)
