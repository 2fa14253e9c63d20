"""How likely a configuration keeps the limits that are known only once it has trained.

What is expected of a trial is multiplied by the chance that it keeps ``max_mae_c_years``,
``max_shift_years`` and ``max_worst_decade_mae_years``: expected improvement under constraints (Schonlau 1998;
Gardner 2014). The logarithm of a limited figure is modelled as that of the error is, with the error's
lengths, from the COMPLETE trials; with ``y`` its prediction of mean ``m`` and deviation ``s`` and a limit
``L``, the chance is ``Phi((log L - m) / s)``. ``max_mae_years`` is not among them: it bounds the reference
point of the front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agesearch.search.model.gaussian_process import GaussianProcess, Lengths
from agesearch.search.store.front_limits import LIMITED, FrontLimits
from agesearch.search.store.records import State, TrialRecord

Array = npt.NDArray[np.float64]

#: Trials whose figure is known, without which nothing is modelled; and the least that a figure counts as.
_LEAST, _TINY = 3, 1e-3


def chance_within(
    limits: FrontLimits,
    trials: Sequence[TrialRecord],
    known: Array,
    asked: Array,
    groups: Sequence[slice],
    lengths: Lengths,
) -> Array:
    """The chance ``[m]`` that configurations of features ``asked [m, f]`` keep all limits, from ``trials`` of
    features ``known [n, f]``.
    """
    chance = np.ones(len(asked))
    known, asked = known[:, : groups[-1].stop], asked[:, : groups[-1].stop]  # what is expected is the error
    for name, limit in limits.highest.items():
        values = [_figure(record, LIMITED[name]) for record in trials]
        there = np.flatnonzero(np.isfinite(values))
        if len(there) < _LEAST:
            continue
        targets = np.log(np.maximum(np.array(values)[there], _TINY))
        model = GaussianProcess(known[there], targets, np.zeros(len(there)), groups, lengths)
        mean, deviation = model.predict(asked)
        chance *= _below((math.log(limit) - mean) / deviation)
    return chance


def _figure(record: TrialRecord, metric: str) -> float:
    value = getattr(record, metric) if record.state is State.COMPLETE else None
    return math.nan if value is None else float(value)


def _below(deviations: Array) -> Array:
    from scipy.special import ndtr

    found: Array = ndtr(deviations)
    return found
