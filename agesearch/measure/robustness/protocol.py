"""What robustness is measured under: the two sets of corruptions, their categories and levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agesearch.errors import InputError, unknown_name
from agesearch.measure.robustness.corruptions import (
    CLEAN,
    CORRUPTIONS,
    SEVERITIES,
    WHOLE_SIDE,
    Image,
    corrupt,
)
from agesearch.measure.robustness.corruptions import check_severity as _check_severity
from agesearch.measure.robustness.lfwc import LFWC, SIDE, corrupt_lfwc

#: The category of corruptions that the published means leave out.
EXTRA = "extra"
#: The side in pixels of the pictures that Hendrycks & Dietterich chose their strengths on.
_PUBLISHED_SIDE = 224


class CorruptionLevel(NamedTuple):
    """One corruption at one severity, of the set of that name; ``clean`` has severity 0."""

    corruption: str
    severity: int
    of: str = "hendrycks"

    def __str__(self) -> str:
        return f"{self.corruption} {self.severity or ''}".strip()


CLEAN_LEVEL = CorruptionLevel(CLEAN, 0)


@dataclass(frozen=True)
class CorruptionSet:
    """Corruptions that were published together; ``corrupt`` takes a face, the corruption, the severity and
    the face's id. Those of the category ``extra`` enter no mean.
    """

    name: str
    about: str
    categories: Mapping[str, tuple[str, ...]]
    corrupt: Callable[[Image, str, int, str], Image]

    @property
    def corruptions(self) -> tuple[str, ...]:
        """All of them, by category."""
        return tuple(name for names in self.categories.values() for name in names)

    def levels(
        self, corruptions: Sequence[str] = (), severities: Sequence[int] = SEVERITIES
    ) -> list[CorruptionLevel]:
        """Clean faces, and every severity of some corruptions (none: of all). An ``InputError`` for a
        corruption or severity that the set lacks.
        """
        for name in corruptions:
            if name not in self.corruptions:
                raise unknown_name(f"corruption of the set '{self.name}'", name, self.corruptions)
        for severity in severities:
            _check_severity(severity)
        if not severities:
            raise InputError("No severity is asked for: name some of 1, 2, 3, 4, 5.")
        chosen = [name for name in self.corruptions if name in corruptions or not corruptions]
        rising = sorted(set(severities))
        return [CLEAN_LEVEL, *(CorruptionLevel(c, s, self.name) for c in chosen for s in rising)]

    def averaged(self, corruptions: Sequence[str]) -> tuple[str, ...]:
        """Which of some corruptions enter the means: all but the extra ones, unless there are no others."""
        common = tuple(name for name in corruptions if name not in self.categories.get(EXTRA, ()))
        return common or tuple(corruptions)

    def notes(self, side: int) -> list[str]:
        """What is to be said of strengths on faces of so many pixels a side."""
        crops = f"The crops of {side} px"
        if self.name == "lfwc":
            way = "enlarged" if side < SIDE else "shrunk"
            return [f"{crops} were {way} to {SIDE} px, which the strengths are for."] * (side != SIDE)
        if side < WHOLE_SIDE:
            way = f"{crops} were enlarged to {WHOLE_SIDE} px to be corrupted, and made small again"
            return [f"{way}: severities mean what they mean at {WHOLE_SIDE} px."]
        if side < _PUBLISHED_SIDE:
            wider = f"blurs are wider on {side} px"
            return [f"Strengths are in pixels and were made for {_PUBLISHED_SIDE} px: {wider}."]
        return []


SETS: Mapping[str, CorruptionSet] = {
    "hendrycks": CorruptionSet(
        "hendrycks",
        "Hendrycks & Dietterich 2019: 15 corruptions, and 4 extra ones that enter no mean",
        {
            "noise": CORRUPTIONS[0:3],
            "blur": CORRUPTIONS[3:7],
            "weather": CORRUPTIONS[7:11],
            "digital": CORRUPTIONS[11:15],
            EXTRA: CORRUPTIONS[15:],
        },
        corrupt,
    ),
    "lfwc": CorruptionSet(
        "lfwc",
        "LFW+C (Greco et al. 2021): 13 corruptions",
        {"blur": tuple(LFWC)[0:4], "noise": tuple(LFWC)[4:6], "digital": tuple(LFWC)[6:]},
        corrupt_lfwc,
    ),
}


def set_named(name: str) -> CorruptionSet:
    """A set of the table; an unknown name is an ``InputError`` that lists the known ones."""
    if name not in SETS:
        raise unknown_name("set of corruptions", name, SETS)
    return SETS[name]


def corrupted(rgb: Image, level: CorruptionLevel, sample_id: str) -> Image:
    """A face under a level, which may leave it alone."""
    if level.corruption == CLEAN:
        return rgb
    return SETS[level.of].corrupt(rgb, level.corruption, level.severity, sample_id)
