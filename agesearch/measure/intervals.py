"""How sure a mean over faces is: the one place that intervals come from, and that says who is resampled.

The errors on one person's photographs are alike, so photographs are no independent sample: with 29 a person,
an interval that draws faces and promises 95 % held the truth 46 times in 100. Persons are drawn therefore,
each with all their faces (cluster bootstrap, Davison & Hinkley 1997); a face of nobody known is a person of
its own. Intervals are percentile intervals (Efron 1979) at the levels that Student's t asks for where there
are few persons (expanded percentiles, Hesterberg 2015). Draws are seeded, and the order of the faces plays no
part: the same predictions for the same faces give the same interval wherever they are measured.

Of more than 100,000 persons a seeded subsample is resampled, and the spread of its means scaled to all of
them (m out of n bootstrap, Bickel, Goetze & van Zwet 1997); the estimate then says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from agesearch.data.dataset.texts import Texts
from agesearch.errors import InputError

Values = npt.NDArray[np.float64]
Codes = npt.NDArray[np.signedinteger[Any]]
Names = Texts | npt.NDArray[np.object_] | Sequence[str | None]

#: Bootstrap draws are made in blocks of about this many numbers, so that memory does not grow with the faces.
_BLOCK = 4_000_000
#: So many persons are resampled at most: a thousand draws of them take seconds.
MOST_PERSONS = 100_000
_RESAMPLES = 1000


@dataclass(frozen=True)
class Persons:
    """Who each of N faces shows.

    ``codes`` ``[N]`` has one number a person; they are numbered by their names, so that the order of the
    faces does not matter. ``named`` ``[N]`` is False for a face of nobody known, which stands alone.
    """

    codes: Codes
    named: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, sample_id: Names, subject_id: Names) -> Self:
        """From the ids of N faces and the names of their persons (None: unknown)."""
        faces, persons = Texts.of(sample_id), Texts.of(subject_id)
        if len(faces) != len(persons):
            raise InputError(f"{len(faces)} faces need as many persons, but got {len(persons)}.")
        named = persons.numbers >= 0
        # Numbers rise as names do; who is known comes after those who stand alone.
        codes = faces.numbers.astype(np.int32)
        codes[named] = persons.numbers[named].astype(np.int32) + len(faces.names)
        return cls(codes, named)

    @classmethod
    def each(cls, count: int) -> Self:
        """For ``count`` values that are independent of each other, such as one a person."""
        return cls(np.arange(count), np.zeros(count, dtype=bool))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, where: npt.NDArray[Any]) -> Self:
        """The faces at some indices, or where a mask is true."""
        return type(self)(self.codes[where], self.named[where])

    @cached_property
    def count(self) -> int | None:
        """How many persons there are, a face of nobody known counting as one; None where nobody is known."""
        return len(self.faces) if self.named.any() else None

    @cached_property
    def faces(self) -> Codes:
        """How many faces each person has."""
        return np.bincount(self.numbers).astype(np.int64)

    @property
    def drawn(self) -> Literal["faces", "persons"]:
        """What a bootstrap draws: persons where one has several of these faces, else it is the same."""
        return "persons" if (self.faces > 1).any() else "faces"

    def sums(self, values: Values) -> Values:
        """The sum of ``values`` ``[N]`` over each person's faces."""
        if len(values) != len(self):
            raise InputError(f"{len(values)} values of {len(self)} faces: there must be one a face.")
        found: Values = np.bincount(self.numbers, values).astype(np.float64)
        return found

    @cached_property
    def numbers(self) -> npt.NDArray[np.int32]:
        """The persons numbered without gaps."""
        return np.unique(self.codes, return_inverse=True)[1].astype(np.int32)


@dataclass(frozen=True)
class Estimate:
    """A mean over ``faces`` faces with the ends of its 95 % interval.

    ``persons`` is how many persons the interval stands on (a face of nobody known counts as one); None where
    nobody is known and faces were drawn. ``subsample`` is how many of them were resampled (None: all).
    """

    value: float
    low: float
    high: float
    faces: int
    persons: int | None = None
    subsample: int | None = None

    @property
    def basis(self) -> str:
        """What the interval stands on, in words: ``1,160 faces of 40 persons``."""
        return basis(self.faces, self.persons) + self.of_subsample

    @property
    def of_subsample(self) -> str:
        """``; interval on a seeded subsample of 100,000 persons``; nothing where all were resampled."""
        if self.subsample is None:
            return ""
        drawn = "faces" if self.persons is None else "persons"
        return f"; interval on a seeded subsample of {self.subsample:,} {drawn}"

    @property
    def of_persons(self) -> str:
        """`` of 40 persons``, to follow the faces; nothing where nobody is known."""
        return of_persons(self.persons)


def basis(faces: int, persons: int | None) -> str:
    """``1,160 faces of 40 persons``, or ``1,160 faces`` where nobody is known."""
    return f"{faces:,} face{'' if faces == 1 else 's'}{of_persons(persons)}"


def of_persons(persons: int | None) -> str:
    """`` of 40 persons``; nothing where nobody is known."""
    return "" if persons is None else f" of {persons:,} person{'' if persons == 1 else 's'}"


def estimate(values: Values, persons: Persons, level: float = 0.95) -> Estimate:
    """The mean of one value a face ``[N]`` with its interval, for other persons of the same kind.

    For a paired comparison of two models pass the differences of their absolute errors.
    """
    low, high = bootstrap_interval(values, persons, level=level)
    return Estimate(float(values.mean()), low, high, int(values.size), persons.count, subsampled(persons))


def subsampled(persons: Persons) -> int | None:
    """How many persons an interval resamples, where it does not resample all."""
    return MOST_PERSONS if len(persons.faces) > MOST_PERSONS else None


def rate_estimate(values: Values, persons: Persons, level: float = 0.95) -> Estimate:
    """The share of ones among ``values`` ``[N]`` of zeros and ones, with its interval over persons.

    Persons with as many ones of as many faces are alike, so that a draw of all persons is one of a few
    counts: the bootstrap of ``estimate``, at once for any number of persons. Where all values are alike no
    draw differs, and a bootstrap would be sure: of 30 faces without a hit the share may be one in nine. The
    end is then the exact binomial one (Clopper & Pearson 1934) for as many persons.
    """
    share, faces = float(values.mean()), persons.faces
    if values.min() == values.max():
        reach = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / _effective(faces))
        low, high = (0.0, reach) if share < 0.5 else (1.0 - reach, 1.0)
        return Estimate(share, low, high, int(values.size), persons.count)
    base = int(faces.max()) + 1
    kinds, counts = np.unique(faces * base + persons.sums(values).astype(np.int64), return_counts=True)
    generator = np.random.default_rng(0)
    draws = generator.multinomial(len(faces), counts / len(faces), size=_RESAMPLES)
    means = (draws @ (kinds % base)) / (draws @ (kinds // base))
    tail = _expanded_tail(_effective(faces), level)
    low, high = (float(end) for end in np.quantile(means, [tail, 1.0 - tail]))
    return Estimate(share, low, high, int(values.size), persons.count)


def bootstrap_interval(
    values: npt.ArrayLike,
    persons: Persons,
    *,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the mean of ``values`` ``[N]``; one person alone leaves it no width."""
    if not 0.0 < level < 1.0:
        raise InputError(f"The interval level is {level:g}, but must lie between 0 and 1.")
    return interval_of(bootstrap_means(values, persons, resamples=resamples, seed=seed), persons, level)


def interval_of(means: Values, persons: Persons, level: float = 0.95) -> tuple[float, float]:
    """The ends of an interval from a figure over persons drawn with replacement ``[resamples]``."""
    tail = _expanded_tail(_effective(persons.faces), level)
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def bootstrap_means(
    values: npt.ArrayLike, persons: Persons, *, resamples: int = _RESAMPLES, seed: int = 0
) -> Values:
    """Means ``[resamples]`` of ``values`` ``[N]`` over persons drawn with replacement.

    The draws depend on the seed and on the persons alone, so that two lists of values of the same faces are
    resampled alike.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise InputError(f"A bootstrap needs a list of at least one value, but got shape {sample.shape}.")
    generator = np.random.default_rng(seed)
    sums, faces = persons.sums(sample), persons.faces
    if subsampled(persons) is None:
        return np.concatenate(list(_resampled(sums, faces, resamples, generator)))
    chosen = np.sort(generator.choice(len(sums), MOST_PERSONS, replace=False, shuffle=False))
    centre, share = float(sample.mean()), MOST_PERSONS / len(sums)
    sums, faces = sums[chosen], faces[chosen]
    means = np.concatenate(list(_resampled(sums, faces, resamples, generator)))
    found: Values = centre + math.sqrt(share) * (means - sums.sum() / faces.sum())
    return found


def bootstrap_table(sums: Values, faces: Codes, *, resamples: int = 1000, seed: int = 0) -> Values:
    """Means over persons drawn with replacement, ``[resamples, ...]``, of many values a face at once, from
    their sums over each person's faces ``[persons, ...]``; the draws are those of ``bootstrap_means``.
    """
    generator, count = np.random.default_rng(seed), len(faces)
    table = sums.reshape(count, -1)
    rows, parts = max(1, _BLOCK // count), []
    for start in range(0, resamples, rows):
        draws = generator.integers(0, count, size=(min(rows, resamples - start), count))
        weights = np.stack([np.bincount(row, minlength=count) for row in draws]).astype(np.float64)
        parts.append(weights @ table / (weights @ faces)[:, None])
    return np.concatenate(parts).reshape(resamples, *sums.shape[1:])


def _resampled(
    sums: Values, faces: Codes, resamples: int, generator: np.random.Generator
) -> Iterator[Values]:
    rows = max(1, _BLOCK // sums.size)
    same = int(faces[0]) if (faces == faces[0]).all() else None
    for start in range(0, resamples, rows):
        draws = generator.integers(0, sums.size, size=(min(rows, resamples - start), sums.size))
        drawn = faces[draws].sum(axis=1) if same is None else same * sums.size
        yield sums[draws].sum(axis=1) / drawn


def _effective(faces: Codes) -> float:
    """As how many persons with equally many faces these count (Kish 1965)."""
    return float(faces.sum()) ** 2 / float((faces.astype(np.float64) ** 2).sum())


def _expanded_tail(persons: float, level: float) -> float:
    """The share of the resampled means that an interval leaves out on each side.

    Percentiles are too narrow for few persons, by the factor sqrt((n - 1) / n) and by the normal quantile in
    place of Student's t: the level is raised by both (Hesterberg 2015, section 4.3).
    """
    from scipy.special import ndtr, stdtrit

    if persons <= 1.0 + 1e-9:
        return (1.0 - level) / 2.0
    t = float(stdtrit(persons - 1.0, (1.0 + level) / 2.0))
    return float(ndtr(-math.sqrt(persons / (persons - 1.0)) * t))
