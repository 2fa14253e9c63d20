"""One synthetic face from its seed and index: person, pose, light, camera, picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agesearch.data.synthetic import draw, skin
from agesearch.data.synthetic.actor import DRAWN, Setting, Studio, stage
from agesearch.data.synthetic.camera import landmarks
from agesearch.data.synthetic.light import draw_lighting
from agesearch.data.synthetic.person import Draws, Person, draw_person
from agesearch.data.synthetic.photo import ByteImage, develop, draw_background
from agesearch.data.synthetic.raster import FloatArray


@dataclass(frozen=True)
class SyntheticFace:
    """A rendered face: 8-bit RGB ``image`` [S, S, 3], its person, and five ``landmarks`` [5, 2] in pixels."""

    image: ByteImage
    person: Person
    landmarks: FloatArray


def render_face(studio: Studio, seed: int, index: int, size: int) -> SyntheticFace:
    """Face ``index`` of ``seed`` at ``size`` pixels; the same whatever was rendered before it."""
    rng = np.random.default_rng([seed, index])
    return render_person(studio, draw_person(rng), Draws.shared(rng), size)


def render_person(
    studio: Studio, person: Person, draws: Draws, size: int, setting: Setting = DRAWN
) -> SyntheticFace:
    """A given person in a pose, light and picture that are drawn but for the setting; oversampled and
    reduced.
    """
    side = size * (3 if size <= 128 else 2)
    actor = stage(draws, studio, person, side, setting)
    lighting = draw_lighting(draws.light) if setting.lighting is None else setting.lighting
    picture = draw_background(draws.background, side).reshape(-1, 3)
    cloth = _cloth(draws.cloth)
    nearest, level = draw.draw_head(picture, studio, actor, lighting, cloth)
    if not actor.shell.is_flat:
        draw.draw_hair(picture, nearest, studio, actor, lighting)
    if person.glasses:
        draw.draw_glasses(draws.glasses, picture, nearest, studio, actor, level)
    exposure = setting.exposure * float(draws.photo.uniform(0.68, 1.0)) / max(level, 0.05) ** 0.85
    image = develop(draws.photo, picture.reshape(side, side, 3), exposure, size)
    points = landmarks(actor.view, studio.anatomy, actor.vertices) * (size / side)
    return SyntheticFace(image, person, points)


def _cloth(rng: np.random.Generator) -> FloatArray:
    """The colour [3] of what is worn."""
    bright = rng.uniform(10, 235)
    return skin.linear(bright * (1 + rng.normal(0, 0.25, 3)).clip(0.3, 1.6)).clip(0, 1)
