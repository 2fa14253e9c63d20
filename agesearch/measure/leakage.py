"""Whether a model has seen the faces it is tested on: such figures are no test, and say so.

What a model was trained on stands in its manifest, by the digests of datasets and their parts (splits, folds,
persons). Models made before that was written have trained on the split ``train`` of their dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agesearch.data.dataset.records import Manifest, Part
from agesearch.measure.predictions import Indices, Labels, Picker
from agesearch.models.calibration.record import Calibration
from agesearch.models.manifest import ModelManifest
from agesearch.models.trained_on import TrainedOn


@dataclass(frozen=True)
class Leak:
    """Faces of a test (``indices``) that a model knows: it was trained on them, or they chose its epoch."""

    trained: bool
    inherited: bool
    part: Part
    indices: Indices

    def message(self, tested: int, whose: str) -> str:
        """A sentence for readers of the figures; ``tested`` is the number of faces tested."""
        seen = "was trained" if self.trained else "had its best epoch chosen"
        who = f"{whose} started from a model that {seen}" if self.inherited else f"{whose} {seen}"
        return (
            f"{who} on {len(self.indices):,} of the {tested:,} faces tested (this dataset's {self.part}): "
            "these figures are no test."
        )


def leaks(model: ModelManifest, data: Manifest, labels: Labels) -> list[Leak]:
    """The faces of ``labels``, of the dataset ``data``, that a model has seen; training before validation."""
    digests = _digests(data)
    picker = Picker(labels)
    found: dict[tuple[bool, bool, Part], Indices] = {}
    for seen in seen_by(model):
        if seen.data_digest not in digests:
            continue
        for trained, part in ((True, seen.train), (False, seen.val)):
            at = picker.indices(part)
            if len(at):
                found[trained, seen.inherited, part] = at
    return [
        Leak(*key, at) for key, at in sorted(found.items(), key=lambda item: (not item[0][0], item[0][1]))
    ]


def leak_notes(
    model: ModelManifest, data: Manifest, labels: Labels, whose: str = "The model"
) -> tuple[str, ...]:
    """What is to be said beside figures of these faces; nothing where the model has seen none of them. Of
    another ingest of the dataset (other crops, another split) it is not known: that is found by its name.
    """
    found = tuple(leak.message(len(labels), whose) for leak in leaks(model, data, labels))
    if found or not trained_on_namesake(model, data):
        return found
    return (
        f"{whose} was trained on another ingest of '{data.name}', which may hold the faces tested: these "
        "figures may be no test.",
    )


def trained_on_namesake(model: ModelManifest, data: Manifest) -> bool:
    """Whether a model was trained on another dataset of the same name: as a rule another ingest of it."""
    known = _digests(data)
    alike = (seen.data == data.name and seen.data_digest not in known for seen in seen_by(model))
    return bool(data.name) and any(alike)


def calibration_notes(
    found: Sequence[Calibration], data: Manifest, labels: Labels, whose: str = "The model"
) -> tuple[str, ...]:
    """Where faces of a test taught one of a model's calibrations; see ``leak_notes``. Intervals alone change
    no age, so that errors are a test all the same.
    """
    digests = _digests(data)
    notes = []
    for one in found:
        count = len(Picker(labels).indices(one.faces.part)) if one.faces.data_digest in digests else 0
        if count:
            what, why = ("age correction and intervals", "these figures are no test")
            if one.correction is None:
                what, why = "intervals", "what these hold here is no test"
            notes.append(
                f"{whose} learnt its {what} from {count:,} of the {len(labels):,} faces tested: {why}."
            )
    return tuple(notes)


def seen_count(found: Sequence[Leak], *, trained: bool) -> int:
    """How many different faces of a test trained a model, or (not ``trained``) chose its best epoch."""
    at = [leak.indices for leak in found if leak.trained == trained]
    return len(np.unique(np.concatenate(at))) if at else 0


def _digests(data: Manifest) -> set[str]:
    """What a record of these faces may call their dataset: itself, or the one that was annotated."""
    return {data.content_digest} | ({data.annotation.data_digest} if data.annotation else set())


def seen_by(model: ModelManifest) -> tuple[TrainedOn, ...]:
    """What a model was trained on; of one that does not say so the split ``train`` of its dataset."""
    if model.trained_on or not model.data_digest:
        return model.trained_on
    return (TrainedOn(data_digest=model.data_digest),)
