"""The teachers whose answers are stored: what they are called, what they answer, and how they travel.

A teacher is named by what it computes; its weights are read only where there is something to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from agesearch.ages import FloatArray
from agesearch.data.dataset.records import read_manifest
from agesearch.models.identity import crop_notes, folder_notes, model_digest, read_model_manifest
from agesearch.models.prepare import Images
from agesearch.models.scorers import Scorer, scorer_of
from agesearch.specs import CropSpec
from agesearch.storage import Location

Answer = Callable[[Images | Sequence[Images]], FloatArray]


class Teacher(Protocol):
    """A frozen model whose answers are stored; it travels to Ray's workers, so it can be pickled."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def digest(self) -> str:
        """16 hex digits that name what it computes."""
        ...

    @property
    def column(self) -> str:
        """The column of its answers."""
        ...

    @property
    def stage(self) -> str:
        """What its progress is called."""
        ...

    def ready(self) -> Teacher:
        """The same, with its weights read: asked for only where there is something to compute."""
        ...

    def open(self, threads: int) -> Answer:
        """What answers crops of any size with ``float32 [N, W]``; the teacher must be ready."""
        ...


@dataclass(frozen=True)
class AgeTeacher:
    """A teacher of ages, for faces cropped by ``crop``: its answers are PMFs [101]."""

    name: str
    digest: str
    where: Location
    crop: CropSpec
    scorer: Scorer | None = field(default=None, repr=False)
    column: str = "pmf"
    stage: str = "teacher targets"

    def ready(self) -> AgeTeacher:
        """The same with its network; an ``InputError`` where it cannot take such crops."""
        return replace(self, scorer=scorer_of(self.where, self.crop))

    def open(self, threads: int) -> Answer:
        """The teacher's PMFs."""
        assert self.scorer is not None
        return self.scorer.open(threads).pmf


@dataclass(frozen=True)
class OrderTeacher:
    """A teacher of order: its answers are its pooled features [F] (Zhao 2020)."""

    name: str
    digest: str
    where: Location
    input_size: int
    net: Any = field(default=None, repr=False)
    column: str = "features"
    stage: str = "order features"

    def ready(self) -> OrderTeacher:
        """The same with its network."""
        from agesearch.models.order_net import load_order

        return replace(self, net=load_order(self.where))

    def open(self, threads: int) -> Answer:
        """The teacher's features; torch's own number of threads counts."""
        from agesearch.distill.sorting import answers

        return lambda images: answers(self.net, list(images), self.input_size)[1]


def age_teacher(where: str | Location, dataset: str | Location) -> AgeTeacher:
    """A model folder, a foreign teacher or an ensemble, for the crops of a dataset."""
    name = read_model_manifest(where).model.arch
    return AgeTeacher(name, model_digest(where), Location.of(where), read_manifest(dataset).crop)


def crop_notes_of(
    dataset: str | Location, teacher: str | Location | None = None, order: str | Location | None = None
) -> list[str]:
    """Where a dataset's faces are not cropped as those that its teachers learned from, a sentence each."""
    faces, consequence = read_manifest(dataset).crop, "its answers may be poor"
    notes = [] if teacher is None else crop_notes(teacher, faces, consequence)
    if order is not None:
        from agesearch.models.order_net import read_order_manifest

        theirs = read_order_manifest(order).crop
        notes += folder_notes(theirs, faces, consequence, "The order teacher")
    return notes


def order_teacher(where: str | Location) -> OrderTeacher:
    """The folder of an order teacher."""
    from agesearch.models.order_net import order_digest, read_order_manifest

    model = read_order_manifest(where).model
    return OrderTeacher(model.arch, order_digest(where), Location.of(where), model.input_size)
