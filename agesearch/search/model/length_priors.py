"""Over what length a student's error changes along each dimension, as far as that is known before a study.

A Gaussian process that has seen ten trials cannot tell from them which of ten dimensions matter. Earlier
searches can: fitted to each whole table of ``reports/search``, the learning rate, the strength of
augmentation, the architecture and the latency had short lengths every time, the weights of losses and most
regularisers long ones. So the lengths of these dimensions are expected there, and the trials of a study move
them (as in HyperBO, Wang 2021, by four tables' worth). Of any other dimension only is known that most matter
little: its length grows with the square root of their number (Hvarfner 2024).

All is in units of ``Encoding.features``: a range, and choices that are numbers, have the extent 1; so has the
logarithm of the latency; two different names are 1 apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: The name of the latency, which is no dimension of a space.
LATENCY = "latency"

_MATTERS_LITTLE = 4.0

#: The likeliest length by dimension.
EXPECTED: Mapping[str, float] = {
    LATENCY: 1.0,
    "augment.strength": 1.3,
    "model.arch": 1.3,
    "model.input_size": 2.0,
    "optim.learning_rate": 0.7,
    "distill.cdf_weight": _MATTERS_LITTLE,
    "distill.kd_weight": _MATTERS_LITTLE,
    "distill.label_sigma": _MATTERS_LITTLE,
    "distill.mean_weight": _MATTERS_LITTLE,
    "distill.temperature": _MATTERS_LITTLE,
    "model.dropout": _MATTERS_LITTLE,
    "optim.batch_size": _MATTERS_LITTLE,
    "optim.warmup_epochs": _MATTERS_LITTLE,
    "optim.weight_decay": _MATTERS_LITTLE,
}

#: The likeliest share of the variance that is noise, and how far logarithms stray: of it and of lengths that
#: are expected, and of lengths that are not.
_NOISE = 0.1
_SURE, _UNSURE = 0.5, 1.0


@dataclass(frozen=True)
class LengthPriors:
    """Log-normal beliefs, one a group of columns and the last of the noise's share of the variance: the
    logarithms' middles and their deviations.
    """

    middles: tuple[float, ...]
    deviations: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> LengthPriors:
        """The beliefs about groups of these names."""
        usual = 0.6 * math.sqrt(len(names))
        lengths = [EXPECTED.get(name, usual) for name in names]
        deviations = [_SURE if name in EXPECTED else _UNSURE for name in names]
        return cls(tuple(map(math.log, [*lengths, _NOISE])), (*deviations, _SURE))
