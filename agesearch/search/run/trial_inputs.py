"""What all trials of a study share: the training function, the faces, the crop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agesearch.measure.counterfactual.faces import CounterfactualSpec, RenderedPerson
from agesearch.measure.counterfactual.run import score_persons
from agesearch.measure.counterfactual.shifts import largest_move
from agesearch.measure.labelled_faces import LabelledFaces
from agesearch.measure.robustness.protocol import CorruptionLevel
from agesearch.measure.robustness.subset import mae_c_years
from agesearch.metrics import SHIFT_YEARS, VAL_MAE_C_YEARS
from agesearch.models.predict import open_predictor
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
class EndMeasures:
    """What a trial that has trained to its end is measured by besides its error, where its study limits that:
    its error on ``faces`` under each of ``levels``, and how far changes of rendered ``persons`` move its
    answers.
    """

    faces: LabelledFaces | None = None
    levels: tuple[CorruptionLevel, ...] = ()
    persons: tuple[RenderedPerson, ...] = ()
    changes: CounterfactualSpec | None = None

    def of(self, folder: Location) -> dict[str, float]:
        """The figures of the model in a trial's folder, by their names; empty where nothing is limited."""
        found: dict[str, float] = {}
        if self.faces is None and self.changes is None:
            return found
        predictor = open_predictor(folder)  # in ONNX Runtime: torch takes thirty times as long
        if self.faces is not None:
            found[VAL_MAE_C_YEARS] = mae_c_years(predictor, self.faces, self.levels)
        if self.changes is not None:
            found[SHIFT_YEARS] = largest_move(
                score_persons([predictor], self.changes, self.persons).answers[0]
            )
        return found


@dataclass(frozen=True)
class TrialInputs:
    """What all trials of a study share; the datasets lie in Ray's object store, once.

    ``reads`` are places (paths or URIs) that a trial reads from its node, ``writes`` the folder that it is
    published in (None: not to be looked at).
    ``workers`` processes train a trial together, each with so many GPUs; one is the trial's actor itself.
    """

    trainer: TrainFunction
    train: Any
    val: Any
    crop: CropSpec
    workers: int = 1
    gpus_per_worker: float = 0.0
    measures: EndMeasures = EndMeasures()
    reads: tuple[str, ...] = ()
    writes: str | None = None

    def on_workers(self, workers: int, gpus: float) -> TrialInputs:
        """The same, for trials on so many workers with so many GPUs each."""
        return replace(self, workers=workers, gpus_per_worker=gpus)
