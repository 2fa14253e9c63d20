"""One synthetic face from its seed and index: person, pose, light, camera, picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agesearch.data.synthetic import draw, skin
from agesearch.data.synthetic.actor import Studio, stage
from agesearch.data.synthetic.camera import landmarks
from agesearch.data.synthetic.light import draw_lighting
from agesearch.data.synthetic.person import Person, draw_person
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
    return render_person(studio, draw_person(rng), rng, size)


def render_person(studio: Studio, person: Person, rng: np.random.Generator, size: int) -> SyntheticFace:
    """A given person in a drawn pose, light and picture, oversampled and reduced."""
    side = size * (3 if size <= 128 else 2)
    actor = stage(rng, studio, person, side)
    lighting = draw_lighting(rng)
    picture = draw_background(rng, side).reshape(-1, 3)
    cloth = skin.linear(rng.uniform(10, 235) * (1 + rng.normal(0, 0.25, 3)).clip(0.3, 1.6)).clip(0, 1)
    nearest, level = draw.draw_head(picture, studio, actor, lighting, cloth)
    if not actor.shell.is_flat:
        draw.draw_hair(picture, nearest, studio, actor, lighting)
    if person.glasses:
        draw.draw_glasses(rng, picture, nearest, studio, actor, level)
    exposure = float(rng.uniform(0.68, 1.0)) / max(level, 0.05) ** 0.85
    image = develop(rng, picture.reshape(side, side, 3), exposure, size)
    points = landmarks(actor.view, studio.anatomy, actor.vertices) * (size / side)
    return SyntheticFace(image, person, points)
