"""Training one student in this process, on faces that all trials share.

This is what a trial does inside its reused Tune actor: no process is started. Faces that are held in Ray's
object store are not decoded again; more are read from their shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agesearch.data.dataset.shards import read_rows
from agesearch.data.reading.loading import SplitFaces, resident
from agesearch.distill.task import DistillTask
from agesearch.errors import AgeSearchError
from agesearch.machine import cores
from agesearch.measure.accuracy import worst_decade
from agesearch.measure.leakage import seen_by
from agesearch.metrics import VAL_WORST_DECADE_FIRST_YEARS, VAL_WORST_DECADE_MAE_YEARS
from agesearch.models.folder import write_model
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, ModelKind, ModelManifest
from agesearch.models.trained_on import TrainedOn
from agesearch.models.weights import start_licences, weights_digest
from agesearch.models.zoo import AgeNet, build
from agesearch.specs import CropSpec, ModelSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.checkpoint import delete_state
from agesearch.training.curve import write_answers
from agesearch.training.faces.batches import BatchSource, Faces, label_prior
from agesearch.training.faces.mixing import MixedFaces
from agesearch.training.faces.passes import FaceEpochs
from agesearch.training.faces.pool import FacePool, PoolSource
from agesearch.training.faces.shards import ShardPool
from agesearch.training.faces.stream import StreamSource
from agesearch.training.loop import (
    ALONE,
    Fitted,
    Place,
    Report,
    Trainer,
    pick_device,
    use_threads,
)
from agesearch.training.steps.workers import is_first_worker
from agesearch.training.validation import AgeTarget

#: Threads that decode and augment for one training on a GPU: some 3,000 faces/s each, but they share Python.
GPU_THREADS = 4


def train_student(
    spec: TrainSpec,
    train: SplitFaces,
    val: SplitFaces,
    out: Location,
    crop: CropSpec,
    *,
    report: Report = lambda _: None,
    resume: bool = True,
    threads: int = 1,
    place: Place = ALONE,
    data_digest: str = "",
    trained_on: Sequence[TrainedOn] = (),
    teacher_digest: str | None = None,
) -> dict[str, float]:
    """Train the network of ``spec`` and leave a model folder in ``out``; returns its best epoch's metrics.

    ``train`` and ``val`` come from ``load_split`` (``trained_on`` says of which faces); with a
    ``teacher_pmf`` in ``train`` the student is distilled. ``report`` gets each epoch's metrics. With
    ``resume``, a finished run of the same spec is returned as it is, and a killed one goes on from its last
    checkpoint. ``place`` says which of several workers this one is (see ``training.ddp``). Raises
    ``TrainingDiverged`` and ``TrainingStopped``.
    """
    done = _finished(out, spec) if resume else None
    if done is not None:
        return done.metrics
    use_threads(threads)
    trainer = make_trainer(spec, train, val, out, resume=resume, place=place)
    fitted = _with_worst_decade(trainer.fit(report), trainer)
    if is_first_worker():
        _keep_answers(trainer, fitted, val, out)
    facts: dict[str, Any] = {"data_digest": data_digest, "teacher_digest": teacher_digest}
    facts["trained_on"] = with_start(trained_on, spec.model)
    facts["provenance"] = started_from(trainer.net, spec.model)
    return write_fitted(out, "trial", spec, crop, trainer.net, fitted, facts).metrics


def make_trainer(
    spec: TrainSpec,
    train: SplitFaces,
    val: SplitFaces,
    out: Location,
    *,
    resume: bool = True,
    place: Place = ALONE,
) -> Trainer:
    """A trainer for one worker: its data, the network from the spec's seed, and the task."""
    torch.manual_seed(spec.seed)
    net = build(spec.model)
    widths = train.stored.widths
    source = _source(train, spec, place)
    prior = label_prior(source.labels(), spec.distill.label_sigma)
    if prior is not None and not net.loaded.head:
        net.head.start_from(prior)
    task = DistillTask(
        net,
        spec.distill,
        has_labels=prior is not None,
        has_teacher="teacher_pmf" in widths,
        feature_width=widths.get("teacher_features", (0, 0))[1],
    )
    if place.rank:  # the first one's dropout would hide the same features of every worker's faces
        torch.manual_seed(int(np.random.SeedSequence([spec.seed, place.rank]).generate_state(1)[0]))
    return Trainer(
        net,
        task,
        _epochs(source, spec),
        _validation(val, spec),
        spec,
        out,
        device=place.device,
        resume=resume,
        subjects=None if spec.val_faces is None else _subjects(val),
    )


def started_from(net: AgeNet, model: ModelSpec) -> dict[str, Any]:
    """What a network's weights started from, for its manifest; empty where they were drawn or downloaded."""
    if model.init not in ("file", "model"):
        return {}
    return {
        "started_from": {
            "weights": model.weights,
            "sha256": weights_digest(model),
            "tensors": net.loaded.tensors,
            "head": net.loaded.head,
        }
    }


def with_start(own: Sequence[TrainedOn], model: ModelSpec) -> tuple[TrainedOn, ...]:
    """What a training sees, with what the model saw whose weights it starts from."""
    if model.init != "model" or model.weights is None:
        return tuple(own)
    start = read_model_manifest(model.weights)
    return (*own, *(seen.passed_on() for seen in seen_by(start)))


def write_fitted(
    out: Location,
    kind: ModelKind,
    spec: TrainSpec,
    crop: CropSpec,
    net: AgeNet,
    fitted: Fitted,
    facts: dict[str, Any],
) -> ModelManifest:
    """Write the model folder of a finished training; its checkpoint goes."""
    manifest = ModelManifest(
        kind=kind,
        model=spec.model,
        crop=crop,
        metrics=fitted.metrics,
        train=spec,
        parameters=net.parameter_count,
        spec_digest=spec.digest(),
        licences=start_licences(spec.model),
        **facts,
    )
    if not is_first_worker():
        return manifest
    written = write_model(out, fitted.weights, manifest)
    delete_state(out)
    return written


def _source(train: SplitFaces, spec: TrainSpec, place: Place) -> PoolSource | StreamSource:
    """A worker's share of the training faces."""
    if train.held is None:
        return StreamSource(
            train.stored, spec, rank=place.rank, world=place.world, threads=making_threads(place)
        )
    pool, sizes = FacePool(resident(train), spec.model.input_size), train.stored.sizes
    return PoolSource(pool, spec, sizes=sizes, rank=place.rank, world=place.world)


def _epochs(source: BatchSource, spec: TrainSpec) -> BatchSource:
    """The batches as the spec wants them: epochs of a number of faces, faces mixed."""
    faces = spec.optim.epoch_faces
    epochs = source if faces is None else FaceEpochs(source, faces)
    return MixedFaces(epochs, spec) if spec.augment.mixup else epochs


def _with_worst_decade(fitted: Fitted, trainer: Trainer) -> Fitted:
    """Its metrics with the error of its best epoch in the worst decade of age, where ages are known and any
    decade has enough of the validation faces.
    """
    if fitted.answers is None or not isinstance(trainer.target, AgeTarget):
        return fitted
    worst = worst_decade(fitted.answers, trainer.target.true)
    if worst is None:
        return fitted
    known = {VAL_WORST_DECADE_MAE_YEARS: worst.mae_years, VAL_WORST_DECADE_FIRST_YEARS: float(worst.first)}
    return replace(fitted, metrics=fitted.metrics | known)


def _keep_answers(trainer: Trainer, fitted: Fitted, val: SplitFaces, out: Location) -> None:
    """What the student says of the validation faces, for paired comparisons with others; of ages only.

    Whose faces they are is in the dataset alone, which a node that was given the faces need not see: without
    it an interval would be one over faces, and too narrow, so that nothing is kept.
    """
    if fitted.answers is None or not isinstance(trainer.target, AgeTarget):
        return
    try:
        subjects = _subjects(val)
    except (AgeSearchError, OSError):
        return
    rows = trainer.target.rows
    ids = [str(name) for name in trainer.val.ids[rows]]
    ages = trainer.val.columns["age"].astype(np.float32)[rows]
    write_answers(out, ids, list(subjects[rows]), ages, fitted.answers.astype(np.float32))


def _subjects(val: SplitFaces) -> npt.NDArray[np.object_]:
    """The persons of a split's faces, in their order; None for one of nobody known."""
    names = read_rows(val.stored.folder, val.stored.part, ["subject_id"]).column(0).to_pylist()
    return np.array(names, dtype=object)


def making_threads(place: Place) -> int:
    """How many threads make batches ahead: a few for a GPU, which waits, else half as many as compute.

    None beside a single one: a trial has one core, and its neighbours the others.
    """
    if (place.device or pick_device()).type == "cuda":
        return min(GPU_THREADS, cores())
    return torch.get_num_threads() // 2


def _validation(val: SplitFaces, spec: TrainSpec) -> Faces:
    """The faces that epochs are judged by."""
    if val.held is None:
        return ShardPool(val.stored, spec.model.input_size)
    return FacePool(resident(val), spec.model.input_size)


def _finished(out: Location, spec: TrainSpec) -> ModelManifest | None:
    if not (out / MANIFEST).exists():
        return None
    manifest = read_model_manifest(out)
    return manifest if manifest.spec_digest == spec.digest() else None
