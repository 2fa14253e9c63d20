"""What turns a backbone's features into a probability mass over the ages 0..100: the table of heads.

A head returns its own raw outputs (``forward``); ``logits`` maps these to 101 values whose softmax is the
PMF, and ``label_loss`` is what the head's authors train the raw outputs with. So every export, metric and
teacher's loss sees the same thing, whatever a head trains on. Logits are made in the log domain: none, and
none of their gradients, becomes infinite, however far off a raw output is.

Adding a head is a class, a row of ``HEADS``, and its name in ``ModelSpec.head``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from agesearch.ages import BINS, FloatArray, group_cells
from agesearch.errors import unknown_name
from agesearch.models.heads.base import Head, LinearHead, smoothed_pmf
from agesearch.models.heads.ordinal import CoralHead, CornHead
from agesearch.models.heads.regression import ClippedHead, GaussianHead
from agesearch.specs import ModelSpec

__all__ = [
    "HEADS",
    "ClippedHead",
    "CoralHead",
    "CornHead",
    "GaussianHead",
    "GroupsHead",
    "Head",
    "SoftmaxHead",
    "build_head",
]


class SoftmaxHead(LinearHead):
    """One linear unit an age, softmax over them (label distribution learning, Gao 2017)."""

    def __init__(self, spec: ModelSpec, features: int) -> None:
        super().__init__(spec, features, BINS)

    def logits(self, raw: Tensor) -> Tensor:
        """The raw outputs are the logits."""
        return raw

    def start_from(self, prior: FloatArray) -> None:
        """The bias becomes the log of the prior, with a little mass kept at every age."""
        self._start(torch.log(smoothed_pmf(torch.from_numpy(prior))))


class GroupsHead(LinearHead):
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
        self._start(
            torch.log(smoothed_pmf(mass.index_add(0, self.cells.cpu(), torch.from_numpy(prior).float())))
        )


HEADS: dict[str, Callable[[ModelSpec, int], Head]] = {
    "softmax": SoftmaxHead,
    "groups": GroupsHead,
    "coral": CoralHead,
    "corn": CornHead,
    "gaussian": GaussianHead,
    "clipped": ClippedHead,
}


def build_head(spec: ModelSpec, features: int) -> Head:
    """The head that ``spec`` names, fresh; an unknown name is an ``InputError`` that lists the known ones."""
    if spec.head not in HEADS:
        raise unknown_name("head", spec.head, HEADS)
    return HEADS[spec.head](spec, features)
