"""``agesearch.teach``: a teacher learns the ages of a dataset."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agesearch.api.places import Kept, Place
from agesearch.errors import InputError
from agesearch.progress import Listener, silent
from agesearch.session import set_environment

if TYPE_CHECKING:
    from agesearch.models.manifest import ModelManifest
    from agesearch.models.order_net import OrderManifest


@dataclass(frozen=True)
class Teacher(Kept):
    """A trained teacher: where it lies, and its manifest."""

    path: str
    manifest: ModelManifest | OrderManifest

    @property
    def metrics(self) -> dict[str, float]:
        """Figures on the validation faces, by names that carry their unit, such as ``val_mae_years``."""
        return dict(self.manifest.metrics)


def teach(
    *,
    data: Place,
    arch: str,
    out: Place,
    init: Place = "random",
    input_size: int = 112,
    epochs: int = 24,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.02,
    label_sigma: float = 2.0,
    augment: float = 1.0,
    seed: int = 0,
    kind: Literal["age", "order"] = "age",
    length: int = 8,
    gap: float = 1.0,
    order_loss: str = "softsort",
    temperature: float = 1.0,
    workers: int = 1,
    epoch_faces: int | None = None,
    val_faces: int | None = None,
    checkpoint_minutes: float | None = None,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Teacher:
    """Train a teacher on the ages of the dataset ``data`` into the folder ``out``; the best epoch is kept.

    >>> teacher = agesearch.teach(data="faces", arch="lcnet_050", input_size=48, epochs=1, out="teacher")
    >>> sorted(teacher.metrics)[-3:]
    ['val_mae_median_years', 'val_mae_years', 'val_spread_years']

    Called again with the same arguments it goes on with a killed training, and returns a finished teacher as
    it is.

    Args:
        init: ``random``, ``pretrained`` (timm's hub), a weights file, a model folder or a foreign teacher's
            document, where the architecture is that network's.
        input_size: side of the network's input in pixels.
        label_sigma: width in years of the label distribution of an age teacher.
        kind: ``age``: gives distributions of ages; ``order``: sorts sequences of ``length`` faces, whose
            ages lie ``gap`` years apart at least, by ``order_loss`` (softsort, sinkhorn, listmle) at
            ``temperature``.
        workers: processes that train together, of an age teacher.
        epoch_faces: faces of an epoch, in place of all; ``val_faces``: of so many validation faces, the same
            ones, each epoch is judged.
        checkpoint_minutes: how much work a kill may cost; None: ten.

    Raises:
        InputError: a dataset without training or validation faces; ``out`` holds something else.
    """
    set_environment()
    from agesearch.models.foreign.document import start_named

    document: dict[str, Any] = {
        "model": {"arch": arch, "input_size": input_size, **start_named(os.fspath(init))},
        "optim": {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "epoch_faces": epoch_faces,
        },
        "augment": {"strength": augment},
        "seed": seed,
    }
    pace = {} if checkpoint_minutes is None else {"checkpoint_minutes": checkpoint_minutes}
    if kind == "order":
        order = {"length": length, "gap": gap, "loss": order_loss, "temperature": temperature}
        if val_faces is not None:
            raise InputError(
                "An order teacher is validated on all validation faces, but --val-faces is given."
            )
        return _teach_order({**document, **pace, "order": order}, data, out, workers, on_progress)

    from agesearch.specs import TrainSpec, parse_spec
    from agesearch.training.teach import teach as run_teach

    spec = parse_spec(
        TrainSpec,
        {**document, "compute": pace, "val_faces": val_faces, "distill": {"label_sigma": label_sigma}},
        "teach",
    )
    manifest = run_teach(
        spec, os.fspath(data), os.fspath(out), workers=workers, address=address, on_progress=on_progress
    )
    return Teacher(os.fspath(out), manifest)


def _teach_order(
    document: dict[str, Any], data: Place, out: Place, workers: int, on_progress: Listener
) -> Teacher:
    from agesearch.machine import cores
    from agesearch.specs import OrderTrainSpec, parse_spec
    from agesearch.training.teach_order import teach_order

    if workers != 1:
        raise InputError(f"An order teacher trains in one process, but --workers is {workers}.")
    spec = parse_spec(OrderTrainSpec, document, "teach")
    found = teach_order(spec, os.fspath(data), os.fspath(out), threads=cores(), on_progress=on_progress)
    return Teacher(os.fspath(out), found)
