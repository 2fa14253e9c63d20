"""What is changed of a rendered person, one thing at a time: a row of ``CHANGES`` each.

A change is one of the person, of the setting that they are seen in, or of the photograph; everything else
stays as it was drawn. ``applies`` says to whom it is one: nobody grows a second beard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from agesearch.data.synthetic.actor import DRAWN, Setting
from agesearch.data.synthetic.light import hard_side_light
from agesearch.data.synthetic.person import Person, face_units
from agesearch.data.synthetic.photo import ByteImage

#: Ages in years whose lines are drawn on a younger face, and from which on lines are taken away.
_LINED_AS, _LINED_FROM = 75.0, 40.0
_DARK, _PALE = 0.85, 0.12


@dataclass(frozen=True)
class Change:
    """One change: what it is ``of`` (appearance, expression, pose, light, camera, person), ``about`` it in
    words, to whom it ``applies``, and what becomes of the person, the setting and the photograph.
    """

    of: str
    about: str
    applies: Callable[[Person], bool] = lambda person: True
    person: Callable[[Person], Person] = lambda person: person
    setting: Setting = DRAWN
    photo: Callable[[ByteImage], ByteImage] = lambda image: image


def plain(person: Person) -> Person:
    """The person as is: a neutral expression, no glasses, no make-up."""
    return replace(person, mood="neutral", expression={}, glasses=False, makeup=0.0)


def _with(**values: Any) -> Callable[[Person], Person]:
    return lambda person: replace(person, **values)


def _with_hair(**values: Any) -> Callable[[Person], Person]:
    return lambda person: replace(person, hair=replace(person.hair, **values))


def _with_mood(mood: str) -> Callable[[Person], Person]:
    return _with(mood=mood, expression=face_units(mood, 0.85))


def _without_lines(person: Person) -> Person:
    return replace(person, signs={**person.signs, "lines": 0.0})


def _of_the_other_sex(person: Person) -> Person:
    hair = replace(person.hair, bald=0.0, beard=0.0)
    return replace(person, male=1.0 - person.male, hair=hair)


def _poor(image: ByteImage) -> ByteImage:
    """A picture of a third of the pixels a side, enlarged again and compressed hard."""
    side = image.shape[0]
    few = cv2.resize(image, (max(1, side // 3), max(1, side // 3)), interpolation=cv2.INTER_AREA)
    large = cv2.resize(few, (side, side), interpolation=cv2.INTER_LINEAR)
    _, coded = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 30])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


CHANGES: dict[str, Change] = {
    "glasses": Change("appearance", "wears glasses", person=_with(glasses=True)),
    "beard": Change(
        "appearance",
        "a man or boy without a beard wears a false one",
        lambda person: person.male >= 0.5 and not person.hair.beard,
        _with_hair(false_beard=0.9),
    ),
    "makeup": Change("appearance", "wears make-up", person=_with(makeup=1.0)),
    "grey_hair": Change(
        "appearance",
        "hair and brows that had hardly greyed are grey",
        lambda person: person.hair.grey < 0.3,
        _with_hair(grey=1.0),
    ),
    "wrinkles_on": Change(
        "appearance",
        f"has the lines of {_LINED_AS:g} years, and looks under 50",
        lambda person: person.looks < 50.0,
        _with(lined_as=_LINED_AS),
    ),
    "wrinkles_off": Change(
        "appearance",
        f"has no lines, and looks {_LINED_FROM:g} or older",
        lambda person: person.looks >= _LINED_FROM,
        _without_lines,
    ),
    "smile": Change("expression", "smiles", person=_with_mood("smile")),
    "laugh": Change("expression", "laughs", person=_with_mood("laugh")),
    "frown": Change("expression", "frowns", person=_with_mood("frown")),
    "turned": Change("pose", "the head turned 35 degrees to its left", setting=Setting(yaw=0.61)),
    "lowered": Change("pose", "the head lowered by 20 degrees", setting=Setting(pitch=0.35)),
    "side_light": Change("light", "one hard lamp from the side", setting=Setting(lighting=hard_side_light())),
    "dim_light": Change("light", "a third of the light", setting=Setting(exposure=0.33)),
    "near_camera": Change("camera", "the camera 40 cm away", setting=Setting(distance=4.0)),
    "poor_camera": Change("camera", "a third of the pixels a side, JPEG quality 30", photo=_poor),
    "other_sex": Change(
        "person", "shape and skin of the other sex; hair as it was, no beard", person=_of_the_other_sex
    ),
    "darker_skin": Change(
        "person",
        f"melanin {_DARK:g}, from under 0.5 (0 palest, 1 darkest)",
        lambda person: person.melanin < 0.5,
        _with(melanin=_DARK),
    ),
    "paler_skin": Change(
        "person",
        f"melanin {_PALE:g}, from 0.5 or more",
        lambda person: person.melanin >= 0.5,
        _with(melanin=_PALE),
    ),
}
