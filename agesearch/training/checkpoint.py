"""Where a training stands after an epoch, in one file: what a killed run needs to go on undisturbed."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from agesearch.models.manifest import MAX_WEIGHTS_BYTES
from agesearch.storage import Location

#: Weights, two moments of the optimiser and the best weights.
_MAX_BYTES = 4 * MAX_WEIGHTS_BYTES

FILE = "checkpoint/state.pt"

StateDict = dict[str, Tensor]


@dataclass
class TrainState:
    """After ``epochs`` whole epochs: the weights, the optimiser, torch's random state, and the best epoch so
    far with its weights and metrics.
    """

    spec_digest: str
    epochs: int = 0
    student: StateDict = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    random: Tensor | None = None
    best: StateDict = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)


def save_state(folder: Location, state: TrainState) -> None:
    """Write the state atomically: a kill leaves the earlier one."""
    buffer = io.BytesIO()
    torch.save(dict(vars(state)), buffer)
    (folder / FILE).write_bytes(buffer.getvalue())


def load_state(folder: Location, spec_digest: str) -> TrainState | None:
    """The state of a run with the same spec; None where there is none, or what is there cannot be used."""
    file = folder / FILE
    if not file.exists():
        return None
    try:
        content = torch.load(io.BytesIO(file.read_bytes(_MAX_BYTES)), map_location="cpu", weights_only=True)
        state = TrainState(**content)
    except Exception:  # a damaged checkpoint costs its epochs, never the run
        return None
    return state if state.spec_digest == spec_digest else None


def delete_state(folder: Location) -> None:
    """Remove the checkpoint of a finished run."""
    (folder / FILE.split("/", maxsplit=1)[0]).delete()
