"""Training a teacher on a dataset's labels with Ray Train, on one worker or several; run again to resume."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from agesearch import metrics
from agesearch.data.dataset.records import Manifest, Split, read_manifest
from agesearch.data.dataset.shards import labelled
from agesearch.data.reading.loading import load_split, resident
from agesearch.errors import ConflictError, InputError
from agesearch.measure.accuracy import mae
from agesearch.models.architectures import architecture
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST, ModelManifest
from agesearch.models.trained_on import trained_on
from agesearch.progress import Listener, silent
from agesearch.session import ray_session
from agesearch.specs import CropSpec, TrainSpec
from agesearch.storage import Location, exclusive
from agesearch.training.curve import followed
from agesearch.training.ddp import check_workers, fit_together
from agesearch.training.loop import Place, use_threads
from agesearch.training.run import make_trainer, started_from, with_start, write_fitted

RUN = "run.json"


@dataclass(frozen=True)
class Job:
    """What every worker needs: the spec, the shared faces, and where to write."""

    spec: TrainSpec
    train: Any
    val: Any
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
    one after its last whole epoch. A folder that holds anything else is a ``ConflictError``.
    """
    folder, target = Location.of(dataset), Location.of(out)
    manifest = read_manifest(folder)
    architecture(spec.model.arch)
    _refuse_unlabelled(manifest, folder)
    identity = {"spec": spec.model_dump(mode="json"), "data": manifest.content_digest}
    done = _taken(target, identity)
    if done is not None:
        return done
    with exclusive(target, "The teacher"):
        (target / RUN).write_json(identity)
        with ray_session(address, on_progress=on_progress) as session:
            cores = int(session.cpus)
            check_workers(workers, cores)
            train, val = load_split(folder, Split.TRAIN), load_split(folder, Split.VAL)
            facts = {
                "data_digest": manifest.content_digest,
                "trained_on": with_start(trained_on(manifest), spec),
            }
            job = Job(spec, train, val, target, manifest.crop, facts, max(1, cores // workers), session.gpus)
            with followed(target, spec.optim.epochs, on_progress):
                _fit(job, workers)
            return read_model_manifest(target)


def _fit(job: Job, workers: int) -> None:
    shared = workers > 1 and job.gpus >= workers
    fit_together(
        partial(_work, job),
        job.out / ".train",
        f"teach-{job.spec.digest()}",
        workers=workers,
        gpus_per_worker=1.0 if shared else 0.0,
    )


def _work(job: Job, place: Place) -> None:
    """One worker's whole training; the first writes the model folder."""
    use_threads(job.threads)
    trainer = make_trainer(job.spec, job.train, job.val, job.out, place=place)
    fitted = trainer.fit(lambda _: None)
    if metrics.VAL_MAE_YEARS in fitted.metrics:  # with groups alone there is no median age
        fitted.metrics[metrics.VAL_MAE_MEDIAN_YEARS] = median_baseline(job.train, job.val)
    facts = {**job.facts, "provenance": started_from(trainer.net, job.spec)}
    write_fitted(job.out, "teacher", job.spec, job.crop, trainer.net, fitted, facts)


def median_baseline(train: Any, val: Any) -> float:
    """The validation MAE in years of always answering the median age of the training faces."""
    known = [np.concatenate([block["age"] for block in resident(split)]) for split in (train, val)]
    trained, true = (ages[np.isfinite(ages)] for ages in known)
    if len(trained) == 0 or len(true) == 0:
        raise InputError("The training or the validation faces have no exact ages.")
    return mae(np.full(len(true), np.median(trained)), true)


def _taken(out: Location, identity: dict[str, Any]) -> ModelManifest | None:
    """The finished teacher of the same run; None where there is none yet, a ``ConflictError`` for another."""
    names = {child.name for child in out.children()} - {".lock"}
    if not names:
        return None
    if RUN not in names:
        raise ConflictError(f"'{out}' holds other things and no teacher: choose another --out, or empty it.")
    if (out / RUN).read_json() != identity:
        state = "a teacher" if MANIFEST in names else "an unfinished teacher"
        raise ConflictError(
            f"'{out}' holds {state} with other settings or data (see its {RUN}): choose another --out, "
            "or remove it."
        )
    return read_model_manifest(out) if MANIFEST in names else None


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
