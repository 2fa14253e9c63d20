"""Where a training stands, after an epoch or within one, in one file: what a killed run needs to go on
undisturbed.

The state before it is kept beside it, for the day that a disk damages the last one. What could not
be used is said by this module's logger, and costs its epochs, never the run.
"""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from agesearch.models.manifest import MAX_WEIGHTS_BYTES
from agesearch.storage import Location

#: Weights, two moments of the optimiser and the best weights.
_MAX_BYTES = 4 * MAX_WEIGHTS_BYTES

FILE = "checkpoint/state.pt"
BEFORE = "checkpoint/before.pt"

_log = logging.getLogger(__name__)

StateDict = dict[str, Tensor]

#: The states of a process's random generators: ``cpu``, and ``cuda`` where it has a GPU.
RandomStates = dict[str, Tensor]


@dataclass
class TrainState:
    """After ``epochs`` whole epochs, and ``step`` of the ``steps`` of the next one, on which ``seconds`` were
    spent: the weights, what the task trains besides, the optimiser, the random states and the running means
    of each worker by rank, the best epoch so far with its weights, metrics and answers, and the rows of the
    learning curve; ``average``: the averaged weights, where there are any.
    """

    spec_digest: str
    epochs: int = 0
    student: StateDict = field(default_factory=dict)
    task: StateDict = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    random: list[RandomStates] = field(default_factory=list)
    best: StateDict = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    best_answers: Tensor | None = None
    curve: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    means: list[dict[str, Any]] = field(default_factory=list)
    average: StateDict = field(default_factory=dict)

    def after_epoch(self, epochs: int) -> None:
        """So many epochs are over, and the next has not begun."""
        self.within(epochs, 0, 0, 0.0)
        self.means = []

    def within(self, epochs: int, step: int, steps: int, seconds: float) -> None:
        """So many epochs are over, and ``step`` of the ``steps`` of the next, after so many seconds."""
        self.epochs, self.step, self.steps, self.seconds = epochs, step, steps, seconds


@dataclass
class RunningMeans:
    """The mean loss a face, and its parts, over what one worker has trained on in an epoch so far: ``sums``
    over ``faces`` of its own; all workers together have trained on ``shown``.
    """

    faces: int = 0
    shown: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, terms: Mapping[str, Tensor], faces: int, shown: int) -> None:
        """The mean terms of a step over ``faces`` faces of this worker, ``shown`` of all."""
        self.faces, self.shown = self.faces + faces, self.shown + shown
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros(())) + value.detach().cpu() * faces

    @classmethod
    def of(cls, means: Sequence[Mapping[str, Any]], rank: int, world: int) -> Self | None:
        """One worker's from those that were kept, by rank; None where there are none. Where the workers were
        others, the first has the sums of all.
        """
        if not means:
            return None
        if len(means) == world:
            return cls(**means[rank])
        known = [cls(**one) for one in means] if rank == 0 else []
        names = means[0]["sums"]
        sums = {name: sum((one.sums[name] for one in known), torch.zeros(())) for name in names}
        return cls(sum(one.faces for one in known), means[0]["shown"], sums)

    @property
    def loss(self) -> float:
        """The mean loss a face so far."""
        return float(self.sums["loss"]) / self.faces if self.faces else math.nan


def save_state(folder: Location, state: TrainState) -> None:
    """Write the state atomically: a kill leaves an earlier one. Raises ``StorageFullError`` without room."""
    buffer = io.BytesIO()
    torch.save(dict(vars(state)), buffer)
    last = folder / FILE
    with last.staged() as written:
        with written.filesystem.open_output_stream(written.path) as stream:
            stream.write(buffer.getbuffer())
        if last.is_local and last.exists():
            os.replace(last.path, (folder / BEFORE).path)


def load_state(folder: Location, spec_digest: str) -> TrainState | None:
    """The last state of a run with the same spec that can be read; None where there is none."""
    damaged = False
    for name in (FILE, BEFORE):
        file = folder / name
        if not file.exists():
            continue
        try:
            state = _read(file)
        except Exception as error:  # torch, zip and pickle raise a dozen kinds for a damaged file
            damaged = True
            _log.debug("%s: %s", file, error)
            continue
        if state.spec_digest != spec_digest:
            return None
        if damaged:
            within = f", step {state.step} of the next" if state.step else ""
            _log.warning("its last checkpoint is damaged: going on after epoch %d%s", state.epochs, within)
        return state
    if damaged:
        _log.warning("its checkpoint is damaged: starting over")
    return None


def epochs_saved(folder: Location) -> float | None:
    """The epochs, and hundredths of one, after which a training that was stopped would go on; None where it
    would start anew.
    """
    for file in (folder / FILE, folder / BEFORE):
        with suppress(Exception):  # damaged, or not there: as in ``load_state``
            state = _read(file)
            return (100 * state.epochs + 100 * state.step // max(1, state.steps)) / 100
    return None


def _read(file: Location) -> TrainState:
    content = torch.load(io.BytesIO(file.read_bytes(_MAX_BYTES)), map_location="cpu", weights_only=True)
    random = content.get("random")
    if not isinstance(random, list):  # one tensor, or none, until the GPU's generator was kept too
        content["random"] = [] if random is None else [{"cpu": random}]
    return TrainState(**content)


def random_states() -> RandomStates:
    """The states of this process's generators, of its GPU too: dropout draws from that of the device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random(states: RandomStates) -> None:
    """Set the generators to what ``random_states`` gave; that of a GPU only where there is one."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def delete_state(folder: Location) -> None:
    """Remove the checkpoint of a finished run."""
    (folder / FILE.split("/", maxsplit=1)[0]).delete()
