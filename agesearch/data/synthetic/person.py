"""Who is on a synthetic picture: every trait of one face, drawn from one random generator.

The true age is exact. How old a person *looks* deviates from it, as in life: ``looks`` is the age that shape
and skin are made with, with a standard deviation of 0.3 years plus 4 % of the age, and every single sign
of age (lines, greying, spots ...) has a gain of its own. No model can know the age better than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from agesearch.data.synthetic.mesh import RACES

MIN_AGE, MAX_AGE = 1.0, 90.0

#: Local targets that vary with identity: stem, the ends of its two directions, and its standard deviation.
_PAIRS: tuple[tuple[str, str, str, float], ...] = (
    ("head-scale-horiz", "decr", "incr", 0.3),
    ("head-scale-depth", "decr", "incr", 0.3),
    ("nose-base", "down", "up", 0.3),
    ("nose-curve", "concave", "convex", 0.35),
    ("nose-flaring", "decr", "incr", 0.3),
    ("nose-greek", "decr", "incr", 0.25),
    ("nose-hump", "decr", "incr", 0.3),
    ("nose-point", "down", "up", 0.3),
    ("nose-point-width", "decr", "incr", 0.35),
    ("nose-scale-depth", "decr", "incr", 0.3),
    ("nose-scale-horiz", "decr", "incr", 0.3),
    ("nose-scale-vert", "decr", "incr", 0.3),
    ("nose-volume", "decr", "incr", 0.25),
    ("nose-width1", "decr", "incr", 0.3),
    ("nose-width2", "decr", "incr", 0.3),
    ("mouth-scale-horiz", "decr", "incr", 0.35),
    ("mouth-lowerlip-volume", "decr", "incr", 0.35),
    ("mouth-upperlip-volume", "decr", "incr", 0.35),
    ("mouth-lowerlip-height", "decr", "incr", 0.3),
    ("mouth-upperlip-height", "decr", "incr", 0.3),
    ("mouth-cupidsbow", "decr", "incr", 0.35),
    ("mouth-angles", "down", "up", 0.25),
    ("mouth-trans", "down", "up", 0.2),
    ("chin-bones", "decr", "incr", 0.3),
    ("chin-height", "decr", "incr", 0.3),
    ("chin-prominent", "decr", "incr", 0.3),
    ("chin-width", "decr", "incr", 0.35),
    ("chin-prognathism", "decr", "incr", 0.2),
    ("forehead-nubian", "decr", "incr", 0.25),
    ("forehead-scale-vert", "decr", "incr", 0.3),
    ("forehead-temple", "decr", "incr", 0.25),
    ("eyebrows-angle", "down", "up", 0.3),
    ("eyebrows-trans", "down", "up", 0.3),
    ("neck-scale-horiz", "decr", "incr", 0.25),
    ("*-eye-scale", "decr", "incr", 0.25),
    ("*-eye-trans", "in", "out", 0.25),
    ("*-eye-corner1", "down", "up", 0.3),
    ("*-eye-corner2", "down", "up", 0.35),
    ("*-eye-height2", "decr", "incr", 0.3),
    ("*-eye-eyefold-angle", "down", "up", 0.3),
    ("*-cheek-bones", "decr", "incr", 0.3),
    ("*-cheek-inner", "decr", "incr", 0.25),
    ("*-cheek-volume", "decr", "incr", 0.3),
    ("*-ear-scale", "decr", "incr", 0.3),
    ("*-ear-wing", "decr", "incr", 0.35),
    ("*-ear-lobe", "decr", "incr", 0.3),
)

_HEAD_SHAPES = (
    "head-oval",
    "head-round",
    "head-rectangular",
    "head-square",
    "head-triangular",
    "head-invertedtriangular",
    "head-diamond",
)

#: What age does to the shape on top of MakeHuman's old head: target, first year, year of full weight, weight.
_SAGGING: tuple[tuple[str, float, float, float], ...] = (
    ("*-eye-bag-incr", 35.0, 85.0, 0.55),
    ("*-eye-eyefold-down", 40.0, 90.0, 0.45),
    ("*-cheek-trans-down", 45.0, 90.0, 0.35),
    ("*-ear-scale-incr", 40.0, 90.0, 0.3),
    ("nose-scale-vert-incr", 40.0, 90.0, 0.2),
    ("nose-point-down", 45.0, 90.0, 0.25),
    ("mouth-upperlip-volume-decr", 40.0, 90.0, 0.5),
    ("mouth-angles-down", 45.0, 90.0, 0.25),
    ("neck-double-incr", 45.0, 85.0, 0.3),
)

#: Expressions: name, its share, and the face units it mixes (``*`` stands for both sides) with full weights.
_EXPRESSIONS: tuple[tuple[str, float, Mapping[str, float]], ...] = (
    ("neutral", 0.42, {}),
    ("smile", 0.22, {"mouthSmile*": 0.8, "cheekSquint*": 0.4, "eyeSquint*": 0.25}),
    (
        "laugh",
        0.12,
        {"mouthSmile*": 0.9, "jawOpen": 0.22, "mouthUpperUp*": 0.4, "cheekSquint*": 0.6, "eyeSquint*": 0.4},
    ),
    ("surprise", 0.06, {"browInnerUp": 0.7, "browOuterUp*": 0.7, "eyeWide*": 0.6, "jawOpen": 0.2}),
    ("frown", 0.07, {"browDown*": 0.8, "mouthFrown*": 0.4, "eyeSquint*": 0.3}),
    ("speech", 0.06, {"jawOpen": 0.25, "mouthFunnel": 0.25}),
    ("sad", 0.05, {"mouthFrown*": 0.6, "browInnerUp": 0.5}),
)


@dataclass(frozen=True)
class Draws:
    """The generators that the parts of one picture are drawn from, once its person is known.

    In a dataset they are one and the same. Where a picture is drawn again with something changed each part
    has its own: what one of them draws then does not depend on what the others drew.
    """

    pose: np.random.Generator
    camera: np.random.Generator
    lines: np.random.Generator
    brows: np.random.Generator
    spots: np.random.Generator
    noise: np.random.Generator
    hair: np.random.Generator
    light: np.random.Generator
    background: np.random.Generator
    cloth: np.random.Generator
    glasses: np.random.Generator
    photo: np.random.Generator

    @classmethod
    def shared(cls, rng: np.random.Generator) -> Draws:
        """All parts draw from one generator, in the order of the drawing."""
        return cls(*(rng for _ in fields(cls)))

    @classmethod
    def apart(cls, seed: Sequence[int]) -> Draws:
        """Each part draws from a generator of its own."""
        return cls(*(np.random.default_rng([*seed, number]) for number, _ in enumerate(fields(cls), start=1)))


@dataclass(frozen=True)
class Hair:
    """``shade`` 0 (blond) .. 1 (black) and ``red`` before greying; ``grey`` the share of grey; ``style`` a
    name of ``hair.STYLES``; ``bald`` how far baldness has gone; ``beard`` its fullness, ``false_beard`` that
    of a beard that is worn whatever the age and sex (0: none).
    """

    shade: float
    red: float
    grey: float
    style: str
    bald: float
    beard: float
    false_beard: float = 0.0


@dataclass(frozen=True)
class Person:
    """One face. Shares and strengths are 0..1 unless said otherwise, angles radians, ages years.

    ``identity`` and ``expression`` are weights of targets; ``signs`` gains of the signs of age (about 1);
    ``melanin`` 0 (palest) .. 1 (darkest); ``gaze`` is relative to straight ahead; ``lined_as`` the age whose
    lines and folds are drawn (None: ``looks``).
    """

    age: float
    looks: float
    male: float
    races: Mapping[str, float]
    weight: float
    identity: Mapping[str, float]
    expression: Mapping[str, float]
    mood: str
    signs: Mapping[str, float]
    melanin: float
    tint: tuple[float, float, float]
    hair: Hair
    iris: str
    glasses: bool
    freckles: float
    makeup: float
    gaze: tuple[float, float]
    lined_as: float | None = None

    @property
    def sex(self) -> str:
        """``male`` or ``female``."""
        return "male" if self.male >= 0.5 else "female"

    @property
    def phenotype(self) -> str:
        """The label of the phenotype mix: one name, or the two largest joined by ``+``."""
        order = sorted(RACES, key=lambda race: -self.races[race])
        return order[0] if self.races[order[0]] >= 0.75 else f"{order[0]}+{order[1]}"

    def targets(self) -> dict[str, float]:
        """Identity, sagging and expression as weights of single targets, both sides spelt out."""
        merged: dict[str, float] = {}
        gain = self.signs["sagging"]
        sagging = {name: full * gain * ramp(self.looks, a, b) for name, a, b, full in _SAGGING}
        for group in (self.identity, sagging, self.expression):
            for name, value in group.items():
                for target in _both_sides(name):
                    merged[target] = merged.get(target, 0.0) + value
        return merged


def ramp(age: float, start: float, full: float) -> float:
    """0 before ``start``, 1 after ``full`` years, smooth in between."""
    share = min(max((age - start) / (full - start), 0.0), 1.0)
    return share * share * (3.0 - 2.0 * share)


def used_targets() -> set[str]:
    """The names of all local targets and face units that a person may use."""
    names = [f"{stem}-{end}" for stem, low, high, _ in _PAIRS for end in (low, high)]
    names += [*_HEAD_SHAPES, *(row[0] for row in _SAGGING), "*-eye-epicanthus-in"]
    names += [unit for _, _, units in _EXPRESSIONS for unit in units]
    return {target for name in names for target in _both_sides(name)}


def draw_person(rng: np.random.Generator, youngest: float = MIN_AGE, oldest: float = MAX_AGE) -> Person:
    """A person whose age is uniform between two ages, which lie in 1..90 years."""
    age = float(rng.uniform(youngest, oldest))
    spread = 0.3 + 0.04 * age
    looks = float(np.clip(age + spread * np.clip(rng.standard_normal(), -2.2, 2.2), 0.5, 97.0))
    male = float(rng.random() < 0.5)
    races = _draw_races(rng)
    growth = ramp(looks, 8.0, 18.0)
    signs = {
        name: float(np.exp(0.16 * rng.standard_normal()))
        for name in ("sagging", "lines", "texture", "spots", "shadows")
    }
    melanin = _draw_melanin(rng, races)
    mood, expression = _draw_expression(rng)
    return Person(
        age=age,
        looks=looks,
        male=male,
        races=races,
        weight=float(np.clip(rng.normal(0.0, 0.4), -0.9, 1.0)),
        identity=_draw_identity(rng, races, scale=0.55 + 0.45 * growth),
        signs=signs,
        melanin=melanin,
        tint=(float(rng.normal(0, 0.025)), float(rng.normal(0, 0.012)), float(rng.normal(0, 0.02))),
        freckles=float(rng.random() ** 4 * (melanin < 0.3)),
        makeup=float(rng.random() * (male < 0.5) * ramp(looks, 14, 20) * (rng.random() < 0.5)),
        gaze=(float(rng.normal(0, 0.08)), float(rng.normal(0, 0.05))),
        glasses=bool(rng.random() < 0.1 * ramp(looks, 3, 18)),
        iris=_draw_iris(rng, melanin),
        mood=mood,
        expression=expression,
        hair=_draw_hair(rng, looks, male, races, melanin),
    )


def face_units(mood: str, strength: float) -> dict[str, float]:
    """The weights of the face units of an expression at a strength 0..1."""
    units = next(units for name, _, units in _EXPRESSIONS if name == mood)
    return {name: full * strength for name, full in units.items()}


def _draw_races(rng: np.random.Generator) -> dict[str, float]:
    """Mostly one phenotype, sometimes a mix."""
    main = int(rng.integers(len(RACES)))
    shares = rng.dirichlet([0.4] * len(RACES)) if rng.random() < 0.3 else np.eye(len(RACES))[main]
    return {race: float(share) for race, share in zip(RACES, shares, strict=True)}


def _draw_melanin(rng: np.random.Generator, races: Mapping[str, float]) -> float:
    centre = 0.2 * races["caucasian"] + 0.34 * races["asian"] + 0.74 * races["african"]
    return float(np.clip(rng.normal(centre, 0.09), 0.03, 0.97))


def _draw_identity(rng: np.random.Generator, races: Mapping[str, float], scale: float) -> dict[str, float]:
    weights: dict[str, float] = {}
    for stem, low, high, deviation in _PAIRS:
        value = float(np.clip(rng.normal(0.0, deviation * scale), -0.9, 0.9))
        weights[f"{stem}-{high if value > 0 else low}"] = abs(value)
    shape = _HEAD_SHAPES[int(rng.integers(len(_HEAD_SHAPES)))]
    weights[shape] = float(rng.uniform(0.0, 0.6) * scale)
    weights["*-eye-epicanthus-in"] = float(rng.uniform(0.2, 0.7) * races["asian"])
    return weights


def _draw_expression(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    shares = np.array([share for _, share, _ in _EXPRESSIONS])
    mood, _, _ = _EXPRESSIONS[int(rng.choice(len(_EXPRESSIONS), p=shares / shares.sum()))]
    strength = float(rng.uniform(0.35, 0.9))
    return mood, face_units(mood, strength)


def _draw_iris(rng: np.random.Generator, melanin: float) -> str:
    pale = max(0.0, 1.0 - melanin / 0.38)
    names = ("brown", "hazel", "blue", "green", "grey")
    shares = np.array([1.0 - 0.65 * pale, 0.2 * pale, 0.25 * pale, 0.1 * pale, 0.1 * pale])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def _draw_hair(
    rng: np.random.Generator, looks: float, male: float, races: Mapping[str, float], melanin: float
) -> Hair:
    pale = max(0.0, 1.0 - melanin / 0.5) * races["caucasian"]
    shade = float(np.clip(rng.normal(0.93 - 0.6 * pale, 0.04 + 0.3 * pale), 0.05, 1.0))
    onset = float(np.clip(rng.normal(48.0 if male else 50.0, 6.0), 32.0, 68.0))
    bald_gene = float(rng.random())
    bald = ramp(looks, 24.0 + 30 * bald_gene, 60.0 + 45 * bald_gene) * male * (bald_gene < 0.75)
    style = _draw_style(rng, looks, male)
    if bald > 0.35 and style in ("quiff", "medium"):
        style = "short"
    is_bearded = male and looks > 19 and rng.random() < 0.3
    return Hair(
        shade=shade * (0.75 + 0.25 * ramp(looks, 2, 14)),
        red=float((rng.random() < 0.12 * pale) * rng.uniform(0.5, 1.0)),
        grey=ramp(looks, onset - 10.0, onset + 28.0),
        style=style,
        bald=float(bald),
        beard=float(rng.uniform(0.3, 1.0)) if is_bearded else 0.0,
    )


def _draw_style(rng: np.random.Generator, looks: float, male: float) -> str:
    if looks < 2.2:
        return "fuzz" if rng.random() < 0.7 else "short"
    if male:
        table = {"buzz": 0.22, "short": 0.45, "quiff": 0.23, "medium": 0.1}
    elif looks < 60:
        table = {"short": 0.12, "tied": 0.2, "medium": 0.24, "long": 0.27, "fringe": 0.17}
    else:
        table = {"short": 0.36, "tied": 0.2, "medium": 0.26, "long": 0.08, "fringe": 0.1}
    return list(table)[int(rng.choice(len(table), p=np.array(list(table.values()))))]


def _both_sides(name: str) -> list[str]:
    if name.startswith("*-"):
        return [f"l{name[1:]}", f"r{name[1:]}"]
    if name.endswith("*"):
        return [f"{name[:-1]}Left", f"{name[:-1]}Right"]
    return [name]
