"""What an epoch of a trial costs, in seconds, beside that of others: learnt from those that were trained.

A Gaussian process of the logarithm of the seconds (``agesearch.search.model.gaussian_process``) over what a
trial's error is modelled over, too: network, input side, losses, and the latency, which tells much of it
alone. Its lengths are not fitted: what decides the network is expected to matter, all else little.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agesearch.search.model.gaussian_process import GaussianProcess, Lengths

Array = npt.NDArray[np.float64]

#: Trials whose seconds are known, without which all epochs cost the same.
LEAST = 3

#: The lengths of the latency, of dimensions that decide the network, and of others; the share of noise.
_LATENCY, _NETWORK, _OTHER, _NOISE = 0.5, 1.0, 4.0, 0.05


class EpochPrices:
    """Knows the ``seconds [n]`` that an epoch took of trials with ``features [n, f]``.

    ``groups`` are the columns of each dimension, the latency's first; ``decides`` says of the others whether
    they decide the network.
    """

    def __init__(self, features: Array, seconds: Array, groups: list[slice], decides: list[bool]) -> None:
        self._columns = groups[-1].stop
        self._model: GaussianProcess | None = None
        if len(seconds) >= LEAST:
            lengths = (_LATENCY, *(_NETWORK if one else _OTHER for one in decides))
            known = features[:, : self._columns]
            self._model = GaussianProcess(
                known, np.log(seconds), np.zeros(len(seconds)), groups, Lengths(lengths, _NOISE)
            )
            self._mean = float(seconds.mean())

    def of(self, features: Array) -> Array:
        """``[m]``: what an epoch of trials with ``features [m, f]`` costs, in those of the mean known one."""
        if self._model is None or not len(features):
            return np.ones(len(features))
        found: Array = np.exp(self._model.predict(features[:, : self._columns])[0]) / self._mean
        return found
