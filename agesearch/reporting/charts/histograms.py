"""Stacked histograms of age for the data card, as plain data that its template draws as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agesearch.ages import BINS
from agesearch.reporting.charts.axes import Axis, counted

_WIDTH, _NARROW = 960, 362
_HEIGHT = 240
_LEFT, _RIGHT, _BOTTOM, _TOP = 44, 14, 22, 10

#: Values with a colour of their own; the rest are drawn as one.
_COLOURS = 7
#: From this many faces on a bar is one year wide; below, five, since single years would be noise.
_FACES_FOR_YEARS = 3000


@dataclass(frozen=True)
class Bar:
    """A rectangle in pixels, the class of its colour, and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str


@dataclass(frozen=True)
class Series:
    """One value's row below the histogram: faces of each split and in all, and the mean age in years."""

    name: str
    colour: str
    by_split: tuple[int, ...]
    faces: int
    mean_age: float | None


@dataclass(frozen=True)
class Histogram:
    """A histogram of ages stacked by the values of one field: ``counts`` by value, in bins of ``years``."""

    field: str
    title: str
    counts: Mapping[str, Sequence[int]]
    years: int
    series: tuple[Series, ...]
    ages: Axis
    faces: Axis
    width: int = _WIDTH
    height: int = _HEIGHT

    @property
    def bars(self) -> list[Bar]:
        """The rectangles, those of one bin upon each other."""
        colours = {row.name: row.colour for row in self.series}
        return _bars(self.counts, colours, self.years, self.ages, self.faces)

    def narrow(self) -> Histogram:
        """The same for the width of a phone."""
        return replace(self, ages=self.ages.laid(_LEFT, _NARROW - _RIGHT), width=_NARROW)


def histogram(
    field: str,
    title: str,
    years: Mapping[str, Sequence[int]],
    by_split: Mapping[str, Mapping[str, int]],
    splits: Sequence[str],
) -> Histogram:
    """``years``: counts of the 101 ages by value; ``by_split``: all faces by value and split, in the order to
    draw.
    """
    values = _folded(years, by_split, splits)
    width = 1 if sum(sum(counts) for counts, _ in values.values()) >= _FACES_FOR_YEARS else 5
    binned = {name: _binned(counts, width) for name, (counts, _) in values.items()}
    tallest = max((sum(column) for column in zip(*binned.values(), strict=True)), default=0) or 1
    colours = {
        name: f"split-{name}" if field == "split" else f"c{index}" for index, name in enumerate(values)
    }
    ages = Axis("age", 0, BINS - 1, start=_LEFT, end=_WIDTH - _RIGHT, whole=True, most=10)
    faces = Axis("faces", 0, tallest, start=_HEIGHT - _BOTTOM, end=_TOP, whole=True, most=5, written=counted)
    return Histogram(
        field=field,
        title=title,
        counts=binned,
        years=width,
        series=tuple(
            Series(name, colours[name], tuple(parts), sum(parts), _mean(counts))
            for name, (counts, parts) in values.items()
        ),
        ages=ages,
        faces=faces,
    )


def _folded(
    years: Mapping[str, Sequence[int]], by_split: Mapping[str, Mapping[str, int]], splits: Sequence[str]
) -> dict[str, tuple[list[int], list[int]]]:
    """Value -> (faces by year, faces by split); the values beyond the colours become one."""
    found: dict[str, tuple[list[int], list[int]]] = {}
    for index, (name, parts) in enumerate(by_split.items()):
        folds = len(by_split) > _COLOURS and index >= _COLOURS - 1
        key = f"{len(by_split) - _COLOURS + 1} others" if folds else name
        counts, totals = found.setdefault(key, ([0] * BINS, [0] * len(splits)))
        for year, count in enumerate(years[name]):
            counts[year] += count
        for place, split in enumerate(splits):
            totals[place] += parts.get(split, 0)
    return found


def _binned(counts: Sequence[int], width: int) -> list[int]:
    """Faces of each bin; the last bin takes the age of 100 in."""
    bins = [sum(counts[start : start + width]) for start in range(0, BINS - 1, width)]
    bins[-1] += counts[-1]
    return bins


def _bars(
    binned: Mapping[str, Sequence[int]], colours: Mapping[str, str], width: int, across: Axis, up: Axis
) -> list[Bar]:
    bars = []
    for index in range((BINS - 1) // width):
        below = 0
        first = index * width
        left, right = across.at(first), across.at(first + width)
        ages = str(first) if width == 1 else f"{first}-{first + width - 1}"
        for name, counts in binned.items():
            if not counts[index]:
                continue
            top, base = up.at(below + counts[index]), up.at(below)
            below += counts[index]
            title = f"{name}, {ages} years: {counts[index]:,}"
            bars.append(
                Bar(
                    left,
                    top,
                    round(max(0.5, right - left - 1), 2),
                    round(base - top, 2),
                    colours[name],
                    title,
                )
            )
    return bars


def _mean(counts: Sequence[int]) -> float | None:
    total = sum(counts)
    return sum(year * count for year, count in enumerate(counts)) / total if total else None
