"""``agesearch.refit``: a network's last layer solved for on labelled faces, in seconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agesearch.api.places import Kept, Place
from agesearch.errors import InputError
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    from agesearch.models.manifest import ModelManifest
    from agesearch.specs import ModelSpec
    from agesearch.training.refit.record import RefitRecord


@dataclass(frozen=True)
class RefittedModel(Kept):
    """A refitted model: where it lies, its manifest, and how it was made and how good it is."""

    path: str
    manifest: ModelManifest
    record: RefitRecord


def refit(
    model: Place,
    *,
    data: Place,
    out: Place,
    init: Place | None = None,
    split: str = "train",
    folds: Sequence[int] | None = None,
    registry: Place = "registry",
    on_progress: Listener = silent,
) -> RefittedModel:
    """Refit the last layer of ``model`` on the faces of ``data`` with an exact age, into the folder ``out``.

    >>> refitted = agesearch.refit("teacher", data="faces", split="all", out="refitted")
    >>> refitted.record.faces, sorted(refitted.manifest.metrics)
    (40, ['cv_mae_years'])

    Called again with the same arguments it returns a finished model as it is.

    Args:
        model: a model folder, a name of ``registry``, the YAML of a foreign teacher whose network is one of
            ours, or ``ARCH@SIZE`` with an ``init``.
        init: what ``ARCH@SIZE`` starts from: ``pretrained`` (timm's hub), a weights file, a model folder or a
            teacher's YAML. The narrower forms of ``xception_tiny`` are pruned from the whole one.
        split: ``train``, ``val``, ``test`` or ``all``; ``folds``: of these folds alone.

    Raises:
        InputError: no such network; fewer than 30 faces of 10 persons; ``out`` holds something else.
    """
    set_environment()
    from agesearch.measure.protocols import part_named
    from agesearch.training.refit.run import refit as run_refit

    part = part_named(split, folds)
    start = _network(os.fspath(model), None if init is None else os.fspath(init), os.fspath(registry))
    found = run_refit(start, os.fspath(data), os.fspath(out), part=part, on_progress=on_progress)
    return RefittedModel(os.fspath(out), found.manifest, found.record)


def _network(model: str, init: str | None, registry: str) -> ModelSpec:
    """What the refit starts from."""
    from agesearch.deploy.registry import model_folder
    from agesearch.models.architectures import Network
    from agesearch.models.foreign.document import start_named
    from agesearch.training.refit.run import starting_network

    network = Network.named(model)
    if network is None:
        if init is not None:
            raise InputError(
                f"--init goes with ARCH@SIZE, such as mobilenetv2_100@224, but the model is '{model}'."
            )
        return starting_network(str(model_folder(model, registry)))
    if init in (None, "random"):
        raise InputError(
            f"'{model}' has no weights, and a last layer on random features tells nothing: name some with "
            "--init (pretrained, or a file)."
        )
    return network.model().model_copy(update=start_named(str(init)))
