"""Light: an ambient sky with a horizon and up to three lamps, and how skin, hair and eyes answer it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agesearch.data.synthetic.raster import FloatArray, single

#: How far light wraps around under skin, per channel: red travels farthest.
_SKIN_WRAP = np.array([0.32, 0.16, 0.1], np.float32)


@dataclass(frozen=True)
class Surfels:
    """What light meets at N pixels: unit ``normal`` and direction to the ``eye`` [N, 3]; the share of the sky
    that is ``hidden`` and the ``shadow`` of the first lamp, [N] in 0..1.
    """

    normal: FloatArray
    eye: FloatArray
    hidden: FloatArray
    shadow: FloatArray

    def where(self, mask: npt.NDArray[np.bool_]) -> Surfels:
        """Those of a mask [N]."""
        return Surfels(self.normal[mask], self.eye[mask], self.hidden[mask], self.shadow[mask])


@dataclass(frozen=True)
class Lamp:
    """Parallel light from the unit vector ``ray`` [3] with linear ``colour`` [3]; the first one casts
    shadows.
    """

    ray: FloatArray
    colour: FloatArray


@dataclass(frozen=True)
class Lighting:
    """Ambient light: ``mean`` [3] plus ``slope`` [3 directions, 3 channels]; and lamps."""

    mean: FloatArray
    slope: FloatArray
    lamps: tuple[Lamp, ...]
    softness: float

    def ambient(self, normals: FloatArray) -> FloatArray:
        """Ambient irradiance [N, 3] for unit normals [N, 3] (spherical harmonics of the first order)."""
        total = self.mean + sum(normals[:, k : k + 1] * self.slope[k] for k in range(3))
        return single(np.maximum(total, 0.02))


def draw_lighting(rng: np.random.Generator) -> Lighting:
    """From an overcast sky to a hard lamp from the side."""
    hard = float(rng.beta(1.4, 2.2))
    sky = _tinted(rng, 0.07)
    ambient = sky * (0.75 - 0.5 * hard)
    slope = np.stack([_tinted(rng, 0.1) * rng.normal(0, 0.14), sky * rng.uniform(0.0, 0.25), sky * 0.1])
    lamps = [Lamp(_ray(rng.normal(0, 0.6), rng.uniform(0.1, 1.0)), _tinted(rng, 0.08) * (0.45 + 0.75 * hard))]
    if rng.random() < 0.6:
        lamps.append(
            Lamp(_ray(rng.normal(0, 1.0), rng.uniform(-0.2, 0.6)), _tinted(rng, 0.1) * rng.uniform(0.05, 0.3))
        )
    if rng.random() < 0.3:
        side = rng.choice([-1.0, 1.0])
        lamps.append(
            Lamp(
                _ray(side * rng.uniform(1.7, 2.5), rng.uniform(0, 0.8)),
                _tinted(rng, 0.15) * rng.uniform(0.2, 0.6),
            )
        )
    return Lighting(
        ambient.astype(np.float32), slope.astype(np.float32), tuple(lamps), float(rng.uniform(0.0, 0.6))
    )


def hard_side_light() -> Lighting:
    """One hard lamp from the person's left in a dark room: half of the face lies in shadow."""
    dim = np.full(3, 0.16, np.float32)
    lamp = Lamp(_ray(1.25, 0.25), np.full(3, 1.2, np.float32))
    return Lighting(dim, np.zeros((3, 3), np.float32), (lamp,), 0.0)


def shade_skin(lighting: Lighting, spots: Surfels, colour: FloatArray, gloss: FloatArray) -> FloatArray:
    """Light [N, 3] that skin of ``colour`` [N, 3] and ``gloss`` [N] sends to the eye."""
    total = lighting.ambient(spots.normal) * (1 - 0.9 * spots.hidden)[:, None]
    shine = np.zeros((len(colour), 3), np.float32)
    for index, lamp in enumerate(lighting.lamps):
        darkness = spots.shadow * (1 - 0.35 * lighting.softness) if index == 0 else 0.7 * spots.hidden
        open_ = (1 - darkness)[:, None]
        facing = _dot(spots.normal, lamp.ray)[:, None]
        wrapped = np.maximum((facing + _SKIN_WRAP) / (1 + _SKIN_WRAP), 0) ** 1.3
        total += lamp.colour * wrapped * (open_ + (1 - open_) * 0.12 * _SKIN_WRAP / 0.32)
        shine += lamp.colour * open_ * _highlight(spots, lamp.ray, 18.0)[:, None] * (facing > 0)
    return single(colour * total + shine * (0.11 * gloss * (1 - spots.hidden))[:, None])


def shade_matte(lighting: Lighting, spots: Surfels, colour: FloatArray) -> FloatArray:
    """Light [N, 3] from cloth, teeth and the white of the eye, of ``colour`` [N, 3] or [3]."""
    total = lighting.ambient(spots.normal) * (1 - 0.9 * spots.hidden)[:, None]
    for index, lamp in enumerate(lighting.lamps):
        open_ = 1 - (spots.shadow if index == 0 else 0.7 * spots.hidden)
        total += lamp.colour * (np.maximum(_dot(spots.normal, lamp.ray), 0) * open_)[:, None]
    return single(colour * total)


def shade_hair(lighting: Lighting, spots: Surfels, tangents: FloatArray, colour: FloatArray) -> FloatArray:
    """Light [N, 3] from strands along unit ``tangents`` (Kajiya and Kay 1989)."""
    total = lighting.ambient(spots.normal)
    shine = np.zeros_like(total)
    for lamp in lighting.lamps:
        along = _dot(tangents, lamp.ray)
        side = np.clip(_dot(spots.normal, lamp.ray) * 0.8 + 0.35, 0, 1)
        total += lamp.colour * (np.sqrt(np.maximum(1 - along**2, 0)) * side)[:, None]
        half = lamp.ray + spots.eye
        half = half / np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
        across = np.sqrt(np.maximum(1 - np.einsum("nd,nd->n", tangents, half) ** 2, 0))
        shine += lamp.colour * (across**60 * side)[:, None]
    return single((colour * total + shine * 0.07) * (1 - spots.hidden)[:, None])


def glint(lighting: Lighting, spots: Surfels) -> FloatArray:
    """Mirror lights [N, 3] on a wet eye."""
    total = np.zeros((len(spots.normal), 3), np.float32)
    for lamp in lighting.lamps:
        total += lamp.colour * (1.6 * _highlight(spots, lamp.ray, 160.0))[:, None]
    return total


def _highlight(spots: Surfels, ray: FloatArray, power: float) -> FloatArray:
    half = ray + spots.eye
    half = half / np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
    return single(np.maximum(np.einsum("nd,nd->n", spots.normal, half), 0) ** power)


def _dot(vectors: FloatArray, ray: FloatArray) -> FloatArray:
    return single(vectors[:, 0] * ray[0] + vectors[:, 1] * ray[1] + vectors[:, 2] * ray[2])


def _ray(azimuth: float, elevation: float) -> FloatArray:
    flat = np.cos(elevation)
    return np.array([np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat], np.float32)


def _tinted(rng: np.random.Generator, spread: float) -> FloatArray:
    """White, warmer or colder."""
    warm = rng.normal(0, spread)
    return np.array([1 + warm, 1 + rng.normal(0, spread * 0.2), 1 - warm], np.float32).clip(0.4, 1.6)
