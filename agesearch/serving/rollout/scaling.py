"""How many replicas a version needs, by the images that wait in them: the policy of Ray Serve's autoscaling.

Ray Serve counts the requests of its own proxy, which stands idle here; each replica tells what waits in its
queue instead. No Ray: Serve hands in what it knows.
"""

from __future__ import annotations

import math
from typing import Any

#: What a replica tells Serve of itself, and how many images a replica that has enough to do has at once.
WAITING = "waiting_images"
ENOUGH = 3.0


def replicas_wanted(context: Any) -> tuple[int, dict[str, Any]]:
    """Serve's question, with its context: the number of replicas, and what is to be kept until the next."""
    waiting = (context.aggregated_metrics or {}).get(WAITING, {})
    return wanted_for(list(waiting.values()), context.target_num_replicas), {}


def wanted_for(waiting: list[float], now: int) -> int:
    """The number of replicas for what waits in each; with nothing known, as many as there are.

    One more than is needed is kept where what waits nearly fills the rest: a number at the border does not go
    up and down.
    """
    if not waiting:
        return now
    total = sum(waiting)
    wanted = max(1, math.ceil(total / ENOUGH))
    return now if wanted == now - 1 and total > 0.7 * ENOUGH * wanted else wanted
