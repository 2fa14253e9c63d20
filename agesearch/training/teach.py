"""Training a teacher on a dataset's labels with Ray Train, on one worker or several; run again to resume."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from agesearch import metrics
from agesearch.artefacts import begin_run, own_run, with_weights
from agesearch.data.dataset.records import Manifest, Split, read_manifest
from agesearch.data.dataset.shards import labelled
from agesearch.data.reading.loading import SplitFaces, known_ages, load_split
from agesearch.errors import InputError
from agesearch.measure.accuracy import mae
from agesearch.models.architectures import architecture
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, ModelManifest
from agesearch.models.trained_on import trained_on
from agesearch.models.weights import check_start, weights_digest
from agesearch.progress import Listener, silent, waiting
from agesearch.session import ray_session
from agesearch.specs import CropSpec, TrainSpec
from agesearch.storage import Location, exclusive
from agesearch.training.ddp import check_workers, fit_ddp
from agesearch.training.loop import Place, use_threads
from agesearch.training.run import make_trainer, started_from, with_start, write_fitted
from agesearch.training.standing import followed
from agesearch.training.stopping import signals_stop


@dataclass(frozen=True)
class Teaching:
    """What every worker needs: the spec, the shared faces, where to write, the manifest's ``facts``, and how
    many threads a worker has of how many GPUs.
    """

    spec: TrainSpec
    train: SplitFaces
    val: SplitFaces
    out: Location
    crop: CropSpec
    facts: dict[str, Any]
    threads: int
    gpus: float


def teach(
    spec: TrainSpec,
    dataset: str | Location,
    out: str | Location,
    *,
    workers: int = 1,
    address: str | None = None,
    on_progress: Listener = silent,
) -> ModelManifest:
    """Train a teacher and leave a model folder in ``out``; returns its manifest.

    Run again with the same spec and data, it returns a finished teacher as it is, and goes on with a killed
    one from its last checkpoint. Ctrl-C and SIGTERM write one first, within an epoch too, and raise
    ``KeyboardInterrupt``. A folder that holds anything else is a ``ConflictError``. Whether the teacher
    learnt anything is said by ``training.collapse`` of its metrics.
    """
    folder, target = Location.of(dataset), Location.of(out)
    manifest = read_manifest(folder)
    architecture(spec.model.arch)
    _refuse_unlabelled(manifest, folder)
    identity = with_weights(
        {"spec": spec.identity(), "data": manifest.content_digest}, weights_digest(spec.model)
    )
    if MANIFEST in own_run(target, "a teacher", identity):
        return read_model_manifest(target)
    check_start(spec.model)
    with exclusive(target, "The teacher"):
        if MANIFEST in own_run(target, "a teacher", identity):  # another run may have come in between
            return read_model_manifest(target)
        begin_run(target, identity)
        with ray_session(address, on_progress=on_progress) as session:
            cores = int(session.cpus)
            check_workers(workers, cores)
            with waiting(on_progress, "reading faces"):
                train, val = load_split(folder, Split.TRAIN), load_split(folder, Split.VAL)
            facts = {
                "data_digest": manifest.content_digest,
                "trained_on": with_start(trained_on(manifest), spec.model),
            }
            threads = max(1, cores // workers)
            teaching = Teaching(spec, train, val, target, manifest.crop, facts, threads, session.gpus)
            with signals_stop(target), followed(target, spec.optim.epochs, on_progress):
                _fit(teaching, workers)
            return read_model_manifest(target)


def _fit(teaching: Teaching, workers: int) -> None:
    shared = workers > 1 and teaching.gpus >= workers
    fit_ddp(
        partial(train_worker, teaching),
        teaching.out / ".train",
        f"teach-{teaching.spec.digest()}",
        workers=workers,
        gpus_per_worker=1.0 if shared else 0.0,
    )


def train_worker(teaching: Teaching, place: Place) -> None:
    """One worker's whole training; the first writes the model folder."""
    use_threads(teaching.threads)
    spec = teaching.spec
    trainer = make_trainer(spec, teaching.train, teaching.val, teaching.out, place=place)
    fitted = trainer.fit(lambda _: None)
    spread, most_frequent = trainer.variety(fitted)
    if metrics.VAL_MAE_YEARS in fitted.metrics:  # with groups alone there is no median age
        fitted.metrics[metrics.VAL_MAE_MEDIAN_YEARS] = median_baseline(teaching.train, teaching.val)
        fitted.metrics[metrics.VAL_SPREAD_YEARS] = spread
    else:
        fitted.metrics[metrics.VAL_TOP1_MAJORITY] = most_frequent
    facts = {**teaching.facts, "provenance": started_from(trainer.net, spec.model)}
    write_fitted(teaching.out, "teacher", spec, teaching.crop, trainer.net, fitted, facts)


def median_baseline(train: SplitFaces, val: SplitFaces) -> float:
    """The validation MAE in years of always answering the median age of the training faces."""
    trained, true = known_ages(train), known_ages(val)
    if len(trained) == 0 or len(true) == 0:
        raise InputError("The training or the validation faces have no exact ages.")
    return mae(np.full(len(true), np.median(trained)), true)


def _refuse_unlabelled(manifest: Manifest, folder: Location) -> None:
    for split in (Split.TRAIN, Split.VAL):
        if not manifest.counts.get(split):
            raise InputError(
                f"'{folder}' has no faces in its split '{split}': ingest it with a share for it."
            )
        found = labelled(folder, split)
        if not found.ages and not found.groups:
            raise InputError(
                f"None of the faces in the split '{split}' of '{folder}' has an age or an age group, and a "
                "teacher learns from them: ingest it from labels."
            )
