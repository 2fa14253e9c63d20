"""What the user believes of good values (``prior:`` in a space), and for how long a search goes by it.

As in piBO (Hvarfner 2022): what a configuration promises is multiplied by its prior to the power ``beta / n``
at the ``n``-th proposal that a model makes, ``beta`` being a tenth of the study's trials. So a belief leads
at first, and what the trials have shown leads in the end. Beliefs of several dimensions are multiplied; each
is its own density, the likeliest value at 1, over a floor: what nobody believes in can still be proposed.

Of the trials that are drawn before anything is modelled, the first is the likeliest configuration, and every
second one is drawn from the prior; the others are drawn as if there were none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agesearch.search.model.encoding import number_along, value_along
from agesearch.search.space.conditions import Dimension, steps
from agesearch.search.space.space import Params, Value
from agesearch.specs import Prior, Range, StudySpec

Array = npt.NDArray[np.float64]

#: The least that any value is believed in, of the likeliest one's 1.
FLOOR = 0.05

#: ``beta`` is so large a share of the study's trials.
_SHARE = 0.1

#: Draws of a normal belief, of which the first within its range counts.
_DRAWS = 32


class Priors:
    """The beliefs about one study's space; false where there are none."""

    def __init__(self, study: StudySpec) -> None:
        self._held: dict[str, tuple[Dimension, Prior]] = {
            name: (dimension, dimension.prior)
            for name, dimension in study.space.items()
            if dimension.prior is not None
        }
        self._names = sorted(study.space)
        self._startup, self._beta = study.startup_trials, _SHARE * study.trials

    def __bool__(self) -> bool:
        return bool(self._held)

    def startup(self, number: int, rng: np.random.Generator) -> Params:
        """Values that trial ``number`` gets while nothing is modelled; none where it is not its turn."""
        if number % 2:
            return {}
        if number == 0:
            return {name: self._likeliest(*held) for name, held in self._held.items()}
        return {name: _value(held[0], self._drawn(*held, rng)) for name, held in self._held.items()}

    def draw_into(self, places: Array, rng: np.random.Generator, fixed: Sequence[str]) -> None:
        """Draw the believed dimensions of every second place ``[n, d]`` (see ``Encoding``) from the prior;
        ``fixed`` ones, and those that a place does not have, stay.
        """
        for name, held in self._held.items():
            if name not in fixed:
                column = places[::2, self._names.index(name)]
                drawn = np.array([self._drawn(*held, rng) for _ in range(len(column))])
                places[::2, self._names.index(name)] = np.where(np.isnan(column), np.nan, drawn)

    def weights(self, places: Array, number: int) -> Array:
        """What the promise of each place ``[n, d]`` is multiplied by, for trial ``number``."""
        power = self._beta / max(1, number - self._startup + 1)
        logs = np.zeros(len(places))
        for name, (dimension, prior) in self._held.items():
            at = places[:, self._names.index(name)]
            known = ~np.isnan(at)
            density = _densities(dimension, prior, at[known])
            logs[known] += np.log(FLOOR + (1.0 - FLOOR) * density)
        found: Array = np.exp(power * logs)
        return found

    def _likeliest(self, dimension: Dimension, prior: Prior) -> Value:
        if isinstance(dimension, Range):
            return value_along(dimension, _middle(dimension, prior))
        choices = steps(dimension)
        return choices[int(np.argmax(prior.weigh(choices)))]

    def _drawn(self, dimension: Dimension, prior: Prior, rng: np.random.Generator) -> float:
        if not isinstance(dimension, Range):
            weights = np.array(prior.weigh(steps(dimension)))
            return float(rng.choice(len(weights), p=weights / weights.sum()))
        middle = _middle(dimension, prior)
        drawn = rng.normal(middle, prior.deviation, _DRAWS)
        inside = drawn[(drawn >= 0.0) & (drawn <= 1.0)]
        return float(inside[0]) if len(inside) else middle


def _middle(dimension: Range, prior: Prior) -> float:
    assert prior.value is not None  # a range's prior has one
    return number_along(dimension, float(prior.value))


def _value(dimension: Dimension, number: float) -> Value:
    if isinstance(dimension, Range):
        return value_along(dimension, number)
    return steps(dimension)[int(number)]


def _densities(dimension: Dimension, prior: Prior, at: Array) -> Array:
    """The belief at numbers of a dimension ``[n]``, the likeliest 1."""
    if isinstance(dimension, Range):
        away = (at - _middle(dimension, prior)) / prior.deviation
        normal: Array = np.exp(-0.5 * away**2)
        return normal
    weighed: Array = np.array(prior.weigh(steps(dimension)))[at.astype(int)]
    return weighed
