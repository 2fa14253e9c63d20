"""The lines that age draws on a face, as strokes in canvas coordinates (radians, see ``mesh``).

Where and when they come follows the order in which faces age: nasolabial folds from the twenties, forehead
and crow's feet from about thirty, frown lines, bags, marionette lines and neck from about forty, fine lines
of lip and cheek after sixty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from agesearch.data.synthetic.person import Person, ramp
from agesearch.data.synthetic.raster import FloatArray

Point = tuple[float, float]


@dataclass(frozen=True)
class Stroke:
    """A line of canvas ``points`` [N, 2]; ``depth`` 0..1; ``width`` in radians; folds are drawn softer."""

    points: FloatArray
    depth: float
    width: float
    is_fold: bool = False


def wrinkles(rng: np.random.Generator, person: Person) -> list[Stroke]:
    """All lines of a person's face."""
    age = person.looks if person.lined_as is None else person.lined_as
    gain = person.signs["lines"]
    drawn = [
        *_forehead(rng, age, 1.35 if person.mood == "surprise" else 1.0),
        *_frown(rng, age, 1.6 if person.mood == "frown" else 1.0),
        *_neck(rng, age),
    ]
    smiling = 1.3 if person.mood in ("smile", "laugh") else 1.0
    for side in (-1.0, 1.0):
        strokes = [
            *_crows_feet(rng, age, smiling),
            *_folds(rng, age, smiling),
            *_eye_bag(rng, age, person.signs["shadows"]),
            *_lip_lines(rng, age),
            *_cheek_lines(rng, age),
        ]
        mirror = np.array([side, 1.0], np.float32)
        drawn += [Stroke(s.points * mirror, s.depth, s.width, s.is_fold) for s in strokes]
    return [Stroke(s.points, min(s.depth * gain, 1.0), s.width, s.is_fold) for s in drawn if s.depth > 0.02]


def bezier(points: Sequence[Point], steps: int = 14) -> FloatArray:
    """A Bezier curve [steps, 2] of any degree."""
    t = np.linspace(0.0, 1.0, steps)[:, None]
    degree = len(points) - 1
    total = np.zeros((steps, 2))
    for k, point in enumerate(points):
        total += comb(degree, k) * t**k * (1 - t) ** (degree - k) * np.array(point)
    return total.astype(np.float32)


def _forehead(rng: np.random.Generator, age: float, gain: float) -> Iterator[Stroke]:
    number = int(rng.integers(3, 6))
    for index, y in enumerate(np.linspace(0.36, 0.62, number)):
        left, right = rng.uniform(-0.42, -0.22), rng.uniform(0.22, 0.42)
        y = float(y + rng.normal(0, 0.012))
        dip, wave = rng.normal(-0.01, 0.02), rng.normal(0, 0.02)
        points = bezier([(left, y - 0.02), (-0.12, y + 0.03 + dip), (0.12, y + wave), (right, y - 0.02)], 24)
        points[:, 1] += 0.006 * np.sin(points[:, 0] * rng.uniform(15, 30) + rng.uniform(0, 6))
        depth = ramp(age, 27 + 5 * index * rng.random(), 82) * rng.uniform(0.7, 1.0)
        yield Stroke(points, depth * gain, 0.016)


def _frown(rng: np.random.Generator, age: float, gain: float) -> Iterator[Stroke]:
    for x in (-0.035, 0.035):
        x = float(x + rng.normal(0, 0.006))
        lean = rng.normal(0.0, 0.008)
        points = bezier([(x, 0.19), (x * 1.3 + lean, 0.26), (x * 1.1, rng.uniform(0.3, 0.36))])
        yield Stroke(points, ramp(age, 32, 78) * rng.uniform(0.6, 1.0) * gain, 0.016)
    if rng.random() < 0.7:  # across the root of the nose
        yield Stroke(bezier([(-0.06, 0.15), (0.0, 0.165), (0.06, 0.15)]), 0.7 * ramp(age, 45, 85), 0.014)


def _crows_feet(rng: np.random.Generator, age: float, gain: float) -> Iterator[Stroke]:
    for angle in np.linspace(0.65, -0.75, int(rng.integers(4, 7))):
        angle = float(angle + rng.normal(0, 0.08))
        start = rng.uniform(0.03, 0.06)
        length = rng.uniform(0.10, 0.16) + 0.1 * ramp(age, 45, 85)
        reach = start + length
        bend = angle - 0.25
        points = bezier(
            [
                (0.375 + start * np.cos(angle), 0.10 + start * np.sin(angle)),
                (0.375 + 0.6 * reach * np.cos(angle), 0.10 + 0.6 * reach * np.sin(angle)),
                (0.375 + reach * np.cos(bend), 0.10 + reach * np.sin(bend)),
            ]
        )
        yield Stroke(points, ramp(age, 29, 78) * rng.uniform(0.6, 1.0) * gain, 0.014)


def _folds(rng: np.random.Generator, age: float, gain: float) -> Iterator[Stroke]:
    end = rng.normal(0, 0.015)
    fold = bezier([(0.14, -0.13), (0.20, -0.20), (0.255 + end, -0.30), (0.25 + end, -0.43)], 20)
    base = 0.08 * ramp(age, 6, 20)
    yield Stroke(fold, (base + 0.92 * ramp(age, 24, 76)) * gain, 0.03, is_fold=True)
    marionette = bezier([(0.205, -0.42), (0.235, -0.48), (0.24 + end, -0.6)])
    yield Stroke(marionette, 0.9 * ramp(age, 42, 84) * rng.uniform(0.7, 1.0), 0.026, is_fold=True)
    jowl = bezier([(0.27, -0.52), (0.32, -0.6), (0.42, -0.6)])
    yield Stroke(jowl, 0.6 * ramp(age, 52, 88), 0.03, is_fold=True)
    if rng.random() < 0.6:  # a second line outside the fold
        outer = bezier([(0.27, -0.22), (0.33, -0.34), (0.32, -0.5)], 18)
        yield Stroke(outer, 0.75 * ramp(age, 52, 88), 0.018)


def _eye_bag(rng: np.random.Generator, age: float, gain: float) -> Iterator[Stroke]:
    drop = 0.02 * ramp(age, 40, 85) + rng.normal(0, 0.006)
    under = bezier([(0.15, 0.055), (0.20, 0.0 - drop), (0.30, 0.0 - drop), (0.37, 0.06)], 18)
    yield Stroke(under, (0.12 + 0.75 * ramp(age, 30, 80)) * gain * ramp(age, 5, 18), 0.02)
    bag = bezier([(0.15, 0.03), (0.2, -0.07 - drop), (0.32, -0.07 - drop), (0.39, 0.03)], 18)
    yield Stroke(bag, 0.9 * ramp(age, 40, 84) * gain, 0.028, is_fold=True)
    for _ in range(int(rng.integers(2, 5))):  # fine lines of the lower lid
        x, y = rng.uniform(0.17, 0.33), rng.uniform(0.0, 0.04)
        fine = bezier([(x, y), (x + 0.03, y - 0.015), (x + 0.07, y - 0.005)], 8)
        yield Stroke(fine, 0.6 * ramp(age, 45, 85), 0.009)


def _lip_lines(rng: np.random.Generator, age: float) -> Iterator[Stroke]:
    for x in np.arange(0.02, 0.17, 0.03):
        x = float(x + rng.normal(0, 0.006))
        top = -0.25 - 0.12 * x + rng.normal(0, 0.01)
        yield Stroke(bezier([(x, top), (x * 0.97, -0.3 - 0.3 * x)], 6), 0.8 * ramp(age, 55, 88), 0.01)
        low = -0.52 + rng.normal(0, 0.01)
        yield Stroke(bezier([(x, -0.455 + 0.2 * x), (x * 1.05, low)], 6), 0.55 * ramp(age, 62, 90), 0.01)


def _cheek_lines(rng: np.random.Generator, age: float) -> Iterator[Stroke]:
    for _ in range(9):
        x, y = rng.uniform(0.34, 0.62), rng.uniform(-0.48, -0.02)
        length = rng.uniform(0.1, 0.24)
        lean = rng.normal(0.1, 0.25)
        points = bezier([(x, y), (x + 0.05, y - 0.5 * length), (x + lean * length, y - length)], 12)
        yield Stroke(points, 0.65 * ramp(age, 54, 90) * rng.uniform(0.5, 1.0), 0.012)


def _neck(rng: np.random.Generator, age: float) -> Iterator[Stroke]:
    for y in (-0.78, -0.86, -0.95):
        y = float(y + rng.normal(0, 0.02))
        points = bezier([(-0.5, y + 0.1), (-0.2, y - 0.02), (0.2, y - 0.02), (0.5, y + 0.1)], 24)
        yield Stroke(points, ramp(age, 36, 80) * rng.uniform(0.4, 0.9), 0.016)
