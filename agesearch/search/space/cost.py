"""What a study takes on a cluster of some size, on paper: from unit costs that were measured, no Ray.

Trials are independent, and one driver sees them all through. So whatever is shared (the driver, its database,
the store of results) has a rate at which it is full; the slots ask for ``slots / trial seconds``. The study
takes what its slots need, times the use of what is fullest, where that is above one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Processor seconds of the driver a trial, measured with 50 slots and 400 trials on two quiet cores.
DRIVER_S = 0.094
#: Write transactions of the database a trial, counted, and seconds of each: assumed, of a local SSD.
COMMITS, COMMIT_S = 19, 0.004
#: Bytes of a COMPLETE trial's folder, nearly all of them weights.
TRIAL_BYTES = 2_850_000
#: Of these all but the weights; and how many trials keep theirs where a study is to keep those of its front:
#: some twenty of a front of two objectives, and the twelve nearest behind it.
RECORD_BYTES, KEPT_TRIALS = 8_000, 32
#: Bytes a second that a store of results takes: assumed, of one server of a shared file system.
STORE_BYTES_S = 200e6
#: Requests to an object store a slot and second while it trains (120 in an epoch of 90 s), and how many a
#: second one prefix of a bucket takes.
REQUESTS_S, STORE_REQUESTS_S = 120 / 90, 3_500.0
#: Seconds until a node's workers train: their processes and imports.
START_S = 30.0
#: Nodes that one head was shown to hold (Ray's own scalability tests).
MOST_NODES = 2_000


@dataclass(frozen=True)
class Shared:
    """Something that all trials share, how full it is (1: no more goes through), and what helps."""

    name: str
    use: float
    remedy: str


@dataclass(frozen=True)
class Cost:
    """A study on paper: trials at once, hours from start to end, slot-hours that train, nodes' hours, bytes
    of results, and what is shared, the fullest first.
    """

    slots: int
    trials: int
    trial_s: float
    hours: float
    slot_hours: float
    node_hours: float
    result_bytes: int
    shared: tuple[Shared, ...]

    @property
    def limit(self) -> Shared:
        """What saturates first, whether it does at this size or not."""
        return self.shared[0]


def cost_of(
    trials: int,
    trial_s: float,
    *,
    nodes: int,
    slots_per_node: float,
    slots: int | None = None,
    keep: str = "all",
) -> Cost:
    """What ``trials`` of ``trial_s`` seconds each take on ``nodes`` nodes with so many slots each, or with
    ``slots`` in all; ``keep`` is the study's. Nothing is taken off for trials that are stopped early: it is
    the most that they take.
    """
    at_once = max(1, math.floor(nodes * slots_per_node) if slots is None else slots)
    used = min(at_once, trials)
    shared = tuple(sorted(_shared(used, trial_s, nodes), key=lambda one: one.use, reverse=True))
    slower = max(1.0, shared[0].use)
    seconds = START_S + math.ceil(trials / used) * trial_s * slower
    return Cost(
        slots=at_once,
        trials=trials,
        trial_s=trial_s,
        hours=seconds / 3600,
        slot_hours=trials * trial_s / 3600,
        node_hours=nodes * seconds / 3600,
        result_bytes=bytes_kept(trials, keep),
        shared=shared,
    )


def bytes_kept(trials: int, keep: str) -> int:
    """Bytes of a study's results that ``keep`` the weights of "all" its trials or of those at its "front"."""
    weights = trials if keep == "all" else min(trials, KEPT_TRIALS)
    return trials * RECORD_BYTES + weights * (TRIAL_BYTES - RECORD_BYTES)


def _shared(slots: int, trial_s: float, nodes: int) -> list[Shared]:
    rate = slots / trial_s  # trials a second that the slots ask for
    return [
        Shared("driver, one core", rate * DRIVER_S, "longer trials, or several studies"),
        Shared("database, commits", rate * COMMITS * COMMIT_S, "a local disk that syncs faster"),
        Shared("store of results, bytes", rate * TRIAL_BYTES / STORE_BYTES_S, "a faster store"),
        Shared("object store, requests", slots * REQUESTS_S / STORE_REQUESTS_S, "a prefix for each study"),
        Shared("nodes of one head", nodes / MOST_NODES, "larger nodes"),
    ]
