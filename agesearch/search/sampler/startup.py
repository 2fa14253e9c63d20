"""Which networks a search begins with: as different ones as there are.

Drawn one by one, a handful of trials has some architecture twice and others not at all, and the model that
learns from them is blind where they are missing. So each choice of a dimension that decides the network comes
once before any comes again, in an order drawn by the seed: a Latin hypercube (McKay 1979) over these
dimensions, begun anew as each has been through. It follows from the spec alone. The numbers of a training are
drawn at random beside it: to spread those as well did not help (``reports/search``).
"""

from __future__ import annotations

import numpy as np

from agesearch.search.space.space import Params, Value, network_choices
from agesearch.specs import StudySpec


class StartupNetworks:
    """The networks of a study's first trials."""

    def __init__(self, study: StudySpec) -> None:
        self._seed = abs(study.seed)
        self._networks = [params for params, _ in network_choices(study)]
        names = dict.fromkeys(name for params in self._networks for name in params)
        self._choices: dict[str, list[Value]] = {
            name: list(dict.fromkeys(params[name] for params in self._networks if name in params))
            for name in names
        }

    def of(self, number: int) -> Params:
        """The parameters that decide the network of trial ``number``."""
        wanted = {
            name: self._turn(number, column, values)
            for column, (name, values) in enumerate(self._choices.items())
        }
        return next(params for params in self._networks if params.items() <= wanted.items())

    def _turn(self, number: int, column: int, values: list[Value]) -> Value:
        """The choice whose turn it is."""
        turn, place = divmod(number, len(values))
        order = np.random.default_rng([self._seed, column, turn]).permutation(len(values))
        return values[int(order[place])]
