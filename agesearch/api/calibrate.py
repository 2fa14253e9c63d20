"""``agesearch.calibrate``: honest intervals, and a correction of ages where that helps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from agesearch.api.places import Place, text_of
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    from agesearch.deploy.calibration import Calibrated


def calibrate(
    model: Place,
    *,
    data: Place,
    level: float = 0.8,
    by: Literal["sex", "ethnicity", "source"] | None = None,
    correct: Literal["auto", "off", "affine", "isotonic"] | None = None,
    split: str | None = None,
    folds: Sequence[int] | None = None,
    out: Place | None = None,
    pick: str | int = "knee",
    registry: Place = "registry",
    on_progress: Listener = silent,
) -> Calibrated:
    """Learn intervals that hold the true age of a share ``level`` of the faces, and keep them with the model.

    >>> found = agesearch.calibrate("teacher", data="faces", correct="off", out="calibrated.json")
    >>> found.calibration.level, found.place.name
    (0.8, 'calibrated.json')

    They become a file of a model folder; of a published version, which never changes, a new version; of a
    foreign teacher, or wherever ``out`` is given, a document beside it that stands wherever a teacher does.

    Args:
        model: a model folder, a study (its ``pick``), a name of ``registry``, or a foreign teacher's YAML.
        by: intervals for each of these groups that has faces enough.
        correct: None: ``auto``; ``off`` on the data of the model's training.
        split: ``train``, ``val`` or ``test``; None: train, or test on the data of the model's training.

    Raises:
        InputError: faces that trained the model or chose its epoch, or too few of them.
    """
    set_environment()
    from agesearch.deploy.calibration import calibrate_model
    from agesearch.deploy.places import model_place
    from agesearch.measure.calibration.run import CalibrationSpec
    from agesearch.measure.protocols import split_named

    spec = CalibrationSpec(
        level=level,
        by=by,
        correct=correct,
        split=None if split is None else split_named(split),
        folds=tuple(folds) if folds else None,
    )
    place = model_place(os.fspath(model), os.fspath(registry), str(pick))
    return calibrate_model(
        place, os.fspath(data), spec, out=text_of(out), registry=os.fspath(registry), on_progress=on_progress
    )
