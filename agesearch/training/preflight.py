"""How many trainings may run at once: decided before anything starts, refused where it could deadlock.

Trials (of a study, or turns of a protocol) that hold every core would starve whatever else is needed; more
than the cluster can hold would wait for ever. Nothing here talks to Ray: numbers in, a plan or one clear
error out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from agesearch.cluster.room import Room
from agesearch.errors import InputError

#: Trials that share one GPU by default: small students leave most of it idle.
TRIALS_PER_GPU = 4


@dataclass(frozen=True)
class Plan:
    """How many trials run at once and what each of them holds, with all of its workers.

    ``follows``: the number is that of now, and follows a cluster whose nodes come and go, up to ``most``.
    """

    concurrency: int
    cpus_per_trial: float
    gpus_per_trial: float
    workers: int = 1
    follows: bool = False
    most: int | None = None

    @property
    def gpus_per_worker(self) -> float:
        """The GPUs, or the share of one, that each worker of a trial has."""
        return self.gpus_per_trial / self.workers

    @property
    def most_at_once(self) -> int:
        """How many trials may ever run at once."""
        return self.most if self.follows and self.most is not None else self.concurrency

    def room(self, kept_off: Callable[[], float] = lambda: 0.0) -> Room:
        """What tells how many run at once, as the cluster is by then, without the CPUs of nodes that train
        none (``kept_off()``).
        """
        return Room(
            self.concurrency,
            cpus=self.cpus_per_trial,
            gpus=self.gpus_per_trial,
            follows=self.follows,
            most=self.most,
            kept_off=kept_off,
        )


def plan(
    cpus: float,
    gpus: float,
    *,
    concurrency: int | None = None,
    workers: int = 1,
    gpus_per_trial: float | None = None,
    data_cpus: float = 0.0,
    trials: int | None = None,
    what: str = "trial",
    grows: bool = False,
) -> Plan:
    """Fit the trials into a cluster of ``cpus`` and ``gpus``, leaving ``data_cpus`` for Ray Data.

    A trial holds one CPU for each of its ``workers``. Without ``concurrency`` as many trials run at once as
    fit, but no more than there are ``trials``. ``gpus_per_trial`` is 0, a share of one GPU, or one GPU for
    each worker; None: what lets the trials fit. What does not fit is an ``InputError`` that says what would.
    Data that is already materialised needs no CPU. ``what`` is what errors call a trial. Where the cluster
    ``grows``, nodes that are not there yet may hold what does not fit: a wish for more waits for them.
    """
    for name, value in (("--concurrency", concurrency), ("--workers-per-trial", workers)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, but must be >= 1.")
    _check_gpus(gpus_per_trial, workers, gpus)
    room = math.floor((cpus - data_cpus) / workers + 1e-9)
    holding = f"{data_cpus:g} for reading data and " if data_cpus else ""
    if room < 1 and not grows:
        raise InputError(
            f"The cluster offers {cpus:g} CPUs, but {holding}{workers} for a {what} are needed: "
            f"none could ever start. Offer at least {math.ceil(data_cpus + workers)} CPUs."
        )
    if concurrency is not None and concurrency > room and not grows:
        raise InputError(
            f"{concurrency} {what}s at once need {holding}{concurrency * workers} CPUs, but the "
            f"cluster offers {cpus:g}: some could wait for ever. Ask for --concurrency {room} or less."
        )
    most = _room_on_gpus(gpus, workers, gpus_per_trial)
    if gpus_per_trial and most is not None and (concurrency or 0) > most and not grows:
        raise InputError(
            f"{concurrency} {what}s at once with {gpus_per_trial:g} GPUs each do not fit into the cluster's "
            f"{gpus:g}: some could wait for ever. Ask for --concurrency {most} or less."
        )
    wanted = concurrency or max(1, room if most is None else min(room, most))
    wanted = min(wanted, trials) if trials else wanted
    share = _gpu_share(gpus, wanted, workers) if gpus_per_trial is None else gpus_per_trial
    return Plan(wanted, float(workers), share, workers, grows and concurrency is None, trials)


def _check_gpus(asked: float | None, workers: int, gpus: float) -> None:
    if not asked:
        return
    if not (asked == workers or (workers == 1 and 0 < asked < 1)):
        rule = "0, a share of one GPU, or 1" if workers == 1 else f"0, or {workers}: one for each worker"
        raise InputError(f"--gpus-per-trial is {asked:g}, but must be {rule}.")
    if asked > gpus:
        raise InputError(f"--gpus-per-trial is {asked:g}, but the cluster offers {gpus:g} GPUs.")


def _room_on_gpus(gpus: float, workers: int, asked: float | None) -> int | None:
    """How many trials fit on the GPUs; None where they need none."""
    if asked == 0 or math.floor(gpus) < (workers if asked is None else 1):
        return None
    if workers > 1:
        return math.floor(gpus) // workers
    return math.floor(gpus) * (TRIALS_PER_GPU if asked is None else math.floor(1 / asked + 1e-9))


def _gpu_share(gpus: float, concurrency: int, workers: int) -> float:
    """Whole GPUs never split between two: a worker gets one, or the share that lets all trials fit."""
    whole = math.floor(gpus)
    if workers > 1:
        return float(workers) if whole >= workers * concurrency else 0.0
    if whole < 1:
        return 0.0
    sharers = math.ceil(concurrency / whole)
    return 1.0 if sharers == 1 else math.floor(100 / sharers) / 100
