"""More requests than the service can answer: open loop, whatever it says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agesearch.bench.serve.load import LoadRun
from agesearch.bench.serve.requests import AskedImage, order_of
from agesearch.bench.serve.servers import Server

#: How many times what it can is sent; and, when that is over, the share of what it can.
TIMES, _SHARE_LATER = 5, 0.25
_LATER_S, _BACK_S = 8.0, 5.0


@dataclass(frozen=True)
class OverloadRow:
    """What the service does with more than it can: open loop at ``rate`` requests a second."""

    rate: float
    seconds: float
    fulfilled_per_s: float
    fulfilled_p99_ms: float
    refused: int
    refused_p99_ms: float
    without_retry_after: int
    broken: int
    p99_ms_5s_later: float


def overloaded(server: Server, image: AskedImage, able: float, seconds: float) -> OverloadRow:
    """``TIMES`` what it is ``able`` to do in a second, for ``seconds``; then a quarter of it."""
    rate, later_rate = TIMES * able, _SHARE_LATER * able
    outcome = LoadRun(order_of(server, image, seconds, 0, rate)).outcome()
    later = LoadRun(order_of(server, image, _LATER_S, 0, later_rate)).outcome()
    after = later.fulfilled_ms[int(_BACK_S * later_rate) :] or [float("inf")]
    return OverloadRow(
        rate=rate,
        seconds=seconds,
        fulfilled_per_s=outcome.fulfilled_per_s,
        fulfilled_p99_ms=outcome.percentile(99),
        refused=len(outcome.refused_ms),
        refused_p99_ms=outcome.percentile(99, refused=True),
        without_retry_after=outcome.without_retry_after,
        broken=outcome.broken,
        p99_ms_5s_later=float(np.percentile(after, 99)),
    )
