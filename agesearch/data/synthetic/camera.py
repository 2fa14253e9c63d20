"""Pose and camera: a shape turned, seen in perspective, and framed like the crop of a detected face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agesearch.data.synthetic.mesh import LEFT_EYE, RIGHT_EYE, Head
from agesearch.data.synthetic.raster import FloatArray, IntArray

#: A detector's box spans this part of the canvas: the face without ears, from the forehead to the chin.
_FACE_HALF_WIDTH, _FACE_LOW, _FACE_HIGH = 0.74, -0.67, 0.64
#: Canvas places of the tip of the nose and of the two corners of the mouth.
_NOSE, _MOUTH = (0.0, -0.12), (0.185, -0.395)


@dataclass(frozen=True)
class Anatomy:
    """Vertices that framing needs: of the face, the two eyes, tip of the nose, corners of the mouth."""

    face: IntArray
    eyes: tuple[IntArray, IntArray]
    nose: int
    mouth: tuple[int, int]
    neck: FloatArray


@dataclass(frozen=True)
class Pose:
    """Turn of the head in radians: ``yaw`` to its left, ``pitch`` down, ``roll``; ``body`` follows by a
    share.
    """

    yaw: float
    pitch: float
    roll: float
    body: float


@dataclass(frozen=True)
class View:
    """A camera at ``distance`` decimetres; ``centre`` [3] is what it looks at; ``scale`` pixels a decimetre
    there; ``turn`` [2, 2] levels the eyes; ``shift`` [2] moves the picture.
    """

    distance: float
    centre: FloatArray
    scale: float
    turn: FloatArray
    shift: FloatArray

    def project(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Pixels [N, 2] (y downwards) and distances [N] of points [N, 3]."""
        local = points - self.centre
        depth = self.distance - local[:, 2]
        flat = (
            local[:, :2] * np.array([1.0, -1.0], np.float32) * (self.distance / depth * self.scale)[:, None]
        )
        screen = flat[:, :1] * self.turn[0] + flat[:, 1:] * self.turn[1] + self.shift
        return screen.astype(np.float32), depth.astype(np.float32)


def find_anatomy(head: Head) -> Anatomy:
    """Find the vertices by their places on the canvas."""
    x, y = head.canvas.T
    ahead = head.base[:, 2] > 0.5
    inside = (np.abs(x) < _FACE_HALF_WIDTH) & (y > _FACE_LOW) & (y < _FACE_HIGH) & ahead
    skin = np.zeros(len(head.base), bool)
    skin[head.triangles[head.part == 0]] = True
    eyes = [np.unique(head.triangles[head.part == part]) for part in (LEFT_EYE, RIGHT_EYE)]
    corners = [_closest(head, skin, (side * _MOUTH[0], _MOUTH[1])) for side in (1, -1)]
    share = np.clip((head.base[:, 1] - 5.3) / 0.9, 0.0, 1.0)
    return Anatomy(
        np.flatnonzero(inside & skin),
        (eyes[0], eyes[1]),
        _closest(head, skin, _NOSE),
        (corners[0], corners[1]),
        (share * share * (3 - 2 * share)).astype(np.float32),
    )


def draw_pose(rng: np.random.Generator) -> Pose:
    """A pose as in portraits: mostly frontal, up to about 35 degrees to a side."""
    yaw = float(np.clip(rng.normal(0.0, 0.18), -0.6, 0.6))
    return Pose(
        yaw, float(rng.normal(0.02, 0.09)), float(rng.normal(0.0, 0.08)), float(rng.uniform(0.1, 0.8))
    )


def rotation(pose: Pose, share: float = 1.0) -> FloatArray:
    """The rotation matrix [3, 3] of a share of the pose."""
    (cy, sy), (cp, sp), (cr, sr) = (
        (np.cos(angle * share), np.sin(angle * share)) for angle in (pose.yaw, pose.pitch, pose.roll)
    )
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turned: FloatArray = (roll @ yaw @ pitch).astype(np.float32)
    return turned


def turn(points: FloatArray, pose: Pose, pivot: FloatArray, neck: FloatArray | None = None) -> FloatArray:
    """Points [N, 3] turned about ``pivot``; where ``neck`` [N] is below 1 the body's share blends in."""
    local = points - pivot
    whole = _apply(local, rotation(pose))
    if neck is None:
        return whole + pivot
    body = _apply(local, rotation(Pose(pose.yaw, 0.0, 0.0, 0.0), pose.body))
    return body + (whole - body) * neck[:, None] + pivot


def _apply(points: FloatArray, matrix: FloatArray) -> FloatArray:
    """Products without BLAS, whose sums could differ with the number of threads."""
    result: FloatArray = (
        points[:, :1] * matrix[:, 0] + points[:, 1:2] * matrix[:, 1] + points[:, 2:] * matrix[:, 2]
    )
    return result


def frame(
    rng: np.random.Generator,
    anatomy: Anatomy,
    vertices: FloatArray,
    side: int,
    crop_scale: float,
    distance: float | None = None,
) -> View:
    """A camera that shows the face as a detector's crop would: eyes level, box times ``crop_scale``,
    jittered. ``distance`` in decimetres takes the place of a drawn one.
    """
    centre = vertices[anatomy.face].mean(axis=0)
    drawn = float(np.exp(rng.uniform(np.log(6.0), np.log(30.0))))
    distance = drawn if distance is None else distance
    view = View(distance, centre, 1.0, np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    marks = landmarks(view, anatomy, vertices)
    gap = marks[1] - marks[0]
    angle = -float(np.arctan2(gap[1], gap[0])) + float(rng.normal(0, 0.035))
    level = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    view = View(distance, centre, 1.0, level, view.shift)
    flat, _ = view.project(vertices[anatomy.face])
    low, high = flat.min(axis=0), flat.max(axis=0)
    extent = float((high - low).max()) * crop_scale * float(np.exp(rng.normal(0, 0.05)))
    scale = side / extent
    middle = (low + high) / 2 + extent * rng.normal(0, 0.022, 2)
    return View(distance, centre, scale, level, (side / 2 - middle * scale).astype(np.float32))


def landmarks(view: View, anatomy: Anatomy, vertices: FloatArray) -> FloatArray:
    """The five points [5, 2] in pixels, as detectors order them: eyes, nose, corners of the mouth, each from
    the picture's left.
    """
    left, right = (vertices[eye].mean(axis=0) for eye in anatomy.eyes)
    corners = vertices[[anatomy.mouth[1], anatomy.mouth[0]]]
    points = np.stack([right, left, vertices[anatomy.nose], *corners])
    return view.project(points)[0]


def _closest(head: Head, among: np.ndarray, place: tuple[float, float]) -> int:
    away = np.hypot(head.canvas[:, 0] - place[0], head.canvas[:, 1] - place[1])
    return int(np.argmin(np.where(among, away, np.inf)))
