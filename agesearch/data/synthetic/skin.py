"""The surface of a face: colour, relief and gloss of skin, brows, beard, lips and eyes.

Strokes and noise are painted on a canvas (see ``mesh``) and looked up at each pixel; soft regions such as
cheeks or the shadow of a beard are plain functions of the canvas coordinates. Colours are linear RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from agesearch.data.synthetic.person import Draws, Person, ramp
from agesearch.data.synthetic.raster import FloatArray, single
from agesearch.data.synthetic.wrinkles import Stroke, bezier, wrinkles

#: The canvas shows the square of +-EXTENT radians about (0, CENTRE_Y) on SIDE pixels.
EXTENT, CENTRE_Y, SIDE = 1.25, -0.1, 480

#: Skin from the palest to the darkest, sRGB 0..255.
_SKIN = (
    (238, 199, 177),
    (227, 180, 152),
    (212, 160, 126),
    (188, 134, 100),
    (150, 100, 70),
    (108, 70, 49),
    (72, 46, 34),
    (52, 34, 27),
)
_HAIR = ((196, 164, 108), (150, 112, 66), (98, 66, 40), (58, 38, 26), (30, 23, 20), (17, 14, 14))
_RED_HAIR = (150, 74, 36)
_GREY_HAIR = (206, 205, 203)
_IRIS = {
    "brown": (72, 42, 22),
    "hazel": (112, 84, 44),
    "blue": (92, 128, 158),
    "green": (98, 122, 86),
    "grey": (120, 130, 136),
}


#: Upper edge of a beard on the canvas: distance from the middle, height.
_BEARD_EDGE = ((0.0, 0.14, 0.22, 0.35, 0.6, 0.76, 0.9), (-0.5, -0.5, -0.36, -0.42, -0.3, -0.05, 0.05))


@dataclass(frozen=True)
class Painted:
    """Canvas layers [SIDE, SIDE, C] of one face: ``marks`` (lines, folds, brows, spots) and ``noise``
    (coarse, fine), all 0..1 but the noise, which has mean 0 and deviation 1.
    """

    marks: FloatArray
    noise: FloatArray


@dataclass(frozen=True)
class Surface:
    """Skin at N pixels: ``colour`` [N, 3] linear RGB, ``height`` [N] decimetres, ``gloss`` [N]."""

    colour: FloatArray
    height: FloatArray
    gloss: FloatArray


def linear(srgb: object) -> FloatArray:
    """Linear RGB 0..1 from sRGB 0..255."""
    value = np.asarray(srgb, np.float32) / 255.0
    result: FloatArray = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )
    return result


def skin_colour(person: Person) -> FloatArray:
    """The base colour [3] of a person's skin."""
    table = np.array(_SKIN, np.float32)
    at = person.melanin * (len(table) - 1)
    colour = np.array([np.interp(at, range(len(table)), table[:, k]) for k in range(3)])
    paler = 0.05 * ramp(person.looks, 55, 90) * (1 - person.melanin)
    colour = colour * (1 - paler) + np.array([236, 214, 190]) * paler
    return linear(np.clip(colour * (1.0 + np.array(person.tint)), 0, 255))


def hair_colour(person: Person, grey: float) -> FloatArray:
    """The colour [3] of hair that has greyed by the share ``grey``."""
    table = np.array(_HAIR, np.float32)
    at = person.hair.shade * (len(table) - 1)
    colour = np.array([np.interp(at, range(len(table)), table[:, k]) for k in range(3)])
    colour = colour * (1 - person.hair.red) + np.array(_RED_HAIR) * person.hair.red
    return linear(colour) * (1 - grey) + linear(_GREY_HAIR) * grey


def paint(draws: Draws, person: Person) -> Painted:
    """Draw a person's lines, brows, spots and skin noise."""
    fine, folds = _draw_lines(wrinkles(draws.lines, person))
    brows = _draw_brows(draws.brows, person)
    spots = _draw_spots(draws.spots, person)
    coarse = _noise(draws.noise, 24) * 0.7 + _noise(draws.noise, 60) * 0.5
    return Painted(
        np.stack([fine, folds, brows, spots], axis=2),
        np.stack([coarse, _noise(draws.noise, SIDE)], axis=2),
    )


def look_up(layers: FloatArray, canvas: FloatArray) -> FloatArray:
    """Canvas layers at canvas coordinates [N, 2], bilinear: [N, C]."""
    scale = SIDE / (2 * EXTENT)
    x = (canvas[:, 0] + EXTENT) * scale - 0.5
    y = (CENTRE_Y + EXTENT - canvas[:, 1]) * scale - 0.5
    rows = -(-len(canvas) // 512)
    padded = np.zeros((2, rows * 512), np.float32)
    padded[0, : len(canvas)], padded[1, : len(canvas)] = x, y
    sampled = cv2.remap(
        layers, padded[0].reshape(rows, 512), padded[1].reshape(rows, 512), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )  # fmt: skip
    return single(sampled.reshape(rows * 512, -1)[: len(canvas)])


def surface(
    person: Person, painted: Painted, canvas: FloatArray, lips: FloatArray, ears: FloatArray
) -> Surface:
    """Skin with all that lies on it at canvas coordinates [N, 2]; ``lips`` and ``ears`` are masks [N]."""
    age, texture = person.looks, person.signs["texture"]
    marks, noise = look_up(painted.marks, canvas), look_up(painted.noise, canvas)
    fine, folds, brows, spots = marks.T
    x, y = np.abs(canvas[:, 0]), canvas[:, 1]
    colour = np.repeat(skin_colour(person)[None], len(canvas), axis=0)
    colour = _blush(colour, person, x, y, ears)
    colour *= _shades(person, x, y)[:, None]
    mottled = 0.015 + 0.055 * texture * ramp(age, 30, 85)
    grain = 0.012 + 0.045 * texture * ramp(age, 22, 80)
    colour *= (1.0 + mottled * noise[:, :1] * (1.0, 1.25, 1.25) + grain * noise[:, 1:]).astype(np.float32)
    colour *= 1.0 - spots[:, None] * np.array([0.35, 0.5, 0.6], np.float32)
    colour = _beard(colour, person, noise[:, 1], x, y, lips)
    colour = _blend(colour, _lip_colour(person), lips * (0.85 + 0.1 * noise[:, 1]).clip(0, 1))
    crease = np.clip(0.65 * fine + 0.6 * folds, 0, 0.85)[:, None]
    colour *= 1.0 - crease * np.array([0.85, 1.0, 1.05], np.float32)
    colour = _blend(colour, hair_colour(person, _brow_grey(person)) * 0.75, brows)
    rough = 0.0006 + 0.0028 * texture * ramp(age, 20, 85)
    height = -0.015 * fine - 0.034 * folds + rough * noise[:, 1] + 0.006 * brows
    shine = 0.35 + 0.65 * np.exp(-((x / 0.25) ** 2)) * (y > -0.25)
    gloss = shine * (1.0 - 0.45 * ramp(age, 30, 80)) * (1 - 0.8 * brows) + 1.2 * lips
    return Surface(colour.astype(np.float32), height.astype(np.float32), gloss.astype(np.float32))


def iris_colour(person: Person) -> FloatArray:
    """The colour [3] of a person's iris, paler in old age."""
    pale = 0.25 * ramp(person.looks, 60, 90)
    return linear(_IRIS[person.iris]) * (1 - pale) + linear((150, 155, 160)) * pale


def sclera_colour(person: Person) -> FloatArray:
    """The white of the eye [3]: bluish in babies, yellowish and redder in old age."""
    young, old = ramp(person.looks, 14, 1), ramp(person.looks, 40, 88)
    return linear(np.array([226, 221, 216]) + young * np.array([0, 4, 10]) + old * np.array([-14, -26, -40]))


def teeth_colour(person: Person) -> FloatArray:
    """Teeth [3], yellower with age."""
    return linear(np.array([232, 226, 212]) - ramp(person.looks, 25, 85) * np.array([34, 46, 72]))


def _blend(colour: FloatArray, other: FloatArray, share: FloatArray) -> FloatArray:
    return single(colour * (1.0 - share[:, None]) + other * share[:, None])


def _bump(x: FloatArray, y: FloatArray, at: tuple[float, float], wide: float, high: float) -> FloatArray:
    result: FloatArray = np.exp(-(((x - at[0]) / wide) ** 2) - ((y - at[1]) / high) ** 2)
    return result


def _blush(colour: FloatArray, person: Person, x: FloatArray, y: FloatArray, ears: FloatArray) -> FloatArray:
    """Blood under the skin: cheeks and nose, most in small children and in weathered old skin."""
    pale = 1.0 - 0.75 * person.melanin
    strength = pale * (0.25 + 0.55 * ramp(person.looks, 9, 1) + 0.25 * ramp(person.looks, 50, 85))
    cheeks = _bump(x, y, (0.38, -0.14), 0.2, 0.16) + 0.2 * person.makeup * _bump(
        x, y, (0.42, -0.1), 0.18, 0.1
    )
    nose = 0.7 * _bump(x, y, (0.0, -0.13), 0.12, 0.1)
    amount = np.clip(strength * (cheeks + nose + 0.4 * ears), 0, 1)[:, None]
    return single(colour * (1.0 - amount * np.array([0.04, 0.34, 0.3], np.float32)))


def _shades(person: Person, x: FloatArray, y: FloatArray) -> FloatArray:
    """Darkness under the eyes, sunken temples and cheeks, and the shadow on the lids."""
    age, gain = person.looks, person.signs["shadows"]
    rings = (0.06 + 0.26 * ramp(age, 28, 80)) * gain * _bump(x, y, (0.24, 0.015), 0.11, 0.045)
    lids = (0.08 + 0.2 * person.makeup) * _bump(x, y, (0.26, 0.17), 0.13, 0.045)
    hollow = 0.18 * ramp(age, 55, 90) * max(0.0, 1 - person.weight) * _bump(x, y, (0.42, -0.33), 0.1, 0.16)
    temples = 0.12 * ramp(age, 50, 90) * _bump(x, y, (0.56, 0.3), 0.12, 0.16)
    return single(np.clip(1.0 - rings - lids - hollow - temples, 0.3, 1.0))


def _beard(
    colour: FloatArray, person: Person, noise: FloatArray, x: FloatArray, y: FloatArray, lips: FloatArray
) -> FloatArray:
    """Shaved or grown beard of men, or a false one: a stippled area of chin, jaw and upper lip."""
    hair = person.hair
    if person.male < 0.5 and not hair.false_beard:
        return colour
    grown = ramp(person.looks, 14, 26) * (person.male >= 0.5)
    beard, fullness = (hair.false_beard, 1.0) if hair.false_beard else (hair.beard, grown)
    upper = np.interp(x, *_BEARD_EDGE).astype(np.float32) + 0.02 * noise
    jaw = _smooth((upper - y) / 0.1)
    lip = _smooth((0.25 - x) / 0.08) * _smooth((-0.2 - y) / 0.05) * _smooth((y + 0.5) / 0.1)
    throat = _smooth((y + 0.95) / 0.25)
    area = np.maximum(jaw, 0.9 * lip) * throat * (1 - lips)
    shade = grown * (0.08 + 0.1 * hair.shade) + 0.62 * beard * fullness
    strands = np.clip(shade + 0.5 * shade * noise * (0.3 + beard), 0, 0.92)
    return _blend(colour, hair_colour(person, min(1.0, 1.1 * hair.grey)) * 0.8, area * strands)


def _smooth(value: FloatArray) -> FloatArray:
    share = np.clip(value, 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def _lip_colour(person: Person) -> FloatArray:
    """Lips: redder than the skin, paler with age, painted by some."""
    skin = skin_colour(person)
    natural = skin * np.array([0.86, 0.56, 0.56]) * (1 - 0.1 * person.melanin)
    faded = 0.55 * ramp(person.looks, 40, 88)
    natural = natural * (1 - faded) + skin * 0.85 * faded
    painted = linear((166, 52, 62))
    share = 0.6 * person.makeup
    return single(natural * (1 - share) + painted * share)


def _brow_grey(person: Person) -> float:
    return 0.85 * ramp(person.hair.grey, 0.35, 1.0)


def _noise(rng: np.random.Generator, cells: int) -> FloatArray:
    """Smooth noise over the canvas with about ``cells`` blobs a side."""
    grid = rng.standard_normal((cells, cells), dtype=np.float32)
    if cells == SIDE:
        return grid
    return single(cv2.resize(grid, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def _to_pixels(points: FloatArray) -> FloatArray:
    scale = SIDE / (2 * EXTENT)
    return np.stack([(points[:, 0] + EXTENT) * scale, (CENTRE_Y + EXTENT - points[:, 1]) * scale], axis=1)


def _draw_lines(strokes: list[Stroke]) -> tuple[FloatArray, FloatArray]:
    """The fine lines and the folds as depth maps: tapered at both ends, blurred by their kind."""
    layers = [np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)]
    for stroke in sorted(strokes, key=lambda s: s.depth):
        pixels = np.round(_to_pixels(stroke.points) * 16).astype(np.int32)
        taper = np.sin(np.linspace(0.12, 0.88, len(pixels) - 1) * np.pi) ** 0.6
        thick = max(1, round(stroke.width * SIDE / (2 * EXTENT) * (0.5 if stroke.is_fold else 0.4)))
        for k, share in enumerate(taper):
            shade = int(255 * stroke.depth * share)
            cv2.line(
                layers[stroke.is_fold], tuple(pixels[k].tolist()), tuple(pixels[k + 1].tolist()), shade,
                thick, cv2.LINE_AA, 4,
            )  # fmt: skip
    fine, folds = _blurred(layers[0], 0.9), _blurred(layers[1], 2.4)
    return np.clip(fine * 1.5, 0, 1), np.clip(folds * 1.7, 0, 1)


def _draw_brows(rng: np.random.Generator, person: Person) -> FloatArray:
    """Single hairs along an arch; thin in babies, bushy and thinner at the tail in old men."""
    age = person.looks
    layer = np.zeros((SIDE, SIDE), np.uint8)
    fullness = (0.35 + 0.65 * ramp(age, 1, 12)) * (1.0 if person.male > 0.5 else 0.75)
    number = int(125 * fullness * rng.uniform(0.75, 1.2) * (1 - 0.3 * ramp(age, 60, 90)))
    high = rng.uniform(-0.015, 0.02)
    half = (0.016 + 0.014 * person.male) * rng.uniform(0.8, 1.2)
    for side in (-1.0, 1.0):
        arch = bezier([(0.10, 0.2 + high), (0.2, 0.245 + high), (0.3, 0.275 + high), (0.44, 0.19 + high)], 64)
        at = rng.beta(1.1, 1.4, number)
        root = np.stack([np.interp(at, np.linspace(0, 1, 64), arch[:, k]) for k in (0, 1)], axis=1)
        root[:, 1] += rng.normal(0, half * 0.6, number) * (1.15 - at)
        lean = 1.0 - 1.5 * at + rng.normal(0, 0.3, number)
        hair = np.stack([np.cos(lean), np.sin(lean)], axis=1) * rng.uniform(0.025, 0.05, (number, 1))
        ends = np.stack([root, root + hair], axis=1) * (side, 1.0)
        pixels = np.round(_to_pixels(ends.reshape(-1, 2).astype(np.float32)) * 16).astype(np.int32)
        for a, b in pixels.reshape(-1, 2, 2).tolist():
            cv2.line(layer, a, b, 255, 1, cv2.LINE_AA, 4)
    strength = 0.55 + 0.35 * ramp(age, 1, 14)
    return single(np.clip(_blurred(layer, 0.8) * strength, 0, 1))


def _draw_spots(rng: np.random.Generator, person: Person) -> FloatArray:
    """Age spots of old skin, freckles of young pale skin, a mole now and then."""
    layer = np.zeros((SIDE, SIDE), np.uint8)
    old = ramp(person.looks, 42, 85) * person.signs["spots"]
    kinds = (
        (int(rng.poisson(42 * old)), 0.006, 0.026, 0.5 * (1 - 0.5 * person.melanin)),
        (int(rng.poisson(160 * person.freckles * ramp(person.looks, 70, 10))), 0.003, 0.007, 0.4),
        (int(rng.poisson(0.8)), 0.006, 0.01, 0.9),
    )
    for number, small, large, strength in kinds:
        for _ in range(number):
            at = _to_pixels(np.array([[rng.uniform(-0.75, 0.75), rng.uniform(-0.55, 0.95)]], np.float32))[0]
            radius = rng.uniform(small, large) * SIDE / (2 * EXTENT)
            axes = (max(1, int(radius * 16)), max(1, int(radius * rng.uniform(0.6, 1.0) * 16)))
            centre = (int(at[0] * 16), int(at[1] * 16))
            shade = int(255 * strength * rng.uniform(0.5, 1.0))
            cv2.ellipse(layer, centre, axes, rng.uniform(0, 180), 0, 360, shade, -1, cv2.LINE_AA, 4)
    return _blurred(layer, 0.8)


def _blurred(layer: npt.NDArray[np.uint8], sigma: float) -> FloatArray:
    """A painted 8-bit layer as 0..1, softened."""
    return single(cv2.GaussianBlur(layer.astype(np.float32) / 255, (0, 0), sigma))
