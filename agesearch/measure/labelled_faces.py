"""The faces that models are measured on: a split's labelled faces, or the same subset of them every time."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agesearch.ages import FloatArray
from agesearch.data.dataset.arrays import Pixels, decode_column, numbers
from agesearch.data.dataset.records import SCHEMA, Split, read_manifest
from agesearch.data.dataset.shards import read_rows, row_batches
from agesearch.errors import InputError
from agesearch.measure.accuracy import mae_estimate
from agesearch.measure.intervals import Estimate, Persons
from agesearch.measure.predictions import Labels, read_labels
from agesearch.storage import Location

_COLUMNS = ["sample_id", "subject_id", "source", "age", "image"]


def _place(sample_id: str) -> bytes:
    """Where a face stands in the order that is random, but the same everywhere."""
    return hashlib.sha256(sample_id.encode()).digest()


@dataclass(frozen=True)
class LabelledFaces:
    """N faces with true ages in years: ``crops`` as they are stored, ``subject_id`` None for a face of nobody
    known, everything ``[N]``; all crops have ``size`` px a side.
    """

    sample_id: list[str]
    subject_id: list[str | None]
    source: list[str]
    age: FloatArray
    crops: list[bytes]
    size: int

    def __len__(self) -> int:
        return len(self.sample_id)

    def first(self, count: int) -> LabelledFaces:
        """The first ``count`` faces; the order is a random one, so they are a fair sample."""
        return LabelledFaces(
            self.sample_id[:count],
            self.subject_id[:count],
            self.source[:count],
            self.age[:count],
            self.crops[:count],
            self.size,
        )

    @cached_property
    def images(self) -> Pixels:
        """RGB pixels, uint8 ``[N, size, size, 3]``: ten times what the crops take."""
        return decode_column(pa.chunked_array([pa.array(self.crops, pa.binary())]), self.size)

    @cached_property
    def persons(self) -> Persons:
        """Who each face shows: what intervals resample."""
        return Persons.of(self.sample_id, self.subject_id)


def labelled_faces(dataset: str | Location, split: Split, limit: int) -> LabelledFaces:
    """At most ``limit`` labelled faces of a split, in the order of a hash of their ids.

    That order is random but the same on every machine, and a smaller limit gives a part of a larger one's
    faces. A split without labelled faces gives none.
    """
    folder = Location.of(dataset)
    ids = first_labelled(folder, split, limit)
    place = {sample_id: index for index, sample_id in enumerate(ids)}
    parts = [pa.schema([SCHEMA.field(name) for name in _COLUMNS]).empty_table()]
    for batch in row_batches(folder, split, _COLUMNS):
        wanted = pc.is_in(batch["sample_id"], pa.array(ids, pa.string()))
        parts.append(pa.Table.from_batches([batch.filter(wanted)]))
    table = pa.concat_tables(parts)
    chosen = table.take(np.argsort([place[sample_id] for sample_id in table["sample_id"].to_pylist()]))
    return LabelledFaces(
        sample_id=chosen.column("sample_id").to_pylist(),
        subject_id=chosen.column("subject_id").to_pylist(),
        source=chosen.column("source").to_pylist(),
        age=numbers(chosen.column("age")),
        crops=chosen.column("image").to_pylist(),
        size=read_manifest(folder).crop.size,
    )


def with_an_age(dataset: str | Location, split: Split) -> tuple[Labels, list[str]]:
    """The faces of a split that have an age, of the kind of label that most of them have, and what is to be
    said of the others. An ``InputError`` where none has an age.
    """
    labels = read_labels(dataset, split)
    known = np.isfinite(labels.age)
    if not known.any():
        raise InputError(
            f"None of the {len(labels):,} faces in the split '{split}' of '{dataset}' has an exact age, and "
            "models are compared by their error in years: choose a --split that has ages, or mix some in "
            "('agesearch data mix')."
        )
    kind = Counter(labels.label_kind[known].counts()).most_common(1)[0][0]
    chosen = known & (labels.label_kind == kind)
    if chosen.all():
        return labels, []
    left = len(labels) - int(chosen.sum())
    return labels.take(chosen), [f"{left} of {len(labels)} faces have no age of the label kind '{kind}'."]


def first_labelled(folder: Location, split: Split, limit: int) -> list[str]:
    """The ids of at most ``limit`` labelled faces, in the order of their hashes."""
    first: list[tuple[bytes, str]] = []
    for batch in row_batches(folder, split, ["sample_id", "age"]):
        labelled = batch["sample_id"].filter(pa.array(~np.isnan(numbers(batch["age"]))))
        hashed = [(_place(name), name) for name in labelled.to_pylist()]
        first = sorted([*first, *hashed])[:limit]
    return [sample_id for _, sample_id in first]


def some_crops(
    dataset: str | Location, split: Split, limit: int, *, order: Callable[[str], bytes] = _place
) -> Pixels:
    """At most ``limit`` crops ``uint8 [N, S, S, 3]`` of a split, labelled or not: the first by the ``order``
    of their ids (as a rule that of ``labelled_faces``). Memory does not grow with the split.
    """
    folder = Location.of(dataset)
    kept: list[tuple[bytes, bytes]] = []
    for batch in row_batches(folder, split, ["sample_id", "image"], rows=1024):
        ids, images = (batch.column(name).to_pylist() for name in ("sample_id", "image"))
        found = ((order(name), image) for name, image in zip(ids, images, strict=True))
        kept = heapq.nsmallest(limit, itertools.chain(kept, found), key=lambda pair: pair[0])
    encoded = pa.chunked_array([pa.array([image for _, image in kept], pa.binary())])
    return decode_column(encoded, read_manifest(folder).crop.size)


def median_error(dataset: str | Location, labels: Labels) -> Estimate:
    """The MAE in years, with its interval, of always answering the training faces' median age.

    Of the faces of ``labels`` those with an age count; without any, or without training ages, it is an
    ``InputError``.
    """
    guess = np.full(len(labels), median_age(dataset))
    return mae_estimate(guess, labels.age, labels.persons)


def median_age(dataset: str | Location, split: Split = Split.TRAIN) -> float:
    """The median of the true ages of a split, in years: what the simplest of all models always answers."""
    folder = Location.of(dataset)
    ages = numbers(read_rows(folder, split, ["age"]).column("age"))
    if np.isnan(ages).all():
        raise InputError(f"'{folder}' has no true ages in its split '{split}', so they have no median.")
    return float(np.nanmedian(ages))
