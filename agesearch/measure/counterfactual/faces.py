"""The rendered faces of a person as is and with each change, from a seed alone.

Every part of a picture draws from a generator of its own, so that the pictures of a person differ in what was
changed and in nothing else. Half of the persons are up to ten years younger than the legal age, the others as
old or older.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from pydantic import Field

from agesearch.data.synthetic.actor import CROP_SCALE, DRAWN, Setting, Studio
from agesearch.data.synthetic.person import MIN_AGE, Draws, Person, draw_person
from agesearch.data.synthetic.photo import ByteImage
from agesearch.data.synthetic.scene import render_person
from agesearch.errors import InputError, unknown_name
from agesearch.measure.counterfactual.changes import CHANGES, plain
from agesearch.measure.decisions.rules import require_ages
from agesearch.specs import CropSpec, Seed, Spec

_YOUNGER, _OLDEST = 10.0, 80.0
#: Told apart from the seeds of datasets, whose faces a model may have learnt from.
_STREAM = 0x636F756E


class CounterfactualSpec(Spec):
    """Who is rendered, what is changed of them, and at which ages answers decide.

    ``persons`` from ``seed``, pictures of ``size`` pixels; ``changes`` by name (none: all). Below
    ``legal_age`` a person must not pass; from ``challenge_age`` on an estimate passes (None: the legal age).
    Of fewer than ``min_persons`` no figure is told.
    """

    persons: int = Field(120, ge=2, le=100_000)
    seed: Seed = 0
    size: int = Field(112, ge=32, le=512)
    changes: tuple[str, ...] = ()
    legal_age: float = 18.0
    challenge_age: float | None = None
    min_persons: int = Field(20, ge=2)

    @property
    def at(self) -> float:
        """The estimate from which on a person passes."""
        return self.legal_age if self.challenge_age is None else self.challenge_age

    @property
    def named(self) -> tuple[str, ...]:
        """The changes asked for, in the order of the table, once each."""
        return tuple(name for name in CHANGES if not self.changes or name in self.changes)

    def crop(self) -> CropSpec:
        """The recipe that a crop of a real face would need to be framed alike."""
        return CropSpec(scale=CROP_SCALE, size=self.size)

    def check(self) -> None:
        """Refuse ages and changes that are none, with an ``InputError``."""
        for name in self.changes:
            if name not in CHANGES:
                raise unknown_name("change", name, CHANGES)
        if not 2.0 <= self.legal_age <= _OLDEST - 1.0:
            raise InputError(
                f"--legal-age is {self.legal_age:g}, but must be 2 to {_OLDEST - 1:g} years: persons are "
                "rendered on both sides of it."
            )
        require_ages(self.legal_age, self.challenge_age)


class RenderedPerson(NamedTuple):
    """The true age and the pictures of a person: as is, then with each change that applies, by its name."""

    age: float
    pictures: dict[str, ByteImage]

    @property
    def digest(self) -> str:
        """Of all pixels, with what they show."""
        found = hashlib.sha256()
        for name, image in self.pictures.items():
            found.update(name.encode() + image.tobytes())
        return found.hexdigest()


#: What the picture of a person without any change is called.
AS_IS = "as_is"


def person_of(spec: CounterfactualSpec, index: int) -> Person:
    """Person ``index`` as is: even ones are below the legal age, odd ones are not."""
    ages = (max(MIN_AGE, spec.legal_age - _YOUNGER), spec.legal_age)
    ages = ages if index % 2 == 0 else (spec.legal_age, _OLDEST)
    return plain(draw_person(np.random.default_rng([_STREAM, spec.seed, index]), *ages))


def rendered(studio: Studio, spec: CounterfactualSpec, index: int) -> RenderedPerson:
    """All pictures of person ``index``, RGB ``uint8 [size, size, 3]``; the same on any machine and whatever
    was rendered before. One thread, since other persons have the other cores.
    """
    person = person_of(spec, index)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return RenderedPerson(person.age, dict(_pictures(studio, spec, index, person)))
    finally:
        cv2.setNumThreads(threads)


def _pictures(
    studio: Studio, spec: CounterfactualSpec, index: int, person: Person
) -> Iterator[tuple[str, ByteImage]]:
    def render(shown: Person, setting: Setting = DRAWN) -> ByteImage:
        draws = Draws.apart([_STREAM, spec.seed, index])
        return render_person(studio, shown, draws, spec.size, setting).image

    as_is = render(person)
    yield AS_IS, as_is
    for name in spec.named:
        change = CHANGES[name]
        if change.applies(person):
            shown = change.person(person)
            same = shown == person and change.setting == DRAWN
            yield name, change.photo(as_is if same else render(shown, change.setting))
