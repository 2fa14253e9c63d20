"""Hair: a shell of strands around the skull, laid on a grid of directions that is bound to the scalp.

A direction has an azimuth (0 straight ahead, positive to the face's left) and an angle from the crown. Where
the shell ends, how thick it is, and whether it falls down at the sides decide the style; age decides
greying, receding and thinning.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from agesearch.data.synthetic.mesh import SKIN, SKULL, Head, vertex_normals
from agesearch.data.synthetic.person import Person, ramp
from agesearch.data.synthetic.raster import FloatArray, IntArray, single
from agesearch.data.synthetic.skin import hair_colour

_COLUMNS, _ROWS = 88, 40
_LAST_ANGLE = 3.3
_NEIGHBOURS, _REACH = 24, 0.13
_STRANDS = (96, 768)

#: Where short hair ends: azimuth -> angle from the crown (forehead, temple, sideburn, above the ear, nape).
_HAIRLINE = (
    (0.0, 0.93),
    (0.35, 0.95),
    (0.58, 1.04),
    (0.8, 1.26),
    (0.95, 1.48),
    (1.08, 1.5),
    (1.2, 1.3),
    (1.7, 1.32),
    (2.0, 1.85),
    (3.1416, 2.15),
)
#: Hair that falls leaves the skull at this angle; decimetres it falls per radian beyond.
_DROP_ANGLE, _FALL = 1.3, 1.15


@dataclass(frozen=True)
class Style:
    """Thickness in decimetres on top, at the sides and added in front; the angle where falling hair ends (0:
    none falls); how far a fringe reaches below the hairline.
    """

    top: float
    side: float
    falls_to: float = 0.0
    fringe: float = 0.0
    front: float = 0.0


STYLES: dict[str, Style] = {
    "fuzz": Style(0.02, 0.02),
    "buzz": Style(0.03, 0.03),
    "short": Style(0.16, 0.09),
    "quiff": Style(0.26, 0.07, front=0.18),
    "tied": Style(0.1, 0.07),
    "medium": Style(0.2, 0.24, falls_to=2.25),
    "long": Style(0.18, 0.24, falls_to=3.2),
    "fringe": Style(0.2, 0.24, falls_to=2.9, fringe=0.3),
}


@dataclass(frozen=True)
class Roots:
    """The grid of directions ``polar`` [G, 2] and how it hangs on the head: neighbours and weights [G, K]."""

    polar: FloatArray
    triangles: IntArray
    neighbours: IntArray
    weights: FloatArray


@dataclass(frozen=True)
class Shell:
    """A person's hair: ``vertices`` and strand ``tangents`` [G, 3]. The rest is what ``cover`` needs: shades
    of ``strands``, ``ends`` by azimuth, the azimuth ``fall_from`` which hair falls, and the ``crown``.
    """

    vertices: FloatArray
    tangents: FloatArray
    style: Style
    is_flat: bool
    strands: FloatArray
    ends: FloatArray
    fall_from: float
    crown: FloatArray


def polar_of(points: FloatArray) -> FloatArray:
    """Azimuth and angle from the crown [N, 2] of points [N, 3] of the base mesh."""
    ray = points - SKULL
    ray = ray / np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), 1e-6)
    result: FloatArray = np.stack(
        [np.arctan2(ray[:, 0], ray[:, 2]), np.arccos(np.clip(ray[:, 1], -1, 1))], axis=1
    ).astype(np.float32)
    return result


def grow_roots(head: Head) -> Roots:
    """Bind the grid to the skin without ears: each node to its nearest vertices by direction."""
    azimuth, angle = np.meshgrid(
        np.linspace(-np.pi, np.pi, _COLUMNS + 1), np.linspace(0.0, _LAST_ANGLE, _ROWS), indexing="xy"
    )
    polar = np.stack([azimuth.ravel(), angle.ravel()], axis=1).astype(np.float32)
    bound = np.minimum(polar[:, 1], 2.3)
    rays = np.stack(
        [np.sin(bound) * np.sin(polar[:, 0]), np.cos(bound), np.sin(bound) * np.cos(polar[:, 0])], axis=1
    )
    skin = np.unique(head.triangles[head.part == SKIN])
    smooth = skin[(head.masks["ears"][skin] < 0.2) & (head.masks["inside-mouth"][skin] < 0.2)]
    away = head.base[smooth] - SKULL
    away = away / np.linalg.norm(away, axis=1, keepdims=True)
    far = 2.0 - 2.0 * np.einsum("gd,vd->gv", rays, away)
    nearest = np.argsort(far, axis=1, kind="stable")[:, :_NEIGHBOURS]
    squared = np.take_along_axis(far, nearest, axis=1)
    weights = np.exp(-(squared - squared[:, :1]) / (2 * _REACH**2))
    weights /= weights.sum(axis=1, keepdims=True)
    return Roots(polar, _grid_triangles(), smooth[nearest], weights.astype(np.float32))


def grow(rng: np.random.Generator, head: Head, roots: Roots, person: Person, shape: FloatArray) -> Shell:
    """The hair of a person on their unposed ``shape`` [V, 3]."""
    style = STYLES[person.hair.style]
    azimuth, angle = roots.polar.T
    normals = vertex_normals(shape, head.triangles)
    skin = np.einsum("gk,gkd->gd", roots.weights, shape[roots.neighbours])
    outward = np.einsum("gk,gkd->gd", roots.weights, normals[roots.neighbours])
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    upper = np.clip((1.25 - angle) / 0.9, 0, 1)
    thick = style.side + (style.top - style.side) * upper * upper * (3 - 2 * upper)
    thick = thick + style.front * np.exp(-((azimuth / 0.7) ** 2) - ((angle - 0.75) / 0.3) ** 2)
    lumps = cv2.resize(rng.standard_normal((5, 9), dtype=np.float32), (_COLUMNS + 1, _ROWS))
    lumps[:, -1] = lumps[:, 0]
    thick = (
        thick * (1 + 0.22 * lumps.ravel()) * rng.uniform(0.75, 1.3) * (0.6 + 0.4 * ramp(person.looks, 1, 10))
    )
    thick = thick * (1 - 0.35 * ramp(person.looks, 55, 90))
    ends = _ends(rng, person, style)
    if not style.fringe and not style.front:  # flat at the hairline, where strands leave the skin
        thick = thick * np.clip((_end_at(ends, azimuth) - angle) / 0.3 + 0.25, 0.2, 1) ** 0.7
    fall_from = float(rng.uniform(0.72, 0.76 if style.fringe else 1.15))
    vertices = skin + outward * thick[:, None]
    if style.falls_to:
        vertices = _let_fall(vertices, azimuth, angle, float(rng.uniform(-0.04, 0.12)))
    grid = vertices.reshape(_ROWS, _COLUMNS + 1, 3)
    tangents = np.gradient(grid, axis=0).reshape(-1, 3)
    tangents /= np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), 1e-6)
    return Shell(
        vertices.astype(np.float32),
        tangents.astype(np.float32),
        style,
        person.hair.style in ("fuzz", "buzz"),
        _strands(rng),
        ends,
        fall_from,
        np.array([rng.normal(0, 0.1), rng.uniform(0.15, 0.4)], np.float32),
    )


def cover(shell: Shell, person: Person, polar: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How much hair covers directions [N, 2] (0..1), and the shade of its strands (0..1), both [N]."""
    angle = polar[:, 1]
    strand = _strand_at(shell.strands, polar)
    end = _end_of(shell, polar)
    soft = 0.05 if shell.style.fringe or shell.style.falls_to else 0.09
    edge = np.clip((end + 0.16 * (strand - 0.5) - angle) / soft + 0.5, 0, 1)
    density = 1.0 - _bald_area(shell, person, polar) - 0.3 * ramp(person.looks, 50, 90)
    if person.hair.style == "fuzz":
        density = density * (0.35 + 0.3 * ramp(person.looks, 0.5, 2.0))
    thin = np.clip((density - 0.75 * strand) / 0.25, 0, 1)
    return (edge * thin).astype(np.float32), strand


def covering_triangles(shell: Shell, roots: Roots) -> IntArray:
    """The triangles [T, 3] of the shell that may be seen: clear ones would hide the hair behind them."""
    inside = roots.polar[:, 1] < _end_of(shell, roots.polar) + 0.03
    return roots.triangles[inside[roots.triangles].any(axis=1)]


def _end_of(shell: Shell, polar: FloatArray) -> FloatArray:
    end = _end_at(shell.ends, polar[:, 0])
    if shell.style.falls_to:
        falling = np.clip((np.abs(polar[:, 0]) - shell.fall_from) / 0.08, 0, 1)
        end = end + falling * np.maximum(shell.style.falls_to - end, 0)
    return end


def _end_at(ends: FloatArray, azimuth: FloatArray) -> FloatArray:
    result: FloatArray = np.interp(azimuth, np.linspace(-np.pi, np.pi, len(ends)), ends).astype(np.float32)
    return result


def strand_colour(person: Person, strand: FloatArray) -> FloatArray:
    """Colour [N, 3] of strands by their shade [N]: the first to grey are the palest strands."""
    share = np.clip(person.hair.grey + 0.9 * (strand[:, None] - 0.5) * min(1.0, 4 * person.hair.grey), 0, 1)
    share = np.maximum(share, 2 * person.hair.grey - 1)
    colour = hair_colour(person, 0.0) * (1 - share) + hair_colour(person, 1.0) * share
    result: FloatArray = (colour * (0.55 + 0.75 * strand[:, None])).astype(np.float32)
    return result


def _bald_area(shell: Shell, person: Person, polar: FloatArray) -> FloatArray:
    """Bare share [N]: a growing spot at the crown, then all but a ring at back and sides."""
    angle = polar[:, 1]
    x, z = angle * np.sin(polar[:, 0]), angle * np.cos(polar[:, 0])
    spot = ramp(person.hair.bald, 0.25, 0.8) * 0.85
    crown = np.clip((spot - np.hypot(x - shell.crown[0], z + shell.crown[1])) / 0.25 + 0.5, 0, 1)
    top = np.clip((ramp(person.hair.bald, 0.5, 1.0) * 1.2 - angle) / 0.2 + 0.3, 0, 1)
    bare = np.maximum(crown * (spot > 0), top * (person.hair.bald > 0.55))
    return single(bare)


def _ends(rng: np.random.Generator, person: Person, style: Style) -> FloatArray:
    """Angle at which hair ends [181] by azimuth -pi..pi, with receding temples and fringe."""
    azimuth = np.linspace(-np.pi, np.pi, 181)
    at, angle = zip(*_HAIRLINE, strict=True)
    end = np.interp(np.abs(azimuth), at, angle) + rng.normal(0, 0.03)
    if person.male < 0.5 or person.looks < 13:  # no sideburns
        end = end - 0.25 * np.exp(-(((np.abs(azimuth) - 1.0) / 0.15) ** 2))
    receding = 0.08 * ramp(person.looks, 20, 60) * person.male + 0.42 * ramp(person.hair.bald, 0.0, 0.7)
    end = end - receding * (0.5 + 0.9 * np.exp(-(((np.abs(azimuth) - 0.48) / 0.22) ** 2))) * (
        np.abs(azimuth) < 0.9
    )
    if style.fringe:
        end = end + style.fringe * np.clip((0.95 - np.abs(azimuth)) / 0.2, 0, 1)
    return single(end)


def _let_fall(vertices: FloatArray, azimuth: FloatArray, angle: FloatArray, flare: float) -> FloatArray:
    """Nodes beyond the drop angle hang straight down from it, a little outwards or inwards."""
    grid = vertices.reshape(_ROWS, _COLUMNS + 1, 3)
    row = int(np.argmin(np.abs(angle.reshape(_ROWS, -1)[:, 0] - _DROP_ANGLE)))
    beyond = np.maximum(angle - angle.reshape(_ROWS, -1)[row, 0], 0.0)
    start = np.broadcast_to(grid[row], grid.shape).reshape(-1, 3)
    away = np.stack([np.sin(azimuth), np.zeros_like(azimuth), np.cos(azimuth)], axis=1)
    hanging = start + away * (flare * beyond)[:, None] + np.array([0, -_FALL, 0]) * beyond[:, None]
    side = np.clip((np.abs(azimuth) - 0.5) / 0.1, 0, 1)[:, None] * (beyond > 0)[:, None]
    return single(vertices * (1 - side) + hanging * side)


def _strands(rng: np.random.Generator) -> FloatArray:
    """Shades 0..1 of strands on (angle, azimuth): streaks along the angle that waver slowly."""
    fine = cv2.resize(rng.random((7, 520), dtype=np.float32), _STRANDS[::-1], interpolation=cv2.INTER_LINEAR)
    wide = cv2.resize(rng.random((4, 70), dtype=np.float32), _STRANDS[::-1], interpolation=cv2.INTER_LINEAR)
    mixed = 0.65 * fine + 0.35 * wide
    low, high = np.quantile(mixed, [0.02, 0.98])
    result: FloatArray = np.clip((mixed - low) / (high - low), 0, 1).astype(np.float32)
    return result


def _strand_at(strands: FloatArray, polar: FloatArray) -> FloatArray:
    column = (polar[:, 0] / (2 * np.pi) + 0.5) * (_STRANDS[1] - 1)
    row = np.clip(polar[:, 1] / _LAST_ANGLE, 0, 1) * (_STRANDS[0] - 1)
    left, up = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    right, down = np.minimum(left + 1, _STRANDS[1] - 1), np.minimum(up + 1, _STRANDS[0] - 1)
    u, v = (column - left).astype(np.float32), (row - up).astype(np.float32)
    upper = strands[up, left] * (1 - u) + strands[up, right] * u
    lower = strands[down, left] * (1 - u) + strands[down, right] * u
    result: FloatArray = upper * (1 - v) + lower * v
    return result


def _grid_triangles() -> IntArray:
    wide = _COLUMNS + 1
    corner = (np.arange(_ROWS - 1)[:, None] * wide + np.arange(_COLUMNS)[None]).ravel()
    lower = np.stack([corner, corner + wide, corner + wide + 1], axis=1)
    upper = np.stack([corner, corner + wide + 1, corner + 1], axis=1)
    return np.concatenate([lower, upper])
