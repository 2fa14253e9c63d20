"""An exponential moving average of a network's weights along its training (Polyak 1992; Tarvainen 2017).

Its answers swing less from epoch to epoch than those of the last step's weights, at the cost of a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

#: The average follows the weights this much faster at first: after k steps its decay is at most
#: (1 + k) / (10 + k), so that it forgets where they began.
_FIRST_STEPS = 10


class WeightAverage:
    """The average of the weights of ``net``, and of its normalisation's statistics, with ``decay`` a step; a
    decay of 0 averages nothing and costs nothing.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._net, self._decay, self._steps = net, decay, 0
        self._average = _copy(net) if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        if not self._average:
            return
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (_FIRST_STEPS + self._steps))
        for name, value in self._net.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1.0 - decay)
            else:
                self._average[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the network has the averaged weights."""
        if not self._average:
            yield
            return
        last = _copy(self._net)
        self._net.load_state_dict(self._average)
        try:
            yield
        finally:
            self._net.load_state_dict(last)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, on the CPU; empty where nothing is averaged."""
        if not self._average:
            return {}
        kept = {name: value.detach().cpu().clone() for name, value in self._average.items()}
        return kept | {_STEPS: torch.tensor(self._steps)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave; the average starts from the network as it is where there is none."""
        if not self._average:
            return
        self._average = _copy(self._net)
        for name, value in state.items():
            if name == _STEPS:
                self._steps = int(value)
            else:
                self._average[name].copy_(value)


#: The number of steps among the tensors of a state; no network has a tensor of this name.
_STEPS = "steps of the average"


def _copy(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}
