"""The optimiser and how its learning rate goes, step by step: one table each.

Adding an optimiser or a schedule is a function, a row here, and its name in ``OptimSpec``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from agesearch.specs import OptimSpec

#: Gradients longer than this are shortened to it.
MAX_GRADIENT_NORM = 5.0


def adamw(net: nn.Module, spec: OptimSpec) -> AdamW:
    """AdamW that decays weight matrices and kernels only, not biases or normalisation."""
    return AdamW(_groups(net, spec), lr=spec.learning_rate, fused=True)


def sgd(net: nn.Module, spec: OptimSpec) -> SGD:
    """SGD with momentum; ``weight_decay`` is an L2 penalty on weight matrices and kernels, part of the
    gradient that the momentum gathers.
    """
    return SGD(_groups(net, spec), lr=spec.learning_rate, momentum=spec.momentum)


OPTIMISERS: dict[str, Callable[[nn.Module, OptimSpec], Optimizer]] = {"adamw": adamw, "sgd": sgd}


def cosine(step: int, steps: int, warmup: int) -> float:
    """A cosine from 1 at the end of the warm-up that would reach 0 one step after the last."""
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def stairs(epoch: int, spec: OptimSpec) -> float:
    """``decay ** floor(epoch / decay_every)``, epochs from 0 (Greco 2021)."""
    return spec.decay ** (epoch // spec.decay_every)


#: ``(step, steps of an epoch, warm-up steps, spec)`` -> share of the learning rate after the warm-up.
SCHEDULES: dict[str, Callable[[int, int, int, OptimSpec], float]] = {
    "cosine": lambda step, each, warmup, spec: cosine(step, each * spec.epochs, warmup),
    "steps": lambda step, each, _, spec: stairs(step // each, spec),
}


def make_optimiser(net: nn.Module, spec: OptimSpec) -> Optimizer:
    """The optimiser that ``spec`` names, over the parameters of ``net`` that can be trained."""
    return OPTIMISERS[spec.optimiser](net, spec)


def rate_factor(step: int, steps_per_epoch: int, spec: OptimSpec) -> float:
    """The share of the learning rate at ``step`` (from 0): up to 1 over the warm-up, then by schedule."""
    warmup = round(spec.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return SCHEDULES[spec.schedule](step, steps_per_epoch, warmup, spec)


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def _groups(net: nn.Module, spec: OptimSpec) -> list[dict[str, Any]]:
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
