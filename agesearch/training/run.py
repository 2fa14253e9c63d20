"""Training one student in this process, on Ray Datasets that all trials share.

This is what a trial does inside its reused Tune actor: no process is started, nothing is decoded again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from agesearch.data.loading import resident, streamed
from agesearch.distill.task import DistillTask
from agesearch.models.folder import write_model
from agesearch.models.manifest import MANIFEST, ModelKind, ModelManifest, read_model_manifest
from agesearch.models.zoo import AgeNet, build
from agesearch.specs import CropSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.batches import FacePool, PoolSource, Source, StreamSource, label_prior
from agesearch.training.checkpoint import delete_state
from agesearch.training.loop import Fitted, Report, Trainer, is_first_worker, use_threads

#: Faces up to this many bytes are drawn at random from the object store; more are streamed through it.
RESIDENT_BYTES = 8 * 1024**3


def train_student(
    spec: TrainSpec,
    train: Any,
    val: Any,
    out: Location,
    crop: CropSpec,
    *,
    report: Report = lambda _: None,
    resume: bool = True,
    threads: int = 1,
    data_digest: str = "",
    teacher_digest: str | None = None,
) -> dict[str, float]:
    """Train the network of ``spec`` and leave a model folder in ``out``; returns its best epoch's metrics.

    ``train`` and ``val`` come from ``load_split``; with a ``teacher_pmf`` in ``train`` the student is
    distilled. ``report`` gets each epoch's metrics. With ``resume``, a finished run of the same spec is
    returned as it is, and a killed one goes on from its last whole epoch. Raises ``TrainingDiverged``.
    """
    done = _finished(out, spec) if resume else None
    if done is not None:
        return done.metrics
    use_threads(threads)
    trainer = make_trainer(spec, train, val, out, resume=resume)
    fitted = trainer.fit(report)
    facts: dict[str, Any] = {"data_digest": data_digest, "teacher_digest": teacher_digest}
    facts["provenance"] = started_from(trainer.net, spec)
    return write_fitted(out, "trial", spec, crop, trainer.net, fitted, facts).metrics


def make_trainer(
    spec: TrainSpec,
    train: Any,
    val: Any,
    out: Location,
    *,
    resume: bool = True,
    rank: int = 0,
    world: int = 1,
    device: torch.device | None = None,
) -> Trainer:
    """A trainer for worker ``rank`` of ``world``: data, network from the spec's seed, and task."""
    torch.manual_seed(spec.seed)
    net = build(spec.model)
    source, labels = _source(train, spec, rank, world)
    prior = label_prior(labels, spec.distill.label_sigma)
    if prior is not None and not net.loaded.head:
        net.head.start_from(prior)
    task = DistillTask(
        net, spec.distill, has_labels=prior is not None, has_teacher="teacher_pmf" in train.schema().names
    )
    pool = FacePool(resident(val), spec.model.input_size)
    return Trainer(net, task, source, pool, spec, out, device=device, resume=resume)


def started_from(net: AgeNet, spec: TrainSpec) -> dict[str, Any]:
    """What a network's weights started from, for its manifest; empty where they were drawn or downloaded."""
    if spec.model.init not in ("file", "model"):
        return {}
    return {
        "started_from": {
            "weights": spec.model.weights,
            "tensors": net.loaded.tensors,
            "head": net.loaded.head,
        }
    }


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
        **facts,
    )
    if not is_first_worker():
        return manifest
    written = write_model(out, fitted.weights, manifest)
    delete_state(out)
    return written


def _source(train: Any, spec: TrainSpec, rank: int, world: int) -> tuple[Source, dict[str, Any]]:
    """The training faces, and the label columns of (a part of) them."""
    if train.size_bytes() <= RESIDENT_BYTES:
        pool = FacePool(resident(train), spec.model.input_size)
        return PoolSource(pool, spec, rank=rank, world=world), pool.columns
    mine = train.split(world, equal=True)[rank]
    size, seed = spec.optim.batch_size, spec.seed
    source = StreamSource(lambda epoch: streamed(mine, size, seed * 100_003 + epoch), mine.count(), spec)
    return source, {name: np.asarray(column) for name, column in mine.take_batch(4096).items()}


def _finished(out: Location, spec: TrainSpec) -> ModelManifest | None:
    if not (out / MANIFEST).exists():
        return None
    manifest = read_model_manifest(out)
    return manifest if manifest.spec_digest == spec.digest() else None
