"""Robustness from absolute errors summed by person: MAE-C, mCE, relative mCE, and who resists better.

The protocol is Hendrycks & Dietterich's (2019) with the mean absolute error E in years in place of the error
rate. For a corruption c with severities s: CE_c = sum_s E_cs(model) / sum_s E_cs(reference), relative CE_c
the same with E_cs - E_clean; mCE and relative mCE are their means over the corruptions, MAE-C is the mean of
E_cs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from agesearch.measure.intervals import Estimate, Persons, Values, bootstrap_table, interval_of
from agesearch.measure.robustness.protocol import CLEAN_LEVEL, CorruptionLevel, CorruptionSet
from agesearch.metrics import signed
from agesearch.specs import Spec

#: Persons whose errors are kept apart; of more a seeded subsample is resampled.
MOST_PERSONS = 10_000
#: A reference that loses fewer years than this under a corruption is no yardstick for what others lose.
LEAST_LOSS_YEARS = 0.05

Resists = Literal["better", "worse", "tie"]


class RobustnessRow(Spec):
    """MAE in years of one model under one corruption, with its 95 % interval over ``persons`` (None: nobody
    is known, and faces were drawn).
    """

    model: str
    corruption: str
    severity: int
    mae_years: float
    mae_low: float
    mae_high: float
    faces: int
    persons: int | None = None

    @classmethod
    def of(cls, model: str, level: CorruptionLevel, error: Estimate) -> RobustnessRow:
        """The row of an estimate."""
        return cls(
            model=model,
            corruption=level.corruption,
            severity=level.severity,
            mae_years=error.value,
            mae_low=error.low,
            mae_high=error.high,
            faces=error.faces,
            persons=error.persons,
        )


class Ratio(Spec):
    """A ratio to the reference with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class CorruptionScores(Spec):
    """A model under one corruption: its MAE over the severities, the MAE at each, and its errors beside the
    reference's (``relative_ce``: beyond the clean error; None where the reference loses nearly nothing).
    """

    corruption: str
    category: str
    mae_years: Estimate
    curve: tuple[float, ...]
    ce: float
    relative_ce: float | None


class AgainstReference(Spec):
    """A model minus the reference on the same faces, in years: under corruption, and in what corruption costs
    (MAE-C minus the clean MAE). ``resists`` is ``better`` or ``worse`` only where the interval of the error
    under corruption leaves out zero.
    """

    mae_c_years: Estimate
    loss_years: Estimate
    resists: Resists


class ModelRobustness(Spec):
    """A model's figures; ``against`` is None for the reference itself."""

    name: str
    clean_mae_years: Estimate
    mae_c_years: Estimate
    mce: Ratio
    relative_mce: Ratio | None
    categories: dict[str, Estimate]
    corruptions: tuple[CorruptionScores, ...]
    against: AgainstReference | None = None

    def sentence(self, reference: str) -> str:
        """What may be said of the model beside the reference; nothing for the reference itself."""
        if self.against is None:
            return ""
        found = self.against.mae_c_years
        width = f"95 %: {signed(found.low)} to {signed(found.high)}"
        if self.against.resists == "tie":
            return (
                f"{self.name} and {reference} cannot be told apart under corruption on {found.basis} "
                f"({signed(found.value)} years, {width})."
            )
        return (
            f"{self.name} resists corruption {self.against.resists} than {reference}: "
            f"{signed(found.value)} years of MAE-C ({width}, {found.basis})."
        )


class Tally:
    """Absolute errors in years, summed by person, level and model: its size goes with the persons, of whom at
    most ``MOST_PERSONS`` are kept apart, and not with the faces.
    """

    def __init__(self, persons: Persons, levels: int, models: int) -> None:
        self.persons = persons
        count = len(persons.faces)
        self.kept = np.arange(count)
        if count > MOST_PERSONS:
            drawn = np.random.default_rng(0).choice(count, MOST_PERSONS, replace=False, shuffle=False)
            self.kept = np.sort(drawn)
        self._row = np.full(count, len(self.kept), dtype=np.int32)
        self._row[self.kept] = np.arange(len(self.kept))
        self._sums = np.zeros((len(self.kept) + 1, levels, models))

    def add(self, faces: npt.NDArray[np.int64], levels: Sequence[int], wrong: Values) -> None:
        """Errors ``[levels, models, n]`` of some faces (by index) in some levels."""
        rows = self._row[self.persons.numbers[faces]]
        for place, errors in zip(levels, wrong, strict=True):
            np.add.at(self._sums[:, place], rows, errors.T)

    @property
    def mean(self) -> Values:
        """MAE in years, ``[levels, models]``."""
        found: Values = self._sums.sum(axis=0) / len(self.persons)
        return found

    @cached_property
    def resampled(self) -> Values:
        """The same over persons drawn with replacement, ``[resamples, levels, models]``."""
        faces = self.persons.faces[self.kept]
        means = bootstrap_table(self._sums[:-1], faces)
        if self.subsample is None:
            return means
        centre = self._sums[:-1].sum(axis=0) / faces.sum()
        share = math.sqrt(len(self.kept) / len(self.persons.faces))
        scaled: Values = self.mean + share * (means - centre)
        return scaled

    @property
    def subsample(self) -> int | None:
        """How many persons are resampled, where it is not all."""
        return len(self.kept) if len(self.kept) < len(self.persons.faces) else None

    def estimate(self, value: float, resampled: Values) -> Estimate:
        """A figure with its interval from what it is over persons drawn anew ``[resamples]``."""
        low, high = interval_of(resampled, self.persons)
        return Estimate(value, low, high, len(self.persons), self.persons.count, self.subsample)


@dataclass(frozen=True)
class Scorecard:
    """Turns a tally into figures; ``levels`` and ``models`` name its axes, ``reference`` is one of these."""

    tally: Tally
    of: CorruptionSet
    levels: Sequence[CorruptionLevel]
    models: Sequence[str]
    reference: str

    @property
    def corruptions(self) -> list[str]:
        """The corruptions that were measured."""
        return list(dict.fromkeys(level.corruption for level in self.levels if level != CLEAN_LEVEL))

    def scores(self) -> list[ModelRobustness]:
        """Every model's figures."""
        return [self._model(name) for name in self.models]

    def rows(self) -> list[RobustnessRow]:
        """A row for each model and level."""
        return [
            RobustnessRow.of(model, level, self._estimate([place], number))
            for place, level in enumerate(self.levels)
            for number, model in enumerate(self.models)
        ]

    def _model(self, name: str) -> ModelRobustness:
        number = self.models.index(name)
        averaged = self.of.averaged(self.corruptions)
        mae_c = self._mean_over(averaged, number)
        ratios = [self._ratio(corruption, number) for corruption in averaged]
        losses = [found for c in averaged if (found := self._ratio(c, number, relative=True)) is not None]
        return ModelRobustness(
            name=name,
            clean_mae_years=self._estimate([0], number),
            mae_c_years=mae_c,
            mce=self._mean_ratio([ratio for ratio in ratios if ratio is not None]),
            relative_mce=self._mean_ratio(losses) if losses else None,
            categories={
                category: self._mean_over(measured, number)
                for category, names in self.of.categories.items()
                if (measured := tuple(c for c in names if c in self.corruptions))
            },
            corruptions=tuple(self._corruption(corruption, number) for corruption in self.corruptions),
            against=None if name == self.reference else self._against(averaged, number),
        )

    def _corruption(self, corruption: str, number: int) -> CorruptionScores:
        ratio, relative = (self._ratio(corruption, number, relative=way) for way in (False, True))
        assert ratio is not None
        return CorruptionScores(
            corruption=corruption,
            category=next(key for key, names in self.of.categories.items() if corruption in names),
            mae_years=self._estimate(self._places(corruption), number),
            curve=tuple(float(self.tally.mean[place, number]) for place in self._places(corruption)),
            ce=ratio[0],
            relative_ce=None if relative is None else relative[0],
        )

    def _against(self, averaged: Sequence[str], number: int) -> AgainstReference:
        other = self.models.index(self.reference)
        means, drawn = self._both(averaged)
        clean, clean_drawn = self.tally.mean[0], self.tally.resampled[:, 0]
        value, resampled = means[number] - means[other], drawn[:, number] - drawn[:, other]
        corrupted = self.tally.estimate(float(value), resampled)
        loss = self.tally.estimate(
            float(value - (clean[number] - clean[other])),
            resampled - (clean_drawn[:, number] - clean_drawn[:, other]),
        )
        told = "better" if corrupted.high < 0.0 else "worse" if corrupted.low > 0.0 else "tie"
        return AgainstReference(mae_c_years=corrupted, loss_years=loss, resists=told)

    def _places(self, corruption: str) -> list[int]:
        return [place for place, level in enumerate(self.levels) if level.corruption == corruption]

    def _both(self, corruptions: Sequence[str]) -> tuple[Values, Values]:
        """The MAE over some corruptions, each the mean of its severities: ``[models]``, and resampled."""
        places = [self._places(corruption) for corruption in corruptions]
        return (
            np.mean([self.tally.mean[p].mean(axis=0) for p in places], axis=0),
            np.mean([self.tally.resampled[:, p].mean(axis=1) for p in places], axis=0),
        )

    def _mean_over(self, corruptions: Sequence[str], number: int) -> Estimate:
        means, drawn = self._both(corruptions)
        return self.tally.estimate(float(means[number]), drawn[:, number])

    def _estimate(self, places: Sequence[int], number: int) -> Estimate:
        value = float(self.tally.mean[places, number].mean())
        return self.tally.estimate(value, self.tally.resampled[:, places, number].mean(axis=1))

    def _ratio(self, corruption: str, number: int, *, relative: bool = False) -> tuple[float, Values] | None:
        """CE of a model (or relative CE), and resampled; None where the reference loses nearly nothing."""
        other = self.models.index(self.reference)
        means, drawn = self._both([corruption])
        if relative:
            means, drawn = means - self.tally.mean[0], drawn - self.tally.resampled[:, 0]
            if means[other] < LEAST_LOSS_YEARS:
                return None
            drawn = np.where(np.arange(len(self.models)) == other, np.maximum(drawn, LEAST_LOSS_YEARS), drawn)
        return float(means[number] / means[other]), drawn[:, number] / drawn[:, other]

    def _mean_ratio(self, ratios: Sequence[tuple[float, Values]]) -> Ratio:
        low, high = interval_of(np.mean([drawn for _, drawn in ratios], axis=0), self.tally.persons)
        return Ratio(value=float(np.mean([value for value, _ in ratios])), low=low, high=high)
