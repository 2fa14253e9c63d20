"""Whether a version that is tried beside another may take its place: a fair test, not a comparison of points.

Each measure is a difference, new minus old, with a confidence interval and a limit. Where the whole interval
lies beyond the limit, the new version is worse; where every interval lies within its limit, it is fine; else
more requests are needed. The judge looks when the requests have doubled, and shares its ``RISK`` of a wrong
verdict among all looks (k-th look: 1 / (k (k + 1)) of it) and measures, so that looking often decides
nothing by luck.

Shares are compared by Newcombe's interval (Statistics in Medicine 17:873, 1998, method 10), distributions by
the distance of Kolmogorov and Smirnov with the bound of Dvoretzky, Kiefer, Wolfowitz and Massart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from agesearch.metrics import signed

#: The chance that a version as good as the other is refused, or one beyond a limit is taken.
RISK = 0.05
#: Requests of the first look; each later one has twice as many.
FIRST_LOOK = 25
#: The share of the old version's requests that count as slow.
_SLOW_SHARE = 0.05
#: Answers that a mean or a distribution is taken of, at least.
_FEWEST = 20

Outcome = Literal["fine", "worse", "open"]


@dataclass(frozen=True)
class Histogram:
    """Counts between ``edges`` (ascending): below the first, between two, above the last; and the ``sum`` of
    what was counted, where it is known.
    """

    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    sum: float | None = None

    @property
    def total(self) -> int:
        """All that was counted."""
        return sum(self.counts)

    def minus(self, earlier: Histogram) -> Histogram:
        """What was counted since."""
        if not earlier.counts:
            return self
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        left = None if self.sum is None or earlier.sum is None else self.sum - earlier.sum
        return Histogram(self.edges, counts, left)

    def above(self, index: int) -> int:
        """How many lie above the edge of that index."""
        return sum(self.counts[index + 1 :])

    def edge_of(self, share: float) -> int | None:
        """The index of the lowest edge with at most ``share`` of all above it; None where none has."""
        found = (index for index in range(len(self.edges)) if self.above(index) <= share * self.total)
        return next(found, None)

    def cumulative(self) -> list[float]:
        """The shares at or below each edge."""
        below = [sum(self.counts[: index + 1]) for index in range(len(self.edges))]
        return [count / self.total for count in below]

    def mean_and_variance(self) -> tuple[float, float]:
        """The mean (without the sum: of the middles of the bins; those at the ends are taken for their edge),
        and the variance of the middles, with that of values spread evenly over each bin.
        """
        inner = list(zip(self.edges, self.edges[1:], strict=False))
        bins = [(self.edges[0],) * 2, *inner, (self.edges[-1],) * 2]
        cells = [
            (count, (low + high) / 2, high - low)
            for count, (low, high) in zip(self.counts, bins, strict=True)
        ]
        middle = math.fsum(count * value for count, value, _ in cells) / self.total
        squares = math.fsum(count * ((value - middle) ** 2 + width**2 / 12) for count, value, width in cells)
        mean = middle if self.sum is None else self.sum / self.total
        return mean, squares / self.total


@dataclass(frozen=True)
class Seen:
    """What a version did in a while: requests and how many failed, seconds of each, ages answered; of one
    that is asked besides, the differences of its ages from those that went out, face by face.
    """

    requests: int = 0
    failed: int = 0
    seconds: Histogram = Histogram()
    ages: Histogram = Histogram()
    differences: Histogram = Histogram()


@dataclass(frozen=True)
class Limits:
    """By how much a new version may be worse: shares of requests that fail or are slow (slower than the
    slowest twentieth of the old version's), years of the mean answer, and distance (0..1) of the
    distributions of answers.
    """

    more_failed: float = 0.02
    more_slow: float = 0.05
    mean_years: float = 3.0
    distance: float = 0.2


@dataclass(frozen=True)
class Measure:
    """A difference, new minus old, between ``low`` and ``high``, and the limit of its size; of ``distance``
    and shares only more is bad.
    """

    name: str
    low: float
    high: float
    limit: float
    both_ways: bool = False

    @property
    def outcome(self) -> Outcome:
        """What it says alone."""
        if self.low > self.limit or (self.both_ways and self.high < -self.limit):
            return "worse"
        within = self.high <= self.limit and (not self.both_ways or self.low >= -self.limit)
        return "fine" if within else "open"

    def __str__(self) -> str:
        factor, unit = (1.0, " years") if self.both_ways else (100.0, " points")
        low, high, limit = (factor * value for value in (self.low, self.high, self.limit))
        return f"{self.name} {signed(low, 1)} to {signed(high, 1)}{unit} (limit {limit:g})"


@dataclass(frozen=True)
class Finding:
    """What a look found."""

    outcome: Outcome
    measures: tuple[Measure, ...]

    @property
    def why(self) -> str:
        """The measures that decide, in words."""
        decisive = [measure for measure in self.measures if measure.outcome == self.outcome]
        return "; ".join(str(measure) for measure in decisive)


def look_due(requests: int, looks: int) -> bool:
    """Whether there are requests enough for the look after ``looks`` of them."""
    return requests >= FIRST_LOOK << looks


def judged(old: Seen, new: Seen, look: int, limits: Limits = Limits()) -> Finding:
    """What the ``look``-th look (from 1) says of a new version beside the old one, in the same while."""
    names = 4
    risk = RISK / (look * (look + 1)) / names
    measures = tuple(_measures(old, new, risk, limits))
    outcomes = {measure.outcome for measure in measures}
    if "worse" in outcomes:
        return Finding("worse", measures)
    all_there = len(measures) == names
    return Finding("fine" if all_there and outcomes == {"fine"} else "open", measures)


def _measures(old: Seen, new: Seen, risk: float, limits: Limits) -> Iterator[Measure]:
    z = NormalDist().inv_cdf(1 - risk / 2)
    if new.requests and old.requests:
        shares = ((old.failed, old.requests), (new.failed, new.requests))
        yield Measure("failed requests", *share_difference(*shares, z), limits.more_failed)
    slow = _slow(old.seconds, new.seconds)
    if slow is not None:
        yield Measure("slow requests", *share_difference(*slow, z), limits.more_slow)
    if new.differences.total >= _FEWEST:
        pairs = _mean_within(z, new.differences)
        yield Measure("mean age", *pairs, limits.mean_years, both_ways=True)
    elif not new.differences.edges and min(old.ages.total, new.ages.total) >= _FEWEST:
        yield Measure("mean age", *_mean_within(z, new.ages, old.ages), limits.mean_years, both_ways=True)
    if min(old.ages.total, new.ages.total) >= _FEWEST:
        yield Measure("distribution of ages", *_distance(old.ages, new.ages, risk), limits.distance)


def share_difference(old: tuple[int, int], new: tuple[int, int], z: float) -> tuple[float, float]:
    """The interval of new minus old share, each ``(hits, of)``, by Newcombe's method 10."""
    old_low, old_high = _wilson(*old, z)
    new_low, new_high = _wilson(*new, z)
    old_share, new_share = old[0] / old[1], new[0] / new[1]
    difference = new_share - old_share
    low = difference - math.hypot(new_share - new_low, old_high - old_share)
    high = difference + math.hypot(new_high - new_share, old_share - old_low)
    return low, high


def _wilson(hits: int, of: int, z: float) -> tuple[float, float]:
    share, square = hits / of, z * z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = z / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def _slow(old: Histogram, new: Histogram) -> tuple[tuple[int, int], tuple[int, int]] | None:
    if min(old.total, new.total) < _FEWEST:
        return None
    edge = old.edge_of(_SLOW_SHARE)
    if edge is None:  # the old version is slower than all edges
        edge = len(old.edges) - 1
    return (old.above(edge), old.total), (new.above(edge), new.total)


def _mean_within(z: float, new: Histogram, old: Histogram | None = None) -> tuple[float, float]:
    """The interval of a mean, less another's where there is one."""
    mean, variance = new.mean_and_variance()
    square = variance / new.total
    if old is not None:
        earlier, spread = old.mean_and_variance()
        mean, square = mean - earlier, square + spread / old.total
    half = z * math.sqrt(square)
    return mean - half, mean + half


def _distance(old: Histogram, new: Histogram, risk: float) -> tuple[float, float]:
    pairs = zip(old.cumulative(), new.cumulative(), strict=True)
    found = max((abs(after - before) for before, after in pairs), default=0.0)
    slack = sum(_massart(count, risk / 2) for count in (old.total, new.total))
    return max(0.0, found - slack), min(1.0, found + slack)


def _massart(count: int, risk: float) -> float:
    """The distance between a sample's distribution and the true one that only ``risk`` of samples exceed."""
    return math.sqrt(math.log(2 / risk) / (2 * count))


def words(findings: Sequence[Measure]) -> str:
    """All measures on a line."""
    return "; ".join(str(measure) for measure in findings) or "nothing was measured"
