"""Drawing an actor into a picture: skin, eyes, teeth and cloth, then hair and glasses over them.

A picture is linear RGB [S * S, 3], drawn into in place; ``nearest`` [S * S] holds the depth of what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from agesearch.data.synthetic import glasses, hair, light, skin
from agesearch.data.synthetic.actor import Actor, Studio
from agesearch.data.synthetic.camera import rotation, turn
from agesearch.data.synthetic.light import Lighting, Surfels
from agesearch.data.synthetic.mesh import (
    LASH,
    LEFT_EYE,
    RIGHT_EYE,
    SKIN,
    TEETH,
    TONGUE,
    shadow,
    vertex_normals,
)
from agesearch.data.synthetic.person import ramp
from agesearch.data.synthetic.raster import FloatArray, Fragments, IntArray, rasterise, single

BoolArray = npt.NDArray[np.bool_]

_SHADOW_MAP = 224
_TONGUE = (150, 70, 70)
#: Height of the collar in the base mesh, how far it dips in front, and of the upper lid.
_COLLAR, _DIP, _LID = 5.85, 0.35, 7.27
#: Angles in radians from the gaze at which pupil and iris end.
_PUPIL, _IRIS = 0.21, 0.5


@dataclass(frozen=True)
class _Places:
    """Where on the head N pixels lie: see ``Studio.fixed``; ``shape`` [N, 3] is that on the unposed head."""

    pixel: IntArray
    part: IntArray
    canvas: FloatArray
    rest: FloatArray
    shape: FloatArray
    lips: FloatArray
    ears: FloatArray
    mouth: FloatArray

    def where(self, mask: BoolArray) -> _Places:
        return _Places(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


def draw_head(
    picture: FloatArray, studio: Studio, actor: Actor, lighting: Lighting, cloth: FloatArray
) -> tuple[FloatArray, float]:
    """Draw skin, eyes, teeth and cloth; returns ``nearest`` and the mean light on the skin."""
    places, spots, nearest = _look(studio, actor, lighting)
    colour = np.zeros((len(places.part), 3), np.float32)
    is_skin = places.part == SKIN
    colour[is_skin] = _skin(actor, lighting, places.where(is_skin), spots.where(is_skin), cloth)
    for side, part in enumerate((LEFT_EYE, RIGHT_EYE)):
        ball = places.part == part
        centre = actor.shape[studio.anatomy.eyes[side]].mean(axis=0)
        colour[ball] = _eyeball(actor, lighting, places.where(ball), spots.where(ball), centre)
    for part, tone in ((TEETH, skin.teeth_colour(actor.person)), (TONGUE, skin.linear(_TONGUE))):
        inside = places.part == part
        within = spots.where(inside)
        within = replace(within, hidden=within.hidden * 0.5 + 0.4)
        colour[inside] = light.shade_matte(lighting, within, 0.7 * tone)
    colour[places.part == LASH] = 0.02
    picture[places.pixel] = colour
    level = light.shade_matte(lighting, spots.where(is_skin), np.ones(3, np.float32))
    return nearest, float(level.mean())


def draw_hair(
    picture: FloatArray, nearest: FloatArray, studio: Studio, actor: Actor, lighting: Lighting
) -> None:
    """Blend the shell over what lies behind it: first its far side, then its near side."""
    shell = actor.shell
    vertices = actor.posed(shell.vertices)
    triangles = hair.covering_triangles(shell, studio.roots)
    screen, depth = actor.view.project(vertices)
    tangents = turn(shell.tangents, actor.pose, np.zeros(3, np.float32))
    values = np.column_stack([vertex_normals(vertices, triangles), vertices, tangents, studio.roots.polar])
    for is_near in (False, True):
        facing = triangles if is_near else triangles[:, ::-1]
        seen = rasterise(screen, depth, facing, (actor.side, actor.side))
        seen = _chosen(seen, seen.depth < nearest[seen.pixel] + 0.01)
        found = seen.interpolate(facing, values.astype(np.float32))
        covered, strand = hair.cover(shell, actor.person, found[:, 9:])
        normal = _unit(found[:, :3]) * np.float32(1 if is_near else -1)
        none = np.zeros(len(covered), np.float32)
        spots = Surfels(normal, _to_eye(actor, found[:, 3:6]), none if is_near else none + 0.6, none)
        colour = hair.strand_colour(actor.person, strand)
        lit = light.shade_hair(lighting, spots, _unit(found[:, 6:9]), colour)
        share = covered[:, None]
        picture[seen.pixel] = picture[seen.pixel] * (1 - share) + lit * share


def draw_glasses(
    rng: np.random.Generator, picture: FloatArray, nearest: FloatArray, studio: Studio, actor: Actor,
    level: float,
) -> None:  # fmt: skip
    """Draw glasses of a drawn form; ``level`` is the mean light they are seen in."""
    left, right = (actor.shape[eye] for eye in studio.anatomy.eyes)
    lines = [actor.posed(line) for line in glasses.spectacles(rng, (left, right))]
    is_dark = rng.random() < 0.75
    tone = skin.linear(rng.uniform(10, 60, 3) if is_dark else np.full(3, rng.uniform(120, 190)))
    glasses.draw_lines(picture, nearest, actor.view, lines, tone * level, float(rng.uniform(0.015, 0.04)))


def _look(studio: Studio, actor: Actor, lighting: Lighting) -> tuple[_Places, Surfels, FloatArray]:
    """What the camera sees of the head, and how near it is."""
    has_lashes = actor.person.male < 0.5 and actor.person.looks > 12
    shown = (studio.part != LASH) | has_lashes
    triangles = studio.triangles[shown]
    screen, depth = actor.view.project(actor.vertices)
    seen = rasterise(screen, depth, triangles, (actor.side, actor.side))
    values = np.column_stack([studio.fixed, actor.shape, actor.normals, actor.vertices])
    found = seen.interpolate(triangles, values)
    canvas, rest, masks, shape, normal, point = np.split(found, (2, 5, 9, 12, 15), axis=1)
    dark = shadow(actor.vertices, triangles, lighting.lamps[0].ray, point, _SHADOW_MAP)
    hidden, lips, ears, mouth = masks.T
    places = _Places(seen.pixel, studio.part[shown][seen.triangle], canvas, rest, shape, lips, ears, mouth)
    nearest = np.full(actor.side**2, np.inf, np.float32)
    nearest[seen.pixel] = seen.depth
    return places, Surfels(_unit(normal), _to_eye(actor, point), hidden, dark), nearest


def _skin(actor: Actor, lighting: Lighting, places: _Places, spots: Surfels, cloth: FloatArray) -> FloatArray:
    """Skin with its relief, the scalp under the hair, the inside of the mouth, and cloth below the collar."""
    person = actor.person
    face = skin.surface(person, actor.painted, places.canvas, places.lips, places.ears)
    covered, strand = hair.cover(actor.shell, person, hair.polar_of(places.rest))
    covered = covered * (1 - places.ears) * (0.92 if actor.shell.is_flat else 0.75)
    colour = face.colour * (1 - covered[:, None])
    colour = colour + hair.strand_colour(person, strand) * covered[:, None]
    colour = colour * (1 - places.mouth[:, None] * np.array([0.75, 0.85, 0.85], np.float32))
    rough = replace(spots, normal=_unit(spots.normal - _relief(actor, places.pixel, face.height)))
    lit = light.shade_skin(lighting, rough, colour, face.gloss * (1 - covered))
    collar = _COLLAR - _DIP * np.clip(places.rest[:, 2], 0, 1)
    worn = np.clip((collar - places.rest[:, 1]) / 0.03, 0, 1)[:, None]
    return single(lit * (1 - worn) + light.shade_matte(lighting, spots, cloth) * worn)


def _relief(actor: Actor, pixel: IntArray, height: FloatArray) -> FloatArray:
    """Slope [N, 3] of the relief in camera space, from differences between pixels (Mikkelsen 2010)."""
    side = actor.side
    grid = np.zeros(side**2, np.float32)
    valid = np.zeros(side**2, np.uint8)
    grid[pixel], valid[pixel] = height, 1
    image = cv2.GaussianBlur(grid.reshape(side, side), (0, 0), 0.6)
    inner = cv2.erode(valid.reshape(side, side), np.ones((5, 5), np.uint8))
    slope = np.zeros((len(height), 3), np.float32)
    for axis, sign in ((1, 1.0), (0, -1.0)):
        change = np.gradient(image, axis=axis) * inner
        slope[:, 1 - axis] = sign * actor.view.scale * change.ravel()[pixel]
    return np.clip(slope, -1.2, 1.2)


def _eyeball(
    actor: Actor, lighting: Lighting, places: _Places, spots: Surfels, centre: FloatArray
) -> FloatArray:
    """White, iris and pupil by the angle from the direction of gaze, in the frame of the head."""
    person = actor.person
    radial = _unit(places.shape - centre)
    gaze = 0.65 * rotation(actor.pose)[2] + np.array([*person.gaze, 0.35], np.float32)
    gaze = gaze / np.linalg.norm(gaze)
    angle = np.arccos(np.clip(np.einsum("nd,d->n", radial, gaze), -1, 1))
    iris, pupil = (np.clip((end - angle) / 0.05, 0, 1)[:, None] for end in (_IRIS, _PUPIL))
    limbus = np.clip((angle - _IRIS + 0.14) / 0.12, 0, 1)[:, None]
    arcus = 0.5 * ramp(person.looks, 58, 90)  # the pale ring of old eyes
    ring = skin.iris_colour(person) * (1 - 0.65 * limbus) + arcus * limbus * skin.linear((190, 195, 200))
    colour = skin.sclera_colour(person) * (1 - iris) + ring * iris
    colour = colour * (1 - pupil) + 0.006 * pupil
    lid = np.clip((places.rest[:, 1] - _LID) / 0.08, 0, 1)
    round_ = Surfels(
        _unit(spots.normal + radial), spots.eye, 0.35 + 0.4 * lid, np.maximum(spots.shadow, 0.6 * lid)
    )
    wet = light.glint(lighting, spots) * (1 - lid)[:, None]
    return single(light.shade_matte(lighting, round_, colour) + 0.6 * wet)


def _to_eye(actor: Actor, points: FloatArray) -> FloatArray:
    """Unit vectors [N, 3] from points to the camera."""
    return _unit(actor.view.centre + np.array([0, 0, actor.view.distance], np.float32) - points)


def _chosen(seen: Fragments, mask: BoolArray) -> Fragments:
    return Fragments(seen.pixel[mask], seen.triangle[mask], seen.weights[mask], seen.depth[mask])


def _unit(vectors: FloatArray) -> FloatArray:
    return single(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))
