"""What all trials of a study share: the training function, the faces, the crop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agesearch.specs import CropSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.loop import Place

Report = Callable[[dict[str, float]], None]


class TrainFunction(Protocol):
    """Trains one student into the folder ``out``, from its checkpoint where there is one.

    Calls ``report`` after each epoch (``epoch``, ``val_mae_years``...) and returns the final metrics.
    """

    def __call__(
        self,
        spec: TrainSpec,
        train: Any,
        val: Any,
        out: Location,
        crop: CropSpec,
        *,
        report: Report = ...,
        resume: bool = True,
        place: Place = ...,
    ) -> dict[str, float]: ...


@dataclass(frozen=True)
class TrialInputs:
    """What all trials of a study share; the datasets lie in Ray's object store, once.

    ``workers`` processes train a trial together, each with so many GPUs; one is the trial's actor itself.
    """

    trainer: TrainFunction
    train: Any
    val: Any
    crop: CropSpec
    workers: int = 1
    gpus_per_worker: float = 0.0

    def on_workers(self, workers: int, gpus: float) -> TrialInputs:
        """The same, for trials on so many workers with so many GPUs each."""
        return replace(self, workers=workers, gpus_per_worker=gpus)
