"""What a learning curve that is not over yet will end at, learnt from COMPLETE curves of the same study.

Notation, logarithms of errors throughout, all at one share of the budget:

- ``b_i``: the smallest error of COMPLETE trial ``i`` at that share, ``y_i``: that of its end;
- ``m_i``: what its configuration alone let expect, by a model of the other trials' ends;
- ``d_i``: how much of it was gained of late;
- ``w_i``: how near ``b_i`` and ``d_i`` are to those of the trial that is asked about (a normal kernel);
- ``g``: the mean gain ``b - y`` that is left at this share.

Two forecasts are weighed: ``m``, by the configuration, and ``b - g``, by the curve. The end is expected at
``m + beta (b - g - m)``, where ``beta`` is the slope in 0..1 that would have served the COMPLETE trials best.
Where curves tell nothing yet (a warm-up, a plateau at the error of always the median), it is 0 by itself, and
the end is as open as ``m`` left it. ``g``, ``beta`` and the spread of what was missed are local: weighed by
``w`` and drawn towards those of all curves, since curves that have begun to fall are surer than those that
have not. Everything missed is measured on trials left out of what forecasts them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: The kernel's widths, in deviations of levels and slopes; at least the noise of a validation error.
_WIDTHS, _NOISE = np.array([0.3, 0.5]), 0.02

#: All curves together count as so many near ones.
_SHARED = 2.0

#: Squared differences (logarithms) that are too small for a slope.
_FLAT = 1e-4


@dataclass(frozen=True)
class Forecast:
    """``[q]`` each: mean and deviation of the logarithm of the end; the same by the configuration alone
    (``prior``, ``unaided``); and how many near curves speak for it.
    """

    mean: Array
    deviation: Array
    prior: Array
    unaided: Array
    near: Array

    @property
    def told(self) -> Array:
        """The share of the configurations' own squared miss that curves near these took away; 0: they tell
        nothing, below: worse than nothing.
        """
        return 1.0 - (self.deviation / np.maximum(self.unaided, 1e-12)) ** 2


class CurveForecaster:
    """Knows COMPLETE curves at one share of the budget: ``levels``, ``slopes``, ``ends`` and ``priors``
    ``[n]`` are ``b``, ``d``, ``y`` and ``m``, the last of a model that did not know the trial.
    """

    def __init__(self, levels: Array, slopes: Array, ends: Array, priors: Array) -> None:
        self._levels, self._ends, self._priors = levels, ends, priors
        places = np.stack([levels, slopes], axis=1)
        self._widths = np.maximum(_NOISE, _WIDTHS * places.std(axis=0))
        self._places = places / self._widths
        others = 1.0 - np.eye(len(levels))
        expected = self._expected(levels, priors, self._near(levels, slopes) * others, others)
        self._missed, self._unaided = (ends - expected) ** 2, (ends - priors) ** 2

    def forecast(self, levels: Array, slopes: Array, priors: Array) -> Forecast:
        """What curves ``[q]`` that stand like this will end at."""
        near, all_of_them = self._near(levels, slopes), np.ones((len(levels), len(self._levels)))
        mean = self._expected(levels, priors, near, all_of_them)
        count = near.sum(axis=1)
        missed = (near @ self._missed + _SHARED * self._missed.mean()) / (count + _SHARED)
        unaided = (near @ self._unaided + _SHARED * self._unaided.mean()) / (count + _SHARED)
        few = 1.0 + 1.0 / (count + 1.0)
        return Forecast(mean, np.sqrt(few * missed), priors, np.sqrt(few * unaided), count)

    def _near(self, levels: Array, slopes: Array) -> Array:
        # A curve above all others is taken to be as hopeless as the highest.
        levels = np.minimum(levels, self._levels.max())
        squared = np.zeros((len(levels), len(self._levels)))
        for places, width, known in zip((levels, slopes), self._widths, self._places.T, strict=True):
            away = (places / width)[:, None] - known[None, :]
            squared += away * away
        found: Array = np.exp(-0.5 * squared)
        return found

    def _expected(self, levels: Array, priors: Array, near: Array, shared: Array) -> Array:
        """``m + beta (b - g - m)``, by the weights of near curves and of all that may speak."""
        near_gain, near_slope = self._gain_and_slope(near)
        gain, slope = self._gain_and_slope(shared)
        local = near.sum(axis=1) / (near.sum(axis=1) + _SHARED)
        gain, slope = gain + local * (near_gain - gain), slope + local * (near_slope - slope)
        expected: Array = priors + slope * (levels - gain - priors)
        return expected

    def _gain_and_slope(self, weights: Array) -> tuple[Array, Array]:
        """``g`` and ``beta`` for each row of weights ``[q, n]``."""
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
        gain = weights @ (self._levels - self._ends)
        away, missed = self._levels - self._priors, self._ends - self._priors
        products = weights @ (away * missed) - gain * (weights @ missed)
        squares = weights @ (away * away) - 2.0 * gain * (weights @ away) + gain * gain
        return gain, np.clip(products / (squares + _FLAT), 0.0, 1.0)
