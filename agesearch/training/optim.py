"""The optimiser and its schedule: AdamW, a linear warm-up, then a cosine to zero, step by step."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW, Optimizer

from agesearch.specs import OptimSpec

#: Gradients longer than this are shortened to it.
MAX_GRADIENT_NORM = 5.0


def adamw(net: nn.Module, spec: OptimSpec) -> AdamW:
    """AdamW that decays weight matrices and kernels only, not biases or normalisation."""
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=spec.learning_rate, fused=True)


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """The share of the learning rate at ``step`` (from 0) of ``steps``: up to 1 over ``warmup`` steps, then a
    cosine that would reach 0 one step after the last.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    left = max(steps - warmup, 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / left))


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
