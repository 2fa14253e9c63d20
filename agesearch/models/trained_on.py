"""Which faces a model has seen: the parts of datasets that trained it, by the datasets' digests.

A model that goes on from another's weights has seen what that one saw. ``agesearch.measure.leakage`` asks
these records before it calls a figure a test.
"""

from __future__ import annotations

from pydantic import Field

from agesearch.data.dataset.records import Manifest, Part, Split
from agesearch.specs import Spec


class TrainedOn(Spec):
    """The faces of one dataset that trained a model, and those that chose its best epoch.

    ``inherited``: not this model's own training, but that of the model whose weights it started from.
    """

    data: str = Field("", description="the dataset's name")
    data_digest: str
    train: Part = Part(Split.TRAIN)
    val: Part = Part(Split.VAL)
    inherited: bool = False

    def passed_on(self) -> TrainedOn:
        """The same for a model that starts from this one's weights."""
        return self.model_copy(update={"inherited": True})


def trained_on(data: Manifest, train: Part | None = None, val: Part | None = None) -> tuple[TrainedOn, ...]:
    """What a training on parts of a dataset (default: its splits) sees: of the dataset first, then of those
    that it was made of.

    Splits, folds and persons of an annotated dataset are those of the one it came from; a mixture keeps the
    splits of its parts. Made faces (``agesearch.data.augmentation``) show the part that they were made of.
    """
    own = TrainedOn(
        data=data.name,
        data_digest=data.content_digest,
        train=train or Part(Split.TRAIN),
        val=val or Part(Split.VAL),
    )
    found = [own]
    if data.annotation is not None:
        named = {"data": data.annotation.data, "data_digest": data.annotation.data_digest}
        found.append(own.model_copy(update=named))
    for part in data.parts:
        named = {"data": part.name, "data_digest": part.content_digest}
        found.append(own.model_copy(update=named))
    for made in (data.augmentation, *(part.augmentation for part in data.parts)):
        if made is not None:
            shown = {"train": made.part, "val": Part(folds=())}
            found.append(TrainedOn(data=made.data, data_digest=made.data_digest, **shown))
    return tuple(found)
