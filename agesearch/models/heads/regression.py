"""Heads that regress the age in years; their PMF is a Gaussian over the ages 0..100.

The Gaussian is sampled at the ages and normalised there, as label distributions are.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from agesearch.ages import AGES, MAX_AGE, FloatArray, age_spread, expected_age
from agesearch.models.heads.base import LinearHead, label_mean, uniform_pmf
from agesearch.specs import ModelSpec

#: The widths in years between which a Gaussian head moves. Narrower ones would jump from age to age.
_NARROWEST, _WIDEST = 0.5, 50.0

#: Years of a unit of the mean: a layer's outputs learn best about as large as one.
_MEAN_UNIT = 10.0

#: How near in years the expectation of a clipped age's PMF comes to 0 and 100: no PMF has an end as its mean
#: but the certain one, whose logits are infinite.
_MARGIN = 0.05

#: Nodes of the table of locations, even in the log-odds of the age's share of the axis.
_NODES = 1024


class GaussianHead(LinearHead):
    """A mean in tens of years and a log-spread, trained by the likelihood (Nix & Weigend 1994).

    The spread is ``5 * 10^tanh(r)`` years, which keeps it in 0.5..50 with a gradient everywhere. It starts as
    ``head_sigma``, or as that of the labels where there are some: narrower than the first errors, it would
    widen to its limit before the mean learns. The label loss is minus the log-likelihood of the age itself
    under the PMF's Gaussian: ``label_sigma`` has no part in it, the spread is to be that of the errors. Of a
    label that is a group, it is the mean over the group's ages.
    """

    ages: Tensor

    def __init__(self, spec: ModelSpec, features: int) -> None:
        super().__init__(spec, features, 2)
        self.register_buffer("ages", torch.from_numpy(AGES), persistent=False)
        self._start_at(_moments(uniform_pmf())[0], spec.head_sigma)

    def logits(self, raw: Tensor) -> Tensor:
        """Mean and raw log-spread ``[B, 2]`` -> ``[B, 101]``."""
        mean, spread = self._parts(raw)
        return gaussian_logits(self.ages, mean, spread, _centre(mean))

    def label_loss(self, raw: Tensor, label_pmf: Tensor, age: Tensor) -> Tensor:
        """Minus the log-likelihood of the age, or of the group's ages."""
        mean, spread = self._parts(raw)
        centre = _centre(mean)
        logits = gaussian_logits(self.ages, mean, spread, centre)
        exact = gaussian_logits(age.nan_to_num().unsqueeze(-1), mean, spread, centre).squeeze(-1)
        likely = torch.where(torch.isfinite(age), exact, (label_pmf * logits).sum(dim=-1))
        return torch.logsumexp(logits, dim=-1) - likely

    def start_from(self, prior: FloatArray) -> None:
        """Mean and spread start as the prior's."""
        self._start_at(*_moments(prior))

    def _start_at(self, mean: float, spread: float) -> None:
        inside = min(max(spread, 1.01 * _NARROWEST), _WIDEST / 1.01)
        middle, reach = _log_spread()
        raw_spread = math.atanh((math.log(inside) - middle) / reach)
        self._start(torch.tensor([mean / _MEAN_UNIT, raw_spread]))

    def _parts(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread in years, ``[B, 1]`` each."""
        middle, reach = _log_spread()
        return _MEAN_UNIT * raw[:, :1], torch.exp(middle + reach * torch.tanh(raw[:, 1:]))


class ClippedHead(LinearHead):
    """One linear unit in years, clipped to 0..100 (Greco 2021), trained by the squared error of the unit.

    The PMF is a Gaussian of ``head_sigma`` years, cut at 0 and 100, located so that its expectation is the
    clipped age (to about 1e-4 years; an answer comes no nearer to 0 and 100 than 0.05 years). The label loss
    acts on the unit before the clip, and to all other losses the clip's gradient is 1 everywhere (straight
    through): an answer outside 0..100 finds back.
    """

    ages: Tensor
    locations: Tensor

    def __init__(self, spec: ModelSpec, features: int) -> None:
        super().__init__(spec, features, 1)
        self._sigma = spec.head_sigma
        self.register_buffer("ages", torch.from_numpy(AGES), persistent=False)
        self.register_buffer("locations", torch.from_numpy(_locations(spec.head_sigma)), persistent=False)
        self.start_from(uniform_pmf())

    def logits(self, raw: Tensor) -> Tensor:
        """The unit ``[B, 1]`` -> ``[B, 101]``."""
        clipped = raw.detach().clamp(_MARGIN, MAX_AGE - _MARGIN) + (raw - raw.detach())
        location = self._location(clipped)
        return gaussian_logits(self.ages, location, self._sigma, _centre(location))

    def label_loss(self, raw: Tensor, label_pmf: Tensor, age: Tensor) -> Tensor:
        """The squared error of the unit in years^2; to the middle of a group."""
        return (raw.squeeze(-1) - label_mean(label_pmf, age)) ** 2

    def start_from(self, prior: FloatArray) -> None:
        """The bias becomes the prior's mean."""
        self._start(torch.tensor([_moments(prior)[0]]))

    def _location(self, age: Tensor) -> Tensor:
        """The location ``[B, 1]`` whose PMF has the expectation ``age`` ``[B, 1]``.

        A value of the table, then one step of Newton's, whose derivative ``sigma^2 / variance`` is the exact
        one: so the expectation's gradient to the age is 1.
        """
        start = _interpolated(self.locations, age.detach())
        pmf = torch.softmax(gaussian_logits(self.ages, start, self._sigma, _centre(start)), dim=-1)
        mean = (pmf * self.ages).sum(dim=-1, keepdim=True)
        variance = (pmf * (self.ages - mean) ** 2).sum(dim=-1, keepdim=True)
        return start + (age - mean) * self._sigma**2 / variance


def gaussian_logits(ages: Tensor, mean: Tensor, spread: Tensor | float, centre: Tensor) -> Tensor:
    """``-(ages - mean)^2 / (2 spread^2)`` plus a constant of the face: ``[B, 1]`` parameters -> ``[B,
    ages]``.

    Expanded about ``centre``, a constant near the mean and inside 0..100: so a mean far outside makes a
    slope, and not the square of its distance, in which float32 would lose the ages.
    """
    away = ages - centre
    return (away * (mean - centre) - away**2 / 2) / spread**2


def _centre(mean: Tensor) -> Tensor:
    return mean.detach().clamp(0.0, MAX_AGE)


def _log_spread() -> tuple[float, float]:
    """The middle of the log-spreads, and how far they go from it."""
    low, high = math.log(_NARROWEST), math.log(_WIDEST)
    return (low + high) / 2, (high - low) / 2


def _moments(prior: FloatArray) -> tuple[float, float]:
    """Mean and standard deviation in years."""
    mass = prior / prior.sum()
    return float(expected_age(mass)), float(age_spread(mass))


def _interpolated(table: Tensor, age: Tensor) -> Tensor:
    """The table's value at an age inside the margins, linear in its log-odds."""
    place = (torch.log(age / (MAX_AGE - age)) / _reach() + 1) / 2 * (_NODES - 1)
    below = place.floor().clamp(0, _NODES - 2)
    left, right = table[below.long()], table[below.long() + 1]
    return left + (right - left) * (place - below)


def _reach() -> float:
    """The log-odds of the age nearest to 100 that a PMF has as its mean."""
    return math.log((MAX_AGE - _MARGIN) / _MARGIN)


@lru_cache(maxsize=32)
def _locations(sigma: float) -> FloatArray:
    """The locations whose Gaussians of width ``sigma`` have the expectations of the nodes ``[1024]``.

    The expectation grows with the location: found by bisection.
    """
    odds = np.exp(np.linspace(-_reach(), _reach(), _NODES))
    wanted = MAX_AGE * odds / (1 + odds)
    ages = AGES.astype(np.float64)
    low = np.full(_NODES, -10.0 * sigma**2 - MAX_AGE)
    high = MAX_AGE - low
    for _ in range(48):
        middle = (low + high) / 2
        exponent = (ages * middle[:, None] - ages**2 / 2) / sigma**2
        mass = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        above = mass @ ages / mass.sum(axis=1) > wanted
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    found: FloatArray = ((low + high) / 2).astype(np.float32)
    return found
