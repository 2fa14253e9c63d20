"""How many trainings may run at once: decided before anything starts, refused where it could deadlock.

Trials (of a study, or turns of a protocol) that hold every core would starve whatever else is needed; more
than the cluster can hold would wait for ever. Nothing here talks to Ray: numbers in, a plan or one clear
error out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agesearch.errors import InputError

#: Trials that share one GPU by default: small students leave most of it idle.
TRIALS_PER_GPU = 4


@dataclass(frozen=True)
class Plan:
    """How many trials run at once and what each of them holds."""

    concurrency: int
    cpus_per_trial: float
    gpus_per_trial: float


def plan(
    cpus: float,
    gpus: float,
    *,
    concurrency: int | None = None,
    cpus_per_trial: float = 1.0,
    data_cpus: float = 0.0,
    trials: int | None = None,
    what: str = "trial",
) -> Plan:
    """Fit the trials into a cluster of ``cpus`` and ``gpus``, leaving ``data_cpus`` for Ray Data.

    Without ``concurrency`` as many trials run at once as fit, but no more than there are ``trials``. A
    ``concurrency`` that does not fit is an ``InputError`` that says what would. Data that is already
    materialised needs no CPU. ``what`` is what errors call a trial.
    """
    if concurrency is not None and concurrency < 1:
        raise InputError(f"--concurrency is {concurrency}, but must be >= 1.")
    room = math.floor((cpus - data_cpus) / cpus_per_trial + 1e-9)
    holding = f"{data_cpus:g} for reading data and " if data_cpus else ""
    if room < 1:
        raise InputError(
            f"The cluster offers {cpus:g} CPUs, but {holding}{cpus_per_trial:g} for a {what} are needed: "
            f"none could ever start. Offer at least {math.ceil(data_cpus + cpus_per_trial)} CPUs."
        )
    if concurrency is not None and concurrency > room:
        raise InputError(
            f"{concurrency} {what}s at once need {holding}{concurrency * cpus_per_trial:g} CPUs, but the "
            f"cluster offers {cpus:g}: some could wait for ever. Ask for --concurrency {room} or less."
        )
    wanted = concurrency or (min(room, int(gpus) * TRIALS_PER_GPU) if gpus >= 1 else room)
    wanted = min(wanted, trials) if trials else wanted
    return Plan(wanted, cpus_per_trial, _gpu_share(gpus, wanted))


def _gpu_share(gpus: float, concurrency: int) -> float:
    """Whole GPUs never split between two: a trial gets one, or the share that lets all of them fit."""
    whole = math.floor(gpus)
    if whole < 1:
        return 0.0
    sharers = math.ceil(concurrency / whole)
    return 1.0 if sharers == 1 else math.floor(100 / sharers) / 100
