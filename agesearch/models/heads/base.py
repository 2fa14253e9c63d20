"""What all heads share: the interface, and a linear layer. The heads themselves are in the table of
``agesearch.models.heads.table``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from agesearch.ages import BINS, FloatArray
from agesearch.specs import ModelSpec


class Head(nn.Module):
    """Base of all heads: features ``[B, F]`` -> raw outputs -> logits ``[B, 101]``."""

    def logits(self, raw: Tensor) -> Tensor:
        """Raw outputs -> ``[B, 101]`` whose softmax is the PMF."""
        raise NotImplementedError

    def label_loss(self, raw: Tensor, label_pmf: Tensor, age: Tensor) -> Tensor:
        """What this head is trained with on labels, one value a face ``[B]``.

        ``label_pmf`` ``[B, 101]`` is the label's distribution: about an age, or even over an age group.
        ``age`` ``[B]`` in years is NaN where only a group is known. Rows of ``label_pmf`` that are zero have
        no label: their value is finite and means nothing. Here: KL(label || PMF) (DLDL, Gao 2017).
        """
        return kl_divergence(label_pmf, torch.log_softmax(self.logits(raw), dim=-1))

    def start_from(self, prior: FloatArray) -> None:
        """Set the biases so that an untrained head answers about ``prior`` ``[101]`` for every face."""
        raise NotImplementedError


class LinearHead(Head):
    """Dropout, then one linear layer with ``units`` outputs, small at first so that the biases decide."""

    def __init__(self, spec: ModelSpec, features: int, units: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(spec.dropout)
        self.linear = nn.Linear(features, units)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``[B, F]`` -> raw outputs ``[B, units]``, in the precision of the weights."""
        raw: Tensor = self.linear(self.dropout(features.to(self.linear.weight.dtype)))
        return raw

    def _start(self, biases: Tensor) -> None:
        with torch.no_grad():
            self.linear.bias.copy_(biases)


def kl_divergence(target: Tensor, log_student: Tensor) -> Tensor:
    """KL(target || student) in nats: masses and log masses ``[..., K]`` -> ``[...]``; where the target has no
    mass nothing is added.
    """
    # xlogy: 0 log 0 is 0, which float16 targets need at most ages
    return (torch.xlogy(target, target) - target * log_student).sum(dim=-1)


def smoothed_pmf(prior: Tensor) -> Tensor:
    """A PMF ``[K]`` with a thousandth added everywhere, so that its log is finite; float64, of sum one."""
    kept = prior.double() + 1e-3
    return kept / kept.sum()


def uniform_pmf() -> FloatArray:
    """The PMF ``[101]`` that knows nothing."""
    return np.full(BINS, 1.0 / BINS, dtype=np.float32)


def label_mean(label_pmf: Tensor, age: Tensor) -> Tensor:
    """The label in years ``[B]``: the age itself, and the middle of the mass where only a group is known.

    The age, where it is known, and not the mean of its distribution: that is cut at 0 and 100.
    """
    ages = torch.arange(BINS, dtype=label_pmf.dtype, device=label_pmf.device)
    return torch.where(torch.isfinite(age), age.nan_to_num(), label_pmf @ ages)
