"""Skin and hair: older is rougher, darker under the eyes, greyer; children have neither lines nor spots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agesearch.data.synthetic import skin
from agesearch.data.synthetic.hair import strand_colour
from agesearch.data.synthetic.person import Draws, Hair, Person, draw_person

X, Y = np.meshgrid(np.linspace(-0.55, 0.55, 120), np.linspace(-0.6, 0.6, 130))
CANVAS = np.stack([X.ravel(), Y.ravel()], axis=1).astype(np.float32)
NONE = np.zeros(len(CANVAS), np.float32)
CHEEK = (np.abs(CANVAS[:, 0]) > 0.28) & (np.abs(CANVAS[:, 1] + 0.12) < 0.1)


def _person(looks: float, **changes: object) -> Person:
    person = draw_person(np.random.default_rng(11))
    plain = {"male": 0.0, "melanin": 0.25, "makeup": 0.0, "freckles": 0.0, "mood": "neutral"}
    return replace(person, looks=looks, signs=dict.fromkeys(person.signs, 1.0), **(plain | changes))


def _surface(person: Person) -> skin.Surface:
    return skin.surface(
        person, skin.paint(Draws.shared(np.random.default_rng(3)), person), CANVAS, NONE, NONE
    )


def test_skin_gets_rougher_and_more_uneven() -> None:
    surfaces = [_surface(_person(age)) for age in (6, 40, 65, 88)]
    height = [float(face.height[CHEEK].std()) for face in surfaces]
    assert height == sorted(height)
    assert height[-1] > 3 * height[0]
    uneven = [float(face.colour[CHEEK, 1].std() / face.colour[CHEEK, 1].mean()) for face in surfaces]
    assert uneven[0] < uneven[2] < uneven[3]


def test_a_surface_is_a_colour() -> None:
    for person in (_person(3), _person(30, male=1.0), _person(90, melanin=0.95, makeup=1.0)):
        face = _surface(person)
        assert face.colour.dtype == np.float32
        assert np.isfinite(face.colour).all()
        assert face.colour.min() >= 0
        assert face.colour.max() <= 1.2


def test_melanin_darkens() -> None:
    light = [float(skin.skin_colour(_person(30, melanin=share)).mean()) for share in (0.0, 0.3, 0.6, 1.0)]
    assert light == sorted(light, reverse=True)


def test_men_grow_beards_after_puberty() -> None:
    hair = Hair(shade=0.9, red=0.0, grey=0.0, style="short", bald=0.0, beard=1.0)
    chin = (np.abs(CANVAS[:, 0]) < 0.1) & (CANVAS[:, 1] < -0.55)
    dark = {
        (age, male): float(_surface(_person(age, male=male, hair=hair)).colour[chin].mean())
        for age in (10.0, 35.0)
        for male in (0.0, 1.0)
    }
    assert dark[35.0, 1.0] < 0.7 * dark[35.0, 0.0]
    assert dark[10.0, 1.0] == pytest.approx(dark[10.0, 0.0], rel=0.02)


def test_grey_hair_is_pale_whatever_it_was() -> None:
    strands = np.linspace(0, 1, 50, dtype=np.float32)
    before, after = (
        strand_colour(_person(70, hair=Hair(0.95, 0.0, grey, "short", 0.0, 0.0)), strands).mean(axis=0)
        for grey in (0.0, 1.0)
    )
    assert before.max() < 0.05
    assert after.min() > 0.3
    assert after.max() - after.min() < 0.05
