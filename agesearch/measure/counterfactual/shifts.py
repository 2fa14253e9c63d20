"""From answers to shifts with paired intervals, and to who passes an age only with a change.

A person has one answer as is and one with each change that applies to them; intervals are over persons, of
the difference between their two answers, so that what persons differ in plays no part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from agesearch.measure.counterfactual.records import Shift
from agesearch.measure.decisions.rates import Counting, Rate
from agesearch.measure.decisions.rules import Mask, passes, told
from agesearch.measure.intervals import Persons, Values


def largest_move(answers: npt.NDArray[np.float32]) -> float:
    """Of answers ``[1 + changes, N]`` in years, as is first (NaN: a change does not apply): the mean absolute
    shift of the change that moves them most.
    """
    moved = np.abs(answers[1:] - answers[0])
    applies = np.isfinite(moved)
    means = [float(row[there].mean()) for row, there in zip(moved, applies, strict=True) if there.any()]
    return max(means, default=0.0)


@dataclass(frozen=True)
class Answered:
    """What a model says of N rendered persons: true ages ``[N]``, and answers in years ``[1 + changes, N]``,
    as is first; NaN where a change does not apply. ``changes`` are their names.
    """

    age: Values
    answers: Values
    changes: Sequence[str]
    legal_age: float
    challenge_age: float
    counting: Counting

    @cached_property
    def minors(self) -> Mask:
        """Who is below the legal age ``[N]``."""
        return self.age < self.legal_age

    @cached_property
    def as_is(self) -> Values:
        """The answers without a change, as they are told."""
        return told(self.answers[0])

    @property
    def bias(self) -> Rate:
        """The mean signed error of the persons as they are, in years."""
        return self._mean(self.as_is - self.age, self._all)

    @property
    def mae(self) -> Rate:
        """The mean absolute error of the persons as they are, in years."""
        return self._mean(np.abs(self.as_is - self.age), self._all)

    @property
    def minors_pass(self) -> Rate:
        """The share of minors who pass as they are."""
        return self._share(passes(self.as_is, self.challenge_age), self.minors)

    def shifts(self) -> Iterator[Shift]:
        """One for each change, in their order."""
        before = passes(self.as_is, self.challenge_age)
        for name, raw in zip(self.changes, self.answers[1:], strict=True):
            given = np.isfinite(raw)
            changed = told(np.where(given, raw, 0.0))
            moved, after = changed - self.as_is, passes(changed, self.challenge_age)
            yield Shift(
                change=name,
                shift_years=self._mean(moved, given),
                minors_shift_years=self._mean(moved, given & self.minors),
                moved_years=self._mean(np.abs(moved), given),
                conversion=self._share(after & ~before, given & self.minors),
                refusal=self._share(before & ~after, given & ~self.minors),
            )

    @property
    def _all(self) -> Mask:
        return np.ones(len(self.age), dtype=bool)

    @cached_property
    def _persons(self) -> Persons:
        return Persons.each(len(self.age))

    def _mean(self, values: Values, of: Mask) -> Rate:
        return self.counting.mean(values, of, self._persons)

    def _share(self, hits: npt.NDArray[np.bool_], of: Mask) -> Rate:
        return self.counting.share(hits, of, self._persons)
