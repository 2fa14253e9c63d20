"""[ray] One trial on several worker processes: a nested ``TorchTrainer`` whose reports go on to Ray Tune.

The trial's actor holds no CPU of its own: it waits for the workers, which hold one each. Where Tune ends the
trial, its actor is stopped, and Ray takes the workers down with their owner.
"""

from __future__ import annotations

import time

from agesearch.models.identity import read_model_manifest
from agesearch.search.run.reports import SECONDS
from agesearch.search.run.trial_inputs import TrialInputs
from agesearch.specs import TrainSpec
from agesearch.storage import Location
from agesearch.training.ddp import fit_ddp
from agesearch.training.loop import Place


def train_ddp(spec: TrainSpec, inputs: TrialInputs, out: Location, before: float) -> dict[str, float]:
    """Train one student on ``inputs.workers`` workers; returns its best epoch's metrics.

    Each epoch is reported to Tune with the seconds spent on training, ``before`` of them by earlier attempts.
    """
    from ray import train
    from ray.tune.integration.ray_train import TuneReportCallback

    began = time.time() - before  # of the day, since workers on other machines read it too

    def report(metrics: dict[str, float]) -> None:
        train.report({**metrics, SECONDS: time.time() - began})

    def work(place: Place) -> None:
        inputs.trainer(
            spec, inputs.train, inputs.val, out, inputs.crop, report=report, resume=True, place=place
        )

    fit_ddp(
        work,
        out / ".train",
        out.name,
        workers=inputs.workers,
        gpus_per_worker=inputs.gpus_per_worker,
        callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call]
    )
    return read_model_manifest(out).metrics
