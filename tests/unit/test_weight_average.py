"""The moving average of weights: what it is, when it is applied, and that a checkpoint keeps it."""

import pytest
import torch
from torch import nn

from agesearch.training.steps.averaging import WeightAverage


def _stepped(average: WeightAverage, net: nn.Linear, values: list[float]) -> None:
    for value in values:
        with torch.no_grad():
            net.weight.fill_(value)
        average.update()


def _net() -> nn.Linear:
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
    return net


def test_it_follows_fast_at_first_and_then_by_its_decay() -> None:
    net = _net()
    average = WeightAverage(net, 0.25)
    _stepped(average, net, [2.0, 4.0])
    first = 1.0 + (2.0 - 1.0) * (1 - 2 / 11)  # a decay of 2/11 after one step, 3/12 after two
    with average.applied():
        assert net.weight.item() == pytest.approx(0.25 * first + 0.75 * 4.0)
    assert net.weight.item() == 4.0


def test_without_a_decay_the_weights_stay_the_last_ones() -> None:
    net = _net()
    average = WeightAverage(net, 0.0)
    _stepped(average, net, [5.0])
    with average.applied():
        assert net.weight.item() == 5.0
    assert average.state() == {}


def test_a_checkpoint_goes_on_with_the_same_average() -> None:
    net, other = _net(), _net()
    whole, first = WeightAverage(net, 0.9), WeightAverage(other, 0.9)
    _stepped(whole, net, [2.0, 3.0, 4.0])
    _stepped(first, other, [2.0, 3.0])
    second = WeightAverage(other, 0.9)
    second.load(first.state())
    _stepped(second, other, [4.0])
    torch.testing.assert_close(second.state(), whole.state())
