"""The search that a careful user of Optuna and PyTorch writes: one process a core, each trains one trial.

Optuna's ``GPSampler`` asks for trials, and a Pareto-rank pruner stops them after an epoch, since Optuna's own
know one objective only. A trial trains on one thread, channels-last, from fixed views that its process keeps
(``agesearch.bench.plain_loop``). Latencies are known to both sides of the race before it starts.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import optuna
from optuna.trial import TrialState

from agesearch.bench.plain_loop import Columns, Views, train_plainly
from agesearch.bench.wallclock.spent import Reached, Spent
from agesearch.models.architectures import Network
from agesearch.search.replay.rivals.optuna_samplers import SAMPLERS
from agesearch.search.replay.rivals.pareto_pruner import ParetoPruner
from agesearch.search.space.space import network_of, optuna_distributions, trial_spec
from agesearch.search.store.optuna_database import without_warnings
from agesearch.specs import RungSpec, StudySpec, TrainSpec


def run_loop(
    study: StudySpec, train: Columns, val: Columns, latencies: Mapping[Network, float], processes: int
) -> Spent:
    """Search until ``study.trials`` trials have begun and all have ended."""
    return _Loop(study, latencies).run(train, val, processes)


@dataclass
class _Trial:
    """A trial that trains: Optuna's, its network's latency, and its errors so far."""

    trial: optuna.Trial
    latency_ms: float
    errors: list[float]


class _Loop:
    def __init__(self, study: StudySpec, latencies: Mapping[Network, float]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with without_warnings():
            sampler = SAMPLERS["gp"](study.seed)
            self._study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        self._spec, self._latencies = study, latencies
        self._space = optuna_distributions(study.space)
        self._pruner = ParetoPruner(RungSpec().first_epoch)
        self._running: dict[Connection, _Trial] = {}
        self._reached: list[Reached] = []
        self._begun = self._epochs = self._stopped = 0
        self._suggesting = self._training = 0.0

    def run(self, train: Columns, val: Columns, processes: int) -> Spent:
        began = time.perf_counter()
        context = multiprocessing.get_context("spawn")
        ends, workers = [], []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs, train, val), daemon=True)
            worker.start()
            ends.append(ours)
            workers.append(worker)
        for end in ends:
            end.recv()  # it is up, and has its faces
        started = time.perf_counter()
        for end in ends:
            self._hand_out(end)
        while self._running:
            ready = wait(list(self._running))
            for end in [end for end in self._running if end in ready]:
                self._hear(end, end.recv(), began)
        over = time.perf_counter()
        for end, worker in zip(ends, workers, strict=True):
            end.send(None)
            worker.join()
        return Spent(
            tuple(self._reached),
            seconds=over - began,
            start_s=started - began,
            training_s=self._training,
            suggesting_s=self._suggesting,
            epochs=self._epochs,
            stopped=self._stopped,
            slots=processes,
        )

    def _hand_out(self, end: Connection) -> None:
        """The next trial, where one is left."""
        if self._begun == self._spec.trials:
            return
        asked = time.perf_counter()
        with without_warnings():
            trial = self._study.ask(self._space)
        self._suggesting += time.perf_counter() - asked
        self._begun += 1
        self._running[end] = _Trial(trial, self._latencies[network_of(self._spec, trial.params)], [])
        end.send(trial_spec(self._spec, trial.params))

    def _hear(self, end: Connection, said: tuple[float, float, bool], began: float) -> None:
        """An epoch's error, the seconds it took, and whether it was the last."""
        error, seconds, last = said
        running = self._running[end]
        running.errors.append(error)
        self._epochs += 1
        self._training += seconds
        point = (min(running.errors), running.latency_ms)
        if not last:
            goes_on = self._pruner.goes_on(len(running.errors), point)
            end.send(goes_on)
            if goes_on:
                return
            self._stopped += 1
            self._study.tell(running.trial, state=TrialState.PRUNED)
        else:
            self._pruner.complete()
            self._study.tell(running.trial, list(point))
            self._reached.append(Reached(time.perf_counter() - began, point))
        del self._running[end]
        self._hand_out(end)


def _work(end: Connection, train: Columns, val: Columns) -> None:
    """A worker: specs come, the error of each epoch goes; None ends it."""
    from agesearch.training.loop import use_threads

    use_threads(1)
    cache: Views = {}
    end.send(True)
    while True:
        spec: TrainSpec | None = end.recv()
        if spec is None:
            return
        before = time.perf_counter()

        def told(epoch: int, error: float) -> bool:
            nonlocal before
            end.send((error, time.perf_counter() - before, False))
            answer: Any = end.recv()
            before = time.perf_counter()
            return bool(answer)

        curve = train_plainly(spec, train, val, cache=cache, goes_on=told)
        if len(curve) == spec.optim.epochs:
            end.send((curve[-1], time.perf_counter() - before, True))
