"""[ray] One trial inside its reused Tune actor, and its card in the Ray dashboard.

Imported late, once ``ray_session`` has set Ray's environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import ray
from ray import tune

from agesearch.metrics import EPOCH, EPOCH_SECONDS
from agesearch.search.keeper import COMPLETED, FAILED, OUTCOME, REASON, SECONDS
from agesearch.specs import CropSpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.loop import Place

Report = Callable[[dict[str, float]], None]


class Trainer(Protocol):
    """Trains one student into the folder ``out``, from its checkpoint where there is one.

    Calls ``report`` after each epoch (``epoch``, ``val_mae_years``...) and returns the final metrics.
    """

    def __call__(
        self,
        spec: TrainSpec,
        train: Any,
        val: Any,
        out: Location,
        crop: CropSpec,
        *,
        report: Report = ...,
        resume: bool = True,
        place: Place = ...,
    ) -> dict[str, float]: ...


@dataclass(frozen=True)
class TrialInputs:
    """What all trials of a study share; the datasets lie in Ray's object store, once.

    ``workers`` processes train a trial together, each with so many GPUs; one is the trial's actor itself.
    """

    trainer: Trainer
    train: Any
    val: Any
    crop: CropSpec
    workers: int = 1
    gpus_per_worker: float = 0.0

    def on_workers(self, workers: int, gpus: float) -> TrialInputs:
        """The same, for trials on so many workers with so many GPUs each."""
        return replace(self, workers=workers, gpus_per_worker=gpus)


def run_trial(config: dict[str, Any], inputs: TrialInputs) -> None:
    """One trial, inside the reused Tune actor: train, report each epoch, and end with an outcome.

    A configuration that fails is reported as such, with its reason: it must never end the study.
    """
    spec = TrainSpec.model_validate_json(config["spec"])
    out = Location.of(config["folder"]).make_dir()
    (out / "spec.json").write_json(spec.model_dump(mode="json"))
    before, epoch = _trained_before(out), 0
    started = time.perf_counter() - before

    def report(metrics: dict[str, float]) -> None:
        nonlocal epoch
        epoch = int(metrics.get(EPOCH, epoch))
        tune.report({**metrics, SECONDS: time.perf_counter() - started})

    try:
        if inputs.workers > 1:
            from agesearch.search.together import train_together

            final = train_together(spec, inputs, out, before)
        else:
            final = inputs.trainer(
                spec, inputs.train, inputs.val, out, inputs.crop, report=report, resume=True
            )
        # The best epoch's metrics, but the epochs trained: those were the trial's budget.
        last: dict[str, Any] = {**final, EPOCH: epoch or spec.optim.epochs, OUTCOME: COMPLETED}
    except Exception as error:  # anything a configuration can provoke: divergence, memory, a bad weights file
        last = {EPOCH: epoch, OUTCOME: FAILED, REASON: _described(error)}
    tune.report({**last, SECONDS: time.perf_counter() - started})


def _trained_before(out: Location) -> float:
    """Seconds that earlier attempts spent on the epochs this one goes on from, by the learning curve."""
    curve = out / "curve.jsonl"
    if not curve.exists():
        return 0.0
    total = 0.0
    for line in curve.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError, TypeError, ValueError):  # a line cut by a kill
            total += float(dict(json.loads(line)).get(EPOCH_SECONDS, 0.0))
    return total


def _described(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300] if first else type(error).__name__


class Board:
    """Shows trials in the Ray dashboard: each is a task under its readable name, running, finished or failed.

    Tune's own actors are reused from trial to trial and keep one name; hence these cards, which cost one idle
    process for the study. A board that breaks is forgotten: it only shows.
    """

    def __init__(self) -> None:
        self._actor: Any = ray.remote(num_cpus=0)(_Cards).options(name="agesearch trials").remote()
        self._cards: dict[int, Any] = {}

    def show(self, number: int, name: str) -> None:
        """Put up a trial's card."""
        with contextlib.suppress(ray.exceptions.RayError):
            self._cards[number] = self._actor.show.options(name=name).remote(number)

    def take_down(self, number: int, failure: str = "") -> None:
        """End a trial's card, as failed with a reason where there is one."""
        card = self._cards.pop(number, None)
        if card is None:
            return
        with contextlib.suppress(ray.exceptions.RayError):
            self._actor.take_down.remote(number, failure)
            if failure:  # collected here, or Ray would print it as an error nobody handled
                ray.get(card, timeout=5)

    def close(self) -> None:
        """Take the whole board down."""
        ray.kill(self._actor)


class _Cards:
    """The asyncio actor behind ``Board``: a call to ``show`` lasts as long as its trial."""

    def __init__(self) -> None:
        self._ends: dict[int, asyncio.Future[str]] = {}

    async def show(self, number: int) -> None:
        self._ends.setdefault(number, asyncio.get_running_loop().create_future())
        failure = await self._ends[number]
        del self._ends[number]
        if failure:
            raise RuntimeError(failure)

    async def take_down(self, number: int, failure: str) -> None:
        self._ends.setdefault(number, asyncio.get_running_loop().create_future())
        if not self._ends[number].done():
            self._ends[number].set_result(failure)
