"""Trials as numbers for a model: where parameters lie in the unit cube, and random draws from a space.

A trial's place has one number a dimension: 0..1 along a range (by logarithm where the space says so), the
index of a choice, NaN where its condition does not hold. Its features are what the model measures distances
in: numbers as they are, with choices that are numbers among them, a column a choice for names (two different
ones are 1 apart), a column that says whether a conditional dimension is there, and the logarithm of the
latency, which is known. A last column is what earlier studies let expect of the error, where they tell
anything of the space (``agesearch.search.model.error_prior``): no distance is measured in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.models.architectures import Network
from agesearch.search.model.error_prior import RATE, STRENGTH, TABLES, ErrorPrior, terms_of
from agesearch.search.model.length_priors import LATENCY, LengthPriors
from agesearch.search.space.conditions import holds, own_value, setting, stages, steps
from agesearch.search.space.limits import Fitting
from agesearch.search.space.space import ARCH, Dimension, Params, Value, network_choices, network_of
from agesearch.specs import Choices, Range, StudySpec, Variants

Array = npt.NDArray[np.float64]

_INIT = "model.init"

#: Random configurations over which what is expected is centred and scaled, and the least deviation that it
#: is scaled by: where a space leaves hardly anything to expect, little stays little.
_DRAWN, _LEAST_DEVIATION = 512, 0.5

#: The deviation over a space from which on what is expected is worth going by.
_TELLS = 0.25


class Encoding:
    """Places, features and draws of one study's space, over the networks that fit and have a latency."""

    def __init__(
        self,
        study: StudySpec,
        fitting: Fitting,
        latencies: Mapping[Network, float],
        error_prior: ErrorPrior = TABLES,
    ) -> None:
        self._study = study
        self.names = sorted(study.space)
        self._column = {name: column for column, name in enumerate(self.names)}
        self._stages = stages(study.space)
        self._conditional = [name for name in self.names if study.space[name].when]
        self._choices = {
            name: steps(dimension)
            for name, dimension in study.space.items()
            if not isinstance(dimension, Range)
        }
        self._networks = [
            (params, network)
            for params, network in network_choices(study)
            if network in latencies and fitting.fits(params)
        ]
        self._latencies = {network: latencies[network] for _, network in self._networks}
        #: Whether a step along a range may lead to another network.
        self.moves_network = any(name not in self._choices for params, _ in self._networks for name in params)
        logs = [math.log(latencies[network]) for _, network in self._networks] or [0.0]
        self._fastest, self._extent = min(logs), max(max(logs) - min(logs), 1e-9)
        self._median = float(np.median(logs))
        self.groups = self._grouped()
        self.length_priors = LengthPriors.of([LATENCY, *self.names])
        self._error_prior = error_prior
        #: The dimensions that decide whether a network starts from trained weights.
        self._starts = [name for name, dimension in study.space.items()
                        if name in (ARCH, _INIT) or isinstance(dimension, Variants)]  # fmt: skip
        #: Whether each choice of the architecture does, where nothing else decides.
        self._marks = np.array([self._is_started({ARCH: arch}) for arch in self._choices.get(ARCH, ())])
        self._middle, self._scale = 0.0, 1.0
        #: Whether earlier studies let expect more of some configurations than of others.
        self.expects = False
        if self._networks:
            said = self._expected(*self.drawn(_DRAWN, np.random.default_rng(0)))
            self._middle, self._scale = float(said.mean()), max(float(said.std()), _LEAST_DEVIATION)
            self.expects = bool(said.std() > _TELLS)

    @property
    def of_networks(self) -> list[str]:
        """The dimensions that decide which network a place has."""
        return sorted({name for params, _ in self._networks for name in params})

    @property
    def usable(self) -> bool:
        """Whether there is a network to draw."""
        return bool(self._networks)

    def place(self, params: Mapping[str, Any]) -> Array:
        """``[d]``: where parameters lie."""
        return np.array([self._number(name, params.get(name)) for name in self.names])

    def params(self, place: Array) -> Params:
        """The parameters at a place, on the steps of their ranges."""
        return {
            name: self._value(name, float(number))
            for name, number in zip(self.names, place, strict=True)
            if not math.isnan(number)
        }

    def latencies(self, places: Array) -> Array:
        """Latency in ms of each place ``[n, d]``; NaN where the network does not fit or has none."""
        return np.array([self.latency(self.params(place)) for place in places])

    def latency(self, params: Mapping[str, Any]) -> float:
        """Latency in ms of the network of these parameters; NaN where it does not fit or has none."""
        return self._latencies.get(network_of(self._study, params), math.nan)

    def features(self, places: Array, latencies: Array) -> Array:
        """``[n, f]``: what distances are measured in, and last what is expected of the error, if anything."""
        blocks = [(np.log(latencies)[:, None] - self._fastest) / self._extent]
        for name, column in self._column.items():
            values = places[:, column]
            there = ~np.isnan(values)
            if self._is_ordered(name):
                scale = self._ordered(name)
                numbers = scale[np.where(there, values, 0).astype(int)] if scale is not None else values
                blocks.append(np.where(there, numbers, 0.5)[:, None])
                if name in self._conditional:
                    blocks.append(there[:, None].astype(float))
            else:
                marks = np.arange(len(self._choices[name]))
                blocks.append(math.sqrt(0.5) * (values[:, None] == marks))
        if self.expects:
            blocks.append(self._expected(places, latencies)[:, None])
        return np.hstack(blocks)

    def _expected(self, places: Array, latencies: Array) -> Array:
        """What earlier studies let expect of the error at places ``[n, d]``: in deviations over the space."""
        expected = self._error_prior.expected(self.terms(places, latencies))
        found: Array = (expected - self._middle) / self._scale
        return found

    def terms(self, places: Array, latencies: Array) -> Array:
        """``[n, t]``: what that is worked out from (``error_prior.TERMS``)."""
        return terms_of(
            self._numbers(RATE, places),
            self._numbers(STRENGTH, places),
            np.log(latencies) - self._median,
            self._started(places),
        )

    def _numbers(self, field: str, places: Array) -> Array:
        """``[n]``: the value that places have for a field of the student that is a number."""
        own, column = float(own_value(self._study.student, field)), self._column.get(field)
        if column is not None:
            given = places[:, column]
            found = self._values(field, np.where(np.isnan(given), 0.0, given))
            return np.where(np.isnan(given), own, found)
        if not any(isinstance(dimension, Variants) for dimension in self._study.space.values()):
            return np.full(len(places), own)
        values = (setting(self._study, self.params(place), field) for place in places)
        return np.array([own if value is None else float(value) for value in values])

    def _values(self, name: str, numbers: Array) -> Array:
        """The values of a dimension at ``numbers [n]``, steps aside."""
        dimension = self._study.space[name]
        if not isinstance(dimension, Range):
            choices: Array = np.array([float(value) for value in self._choices[name]])
            return choices[numbers.astype(int)]  # type: ignore[no-any-return]
        low, high, _ = _scaled(dimension, dimension.low, dimension.high, dimension.low)
        along: Array = low + numbers * (high - low)
        found: Array = np.exp(along) if dimension.log else along
        return found

    def _started(self, places: Array) -> Array:
        """``[n]``: 1 where a place's network starts from trained weights, else 0."""
        if not self._starts:
            return np.full(len(places), self._is_started({}))
        if self._starts == [ARCH] and ARCH not in self._conditional:
            found: Array = self._marks[places[:, self._column[ARCH]].astype(int)]
            return found
        return np.array([self._is_started(self.params(place)) for place in places])

    def _is_started(self, params: Mapping[str, Any]) -> float:
        arch, init = (setting(self._study, params, field) for field in (ARCH, _INIT))
        return float(arch in self._study.weights or init != "random")

    def drawn(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """``count`` random places ``[n, d]``, their networks drawn evenly, and their latencies in ms."""
        picked = rng.integers(len(self._networks), size=count)
        places = rng.random((count, len(self.names)))
        for name, values in self._choices.items():
            column = self._column[name]
            places[:, column] = np.floor(places[:, column] * len(values))
        return self._settled(places, picked)

    def near(self, place: Array, count: int, rng: np.random.Generator, step: float = 0.1) -> Array:
        """``count`` places around one, its choices kept: normal steps along ranges."""
        places = np.tile(place, (count, 1))
        moved = [column for name, column in self._column.items() if name not in self._choices]
        places[:, moved] += rng.normal(0.0, step, (count, len(moved)))
        places[:, moved] = np.clip(places[:, moved], 0.0, 1.0)
        return self._pruned(places) if self._conditional else places

    def _settled(self, places: Array, picked: npt.NDArray[np.intp]) -> tuple[Array, Array]:
        given = [[(self._column[name], self._number(name, value)) for name, value in params.items()]
                 for params, _ in self._networks]  # fmt: skip
        for row, network in enumerate(picked):
            for column, number in given[network]:
                places[row, column] = number
        latencies = np.array([self._latencies[network] for _, network in self._networks])[picked]
        return (self._pruned(places) if self._conditional else places), latencies

    def _pruned(self, places: Array) -> Array:
        """The places without the dimensions whose condition does not hold; new ones get their middle."""
        middle = np.array([0.0 if name in self._choices else 0.5 for name in self.names])
        filled = np.where(np.isnan(places), middle, places)
        for row, place in enumerate(filled):
            whole, held = self.params(place), dict[str, Value]()
            for names in self._stages:
                if holds(self._study, self._study.space[names[0]], held):
                    held |= {name: whole[name] for name in names}
            gone = [self._column[name] for name in self.names if name not in held]
            filled[row, gone] = np.nan
        return filled

    def _number(self, name: str, value: Any) -> float:
        if value is None:
            return math.nan
        dimension = self._study.space[name]
        if isinstance(dimension, Range):
            return number_along(dimension, float(value))
        return float(self._choices[name].index(value))

    def _value(self, name: str, number: float) -> Value:
        dimension = self._study.space[name]
        if isinstance(dimension, Range):
            return value_along(dimension, number)
        return self._choices[name][int(number)]

    def _is_ordered(self, name: str) -> bool:
        dimension = self._study.space[name]
        if isinstance(dimension, Range):
            return True
        return isinstance(dimension, Choices) and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in dimension.choices
        )

    def _ordered(self, name: str) -> Array | None:
        """0..1 for each of the choices that are numbers; None for a range."""
        values = self._choices.get(name)
        if values is None:
            return None
        numbers = np.array([float(value) for value in values])
        if (numbers > 0).all():
            numbers = np.log(numbers)
        span = float(np.ptp(numbers))
        scale: Array = (numbers - numbers.min()) / (span if span > 0 else 1.0)
        return scale

    def _grouped(self) -> list[slice]:
        """Columns that share a length in the model: those of one dimension, after the latency's own."""
        groups = [slice(0, 1)]
        for name in self.names:
            start = groups[-1].stop
            wide = 1 + (name in self._conditional) if self._is_ordered(name) else len(self._choices[name])
            groups.append(slice(start, start + wide))
        return groups


def number_along(dimension: Range, value: float) -> float:
    """Where a value lies along a range, 0..1."""
    low, high, at = _scaled(dimension, dimension.low, dimension.high, value)
    return min(max((at - low) / (high - low), 0.0), 1.0) if high > low else 0.0


def value_along(dimension: Range, number: float) -> Value:
    """The value at 0..1 along a range, on its steps."""
    low, high, _ = _scaled(dimension, dimension.low, dimension.high, dimension.low)
    value = low + number * (high - low)
    value = min(max(math.exp(value) if dimension.log else value, dimension.low), dimension.high)
    step = dimension.step or (1.0 if dimension.integer else None)
    if step is None:
        return value
    most = math.floor((dimension.high - dimension.low) / step + 1e-9)
    value = min(dimension.low + step * min(round((value - dimension.low) / step), most), dimension.high)
    return round(value) if dimension.integer else value


def _scaled(dimension: Dimension, *values: float) -> Sequence[float]:
    logarithmic = isinstance(dimension, Range) and dimension.log
    return [math.log(value) for value in values] if logarithmic else values
