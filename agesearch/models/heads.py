"""What turns a backbone's features into a probability mass over the ages 0..100.

A head returns its own raw outputs (``forward``), and ``logits`` maps these to 101 values whose softmax is the
PMF. So every loss, export and metric sees the same thing, whatever a head trains on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agesearch.ages import BINS, FloatArray
from agesearch.errors import unknown_name


class Head(nn.Module):
    """Base of all heads: features ``[B, F]`` -> raw outputs -> logits ``[B, 101]``."""

    def logits(self, raw: Tensor) -> Tensor:
        """Raw outputs -> ``[B, 101]`` whose softmax is the PMF."""
        raise NotImplementedError

    def start_from(self, prior: FloatArray) -> None:
        """Set the biases so that an untrained head answers about ``prior`` ``[101]`` for every face."""
        raise NotImplementedError


class SoftmaxHead(Head):
    """One linear unit an age, softmax over them (label distribution learning, Gao 2017)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, BINS)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``[B, F]`` -> logits ``[B, 101]``."""
        logits: Tensor = self.linear(features)
        return logits

    def logits(self, raw: Tensor) -> Tensor:
        """The raw outputs are the logits."""
        return raw

    def start_from(self, prior: FloatArray) -> None:
        """The bias becomes the log of the prior, with a little mass kept at every age."""
        mass = torch.from_numpy(prior) + 1e-3
        with torch.no_grad():
            self.linear.bias.copy_(torch.log(mass / mass.sum()))


HEADS: dict[str, type[SoftmaxHead]] = {"softmax": SoftmaxHead}


def build_head(name: str, features: int) -> Head:
    """A head of the table, fresh; an unknown name is an ``InputError`` that lists the known ones."""
    if name not in HEADS:
        raise unknown_name("head", name, HEADS)
    return HEADS[name](features)
