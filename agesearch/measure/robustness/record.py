"""Robustness of any models on a dataset's faces, and its record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from agesearch.data.dataset.records import Manifest, Part, Split, read_manifest
from agesearch.errors import InputError
from agesearch.measure.labelled_faces import first_labelled, with_an_age
from agesearch.measure.leakage import leak_notes
from agesearch.measure.predictions import Labels
from agesearch.measure.robustness.corruptions import SEVERITIES
from agesearch.measure.robustness.protocol import CorruptionSet
from agesearch.measure.robustness.run import tally_errors
from agesearch.measure.robustness.scores import ModelRobustness, RobustnessRow, Scorecard
from agesearch.measure.speed.hardware import hardware_name
from agesearch.models.identity import crop_notes, model_digest, read_model_manifest
from agesearch.models.manifest import library_versions
from agesearch.models.scorers import scorer_of
from agesearch.progress import Listener, silent
from agesearch.provenance import now
from agesearch.session import ray_session
from agesearch.specs import SharedRecord, Spec
from agesearch.storage import Location


class MeasuredModel(Spec):
    """Which model was measured; ``notes`` say what weakens its figures."""

    name: str
    model_digest: str
    arch: str
    input_size: int
    parameters: int
    notes: tuple[str, ...] = ()


class Robustness(SharedRecord):
    """The record of ``measure robustness``.

    ``averaged`` are the corruptions that enter the means; ``rows`` hold the MAE at every level, ``scores``
    what follows from them; ``reference`` is the model that the others' errors are beside.
    """

    set: str
    about: str
    severities: tuple[int, ...]
    averaged: tuple[str, ...]
    dataset: str
    data_digest: str
    label_kind: str
    split: str
    faces: int
    persons: int | None
    side_px: int
    reference: str
    models: tuple[MeasuredModel, ...]
    scores: tuple[ModelRobustness, ...]
    rows: tuple[RobustnessRow, ...]
    notes: tuple[str, ...] = ()
    seconds: float
    hardware: str
    versions: dict[str, str]
    created: str

    @property
    def sentences(self) -> list[str]:
        """What may be said of each model beside the reference."""
        return [words for found in self.scores if (words := found.sentence(self.reference))]


class _Tested(NamedTuple):
    data: Manifest
    labels: Labels
    notes: list[str]


def measure_robustness(
    models: Mapping[str, Location],
    dataset: str | Location,
    of: CorruptionSet,
    *,
    reference: str,
    split: Split = Split.TEST,
    corruptions: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    faces: int | None = None,
    address: str | None = None,
    on_progress: Listener = silent,
) -> Robustness:
    """Measure models (by the name to show, ``reference`` among them) under a set of corruptions, side by side
    on the same corrupted pixels.

    ``corruptions`` narrows the set (none: all of it); at most ``faces`` faces with an age are taken, the same
    ones every time. Raises ``InputError`` for a corruption that the set lacks, a split without ages, and a
    model that cannot be opened, before any face is corrupted. Starts Ray, or joins the one at ``address``.
    """
    began, folder = time.monotonic(), Location.of(dataset)
    levels = of.levels(corruptions, severities)
    if reference not in models:
        raise InputError(f"The reference '{reference}' is not among the models: {', '.join(models)}.")
    tested = _tested(folder, split, faces)
    scorers = {name: scorer_of(place, tested.data.crop) for name, place in models.items()}
    with ray_session(address, on_progress=on_progress):
        tally = tally_errors(
            scorers, folder, tested.labels, levels, part=Part(split), on_progress=on_progress
        )
    card = Scorecard(tally, of, levels, list(models), reference)
    return Robustness(
        set=of.name,
        about=of.about,
        severities=tuple(sorted(set(severities))),
        averaged=of.averaged(card.corruptions),
        dataset=folder.name,
        data_digest=tested.data.content_digest,
        label_kind=str(tested.labels.label_kind[0]),
        split=str(split),
        faces=len(tested.labels),
        persons=tested.labels.persons.count,
        side_px=tested.data.crop.size,
        reference=reference,
        models=tuple(_model(name, place, tested) for name, place in models.items()),
        scores=tuple(card.scores()),
        rows=tuple(card.rows()),
        notes=(*tested.notes, *of.notes(tested.data.crop.size)),
        seconds=round(time.monotonic() - began, 1),
        hardware=hardware_name(),
        versions=library_versions(),
        created=now(),
    )


def _tested(dataset: Location, split: Split, most: int | None) -> _Tested:
    labels, notes = with_an_age(dataset, split)
    if most is not None and most < len(labels):
        drawn = labels.sample_id.places(pa.array(first_labelled(dataset, split, most), pa.string()))
        labels = labels.take(np.isin(labels.sample_id.numbers, drawn))
        if not len(labels):
            raise InputError(f"None of the {most} faces drawn has an age of the kind most have: take more.")
    return _Tested(read_manifest(dataset), labels, notes)


def _model(name: str, place: Location, tested: _Tested) -> MeasuredModel:
    manifest = read_model_manifest(place)
    return MeasuredModel(
        name=name,
        model_digest=model_digest(place),
        arch=manifest.model.arch,
        input_size=manifest.model.input_size,
        parameters=manifest.parameters,
        notes=(
            *leak_notes(manifest, tested.data, tested.labels),
            *crop_notes(place, tested.data.crop, "its error is of that, too", "The model"),
        ),
    )
