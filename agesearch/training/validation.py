"""What the best epoch is chosen by: the error in years where ages are known, else the right groups."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agesearch import metrics
from agesearch.ages import AGES, BINS, group_cells
from agesearch.errors import InputError
from agesearch.measure.accuracy import cs, mae
from agesearch.measure.intervals import Persons, estimate
from agesearch.specs import ModelSpec

Groups = Sequence[tuple[float, float]]
Values = npt.NDArray[np.float32]


class Target(Protocol):
    """The validation faces that can be judged (``rows``), their ``true`` values, how answers are judged."""

    #: The metric that the best epoch has the best value of.
    best_by: str
    rows: npt.NDArray[np.intp]
    true: Values

    def answer(self, pmf: Tensor) -> Tensor:
        """PMFs ``[B, 101]`` -> what is compared with the true value ``[B]``."""
        ...

    def of_each(self, answers: Values, true: Values) -> Values:
        """What the mean of is ``best_by``, of each face."""
        ...

    def scores(self, answers: Values, true: Values) -> dict[str, float]:
        """The metrics of all answers."""
        ...


class AgeTarget:
    """Exact ages in years: MAE and CS@5 of the expected age."""

    best_by = metrics.VAL_MAE_YEARS

    def __init__(self, age: Values) -> None:
        self.rows = np.flatnonzero(np.isfinite(age))
        self.true = age[self.rows]

    def answer(self, pmf: Tensor) -> Tensor:
        """The expected ages in years ``[B]``."""
        return pmf @ torch.from_numpy(AGES).to(pmf.device)

    def of_each(self, answers: Values, true: Values) -> Values:
        """Absolute errors in years."""
        errors: Values = np.abs(answers - true)
        return errors

    def scores(self, answers: Values, true: Values) -> dict[str, float]:
        """MAE in years and CS@5."""
        return {metrics.VAL_MAE_YEARS: mae(answers, true), metrics.VAL_CS5: cs(answers, true)}


class GroupTarget:
    """Age groups: the share of faces whose group has the most mass, its ages up to half way to the next."""

    best_by = metrics.VAL_TOP1

    def __init__(self, low: Values, high: Values, groups: Groups) -> None:
        self.rows = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
        cells = group_cells(groups)
        self.true = cells[_bins((low + high)[self.rows] / 2)].astype(np.float32)
        self._one_hot = torch.zeros(BINS, len(groups))
        self._one_hot[torch.arange(BINS), torch.from_numpy(cells)] = 1.0

    def answer(self, pmf: Tensor) -> Tensor:
        """The index of the group with the most mass ``[B]``."""
        return (pmf @ self._one_hot.to(pmf.device)).argmax(dim=-1).float()

    def of_each(self, answers: Values, true: Values) -> Values:
        """1 for a right group, 0 for a wrong one."""
        right: Values = (answers == true).astype(np.float32)
        return right

    def scores(self, answers: Values, true: Values) -> dict[str, float]:
        """The share of right groups."""
        return {metrics.VAL_TOP1: float((answers == true).mean())}


def limited(target: Target, sample_id: npt.NDArray[Any], count: int) -> Target:
    """The target with at most ``count`` of its faces: those whose names have the smallest hashes. So they are
    the same ones in every training, and some of those that a larger count gives.
    """
    if count < len(target.rows):
        hashes = [hashlib.sha256(str(sample_id[row]).encode()).digest() for row in target.rows]
        kept = np.sort(np.array(sorted(range(len(hashes)), key=hashes.__getitem__)[:count]))
        target.rows, target.true = target.rows[kept], target.true[kept]
    return target


def interval(target: Target, answers: Values, true: Values, persons: Persons) -> dict[str, float]:
    """The ends of the 95 % interval of ``best_by``, for other persons of the same kind."""
    found = estimate(target.of_each(answers, true).astype(np.float64), persons)
    return dict(zip(metrics.interval_of(target.best_by), (found.low, found.high), strict=True))


def validation_target(columns: Mapping[str, npt.NDArray[Any]], model: ModelSpec) -> Target:
    """What the validation faces of ``columns`` can be judged by: ages where any face has one, else groups.

    The groups are the network's where every label lies in one of its cells (Adience's, unless the spec says
    others), else those of the labels. Raises ``InputError`` where no face has a label, or groups overlap.
    """
    age, low, high = (columns[name].astype(np.float32) for name in ("age", "age_low", "age_high"))
    if np.isfinite(age).any():
        return AgeTarget(age)
    labels = sorted(
        {pair for pair in zip(low.tolist(), high.tolist(), strict=True) if np.isfinite(pair).all()}
    )
    if not labels:
        raise InputError(
            "No validation face has an age or an age group: the dataset needs some to choose the best epoch."
        )
    cells = group_cells(model.groups)
    if all(cells[_bins(first)] == cells[_bins(last)] for first, last in labels):
        return GroupTarget(low, high, model.groups)
    for (_, last), (first, _) in zip(labels, labels[1:], strict=False):
        if first <= last:
            raise InputError(
                f"The validation faces' age groups overlap (one ends at {last:g}, the next begins at "
                f"{first:g}), so none of them is the right one: give exact ages, or groups that share no age."
            )
    return GroupTarget(low, high, labels)


def _bins(age: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """The bin of an age in years."""
    return np.clip(np.round(np.asarray(age)), 0, BINS - 1).astype(np.intp)
