"""What turns a backbone's features into a probability mass over the ages 0..100.

A head returns its own raw outputs (``forward``), and ``logits`` maps these to 101 values whose softmax is the
PMF. So every loss, export and metric sees the same thing, whatever a head trains on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agesearch.ages import BINS, FloatArray, group_cells
from agesearch.errors import unknown_name
from agesearch.specs import ModelSpec


class Head(nn.Module):
    """Base of all heads: features ``[B, F]`` -> raw outputs -> logits ``[B, 101]``."""

    def logits(self, raw: Tensor) -> Tensor:
        """Raw outputs -> ``[B, 101]`` whose softmax is the PMF."""
        raise NotImplementedError

    def start_from(self, prior: FloatArray) -> None:
        """Set the biases so that an untrained head answers about ``prior`` ``[101]`` for every face."""
        raise NotImplementedError


class _LinearHead(Head):
    """Dropout, then one linear layer with ``units`` outputs, small at first so that the biases decide."""

    def __init__(self, spec: ModelSpec, features: int, units: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(spec.dropout)
        self.linear = nn.Linear(features, units)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``[B, F]`` -> raw outputs ``[B, units]``."""
        raw: Tensor = self.linear(self.dropout(features))
        return raw

    def _start(self, mass: Tensor) -> None:
        """The biases become the log of a mass [units], with a little kept for every unit."""
        kept = mass + 1e-3
        with torch.no_grad():
            self.linear.bias.copy_(torch.log(kept / kept.sum()))


class SoftmaxHead(_LinearHead):
    """One linear unit an age, softmax over them (label distribution learning, Gao 2017)."""

    def __init__(self, spec: ModelSpec, features: int) -> None:
        super().__init__(spec, features, BINS)

    def logits(self, raw: Tensor) -> Tensor:
        """The raw outputs are the logits."""
        return raw

    def start_from(self, prior: FloatArray) -> None:
        """The bias becomes the log of the prior, with a little mass kept at every age."""
        self._start(torch.from_numpy(prior))


class GroupsHead(_LinearHead):
    """One linear unit an age group, softmax over the groups: the classifier of Adience (Levi 2015).

    A group's probability is spread evenly over its cell, the ages that are nearest to the group, so that the
    PMF's mass in a cell is what the softmax over the groups says. With a label that is an even mass over ages
    of one cell, the label loss is the cross-entropy over the groups plus a constant of that label.
    """

    cells: Tensor
    log_width: Tensor

    def __init__(self, spec: ModelSpec, features: int) -> None:
        super().__init__(spec, features, len(spec.groups))
        cells = torch.from_numpy(group_cells(spec.groups))
        widths = torch.bincount(cells, minlength=len(spec.groups)).float()
        self.register_buffer("cells", cells, persistent=False)
        self.register_buffer("log_width", torch.log(widths)[cells], persistent=False)

    def logits(self, raw: Tensor) -> Tensor:
        """Logits of the groups ``[B, G]`` -> ``[B, 101]``: each age gets its cell's share of the group."""
        return raw.index_select(-1, self.cells) - self.log_width

    def start_from(self, prior: FloatArray) -> None:
        """The bias becomes the log of the prior's mass in each cell."""
        mass = torch.zeros(self.linear.out_features)
        self._start(mass.index_add(0, self.cells.cpu(), torch.from_numpy(prior).float()))


HEADS: dict[str, type[SoftmaxHead] | type[GroupsHead]] = {"softmax": SoftmaxHead, "groups": GroupsHead}


def build_head(spec: ModelSpec, features: int) -> Head:
    """The head that ``spec`` names, fresh; an unknown name is an ``InputError`` that lists the known ones."""
    if spec.head not in HEADS:
        raise unknown_name("head", spec.head, HEADS)
    return HEADS[spec.head](spec, features)
