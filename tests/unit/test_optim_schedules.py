"""Optimisers and schedules: rates worked out by hand, what decays, and one step of each."""

from typing import get_args

import pytest
import torch
from torch import nn

from agesearch.errors import InputError
from agesearch.models.zoo import build
from agesearch.specs import ModelSpec, OptimSpec, TrainSpec
from agesearch.training.optim import OPTIMISERS, SCHEDULES, make_optimiser, rate_factor


def test_the_rate_warms_up_and_falls_to_almost_nothing() -> None:
    spec = OptimSpec(epochs=10, warmup_epochs=1.0)
    factors = [rate_factor(step, 10, spec) for step in range(100)]
    assert factors.index(max(factors)) == 10
    assert max(factors) == 1.0
    assert 0 < factors[-1] < 0.001
    assert all(a < b for a, b in zip(factors[:10], factors[1:11], strict=True))
    assert all(a > b for a, b in zip(factors[10:], factors[11:], strict=False))


def test_steps_multiply_the_rate_by_the_decay_every_so_many_epochs() -> None:
    spec = OptimSpec(schedule="steps", decay=0.2, decay_every=20, epochs=70, warmup_epochs=0.0)
    rates = [rate_factor(epoch * 5 + 4, 5, spec) for epoch in (0, 19, 20, 39, 40, 69)]
    assert rates == pytest.approx([1.0, 1.0, 0.2, 0.2, 0.04, 0.008])
    assert rate_factor(100, 5, spec) == pytest.approx(0.2)  # the first step of epoch 20


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_and_normalisation_do_not_decay(name: str) -> None:
    net = build(ModelSpec(arch="lcnet_035", input_size=32))
    spec = OptimSpec.model_validate({"optimiser": name, "weight_decay": 0.1})
    decayed, free = make_optimiser(net, spec).param_groups
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(free["params"]) == len(list(net.parameters()))


def test_sgd_gathers_the_gradient_and_the_penalty_in_its_momentum() -> None:
    net = nn.Linear(1, 1, bias=False)
    spec = OptimSpec(optimiser="sgd", learning_rate=0.1, momentum=0.5, weight_decay=0.2)
    optimiser = make_optimiser(net, spec)
    with torch.no_grad():
        net.weight.fill_(1.0)
    weight, velocity = 1.0, 0.0
    for _ in range(3):
        net.weight.grad = torch.full((1, 1), 3.0)
        optimiser.step()
        velocity = 0.5 * velocity + (3.0 + 0.2 * weight)
        weight -= 0.1 * velocity
    assert net.weight.item() == pytest.approx(weight, rel=1e-5)


def test_specs_name_exactly_the_rows_of_the_tables() -> None:
    fields = OptimSpec.model_fields
    assert set(get_args(fields["optimiser"].annotation)) == set(OPTIMISERS)
    assert set(get_args(fields["schedule"].annotation)) == set(SCHEDULES)
    spec = TrainSpec(model=ModelSpec(arch="lcnet_035"))
    with pytest.raises(InputError, match=r"optim.optimiser' must be 'adamw' or 'sgd', but is 'lion'"):
        spec.with_values({"optim.optimiser": "lion"})
