"""Order losses against their papers' formulas, and what must hold for any scores."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from torch import Tensor

from agesearch.distill.order_losses import (
    ORDER_LOSSES,
    exact_match,
    kendall_tau,
    order_loss,
    sinkhorn,
    softsort,
)
from agesearch.errors import InputError

SCORES = torch.tensor([[0.3, -1.2, 2.0, 0.9]], dtype=torch.float64)
AGES = torch.tensor([[20.0, 5.0, 60.0, 41.0]], dtype=torch.float64)

Drawn = tuple[Tensor, Tensor, Tensor]


def _drawn(seed: int, length: int = 6) -> Drawn:
    """Scores and distinct ages of two sequences, and a permutation of their places."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, length, generator=generator, dtype=torch.float64)
    ages = torch.stack([torch.randperm(90, generator=generator)[:length] for _ in range(2)]).double()
    return scores, ages, torch.randperm(length, generator=generator)


def test_softsort_is_the_papers_formula() -> None:
    s = SCORES[0].numpy()
    distance = np.abs(np.sort(s)[:, None] - s[None, :])
    expected = np.exp(-distance / 0.7) / np.exp(-distance / 0.7).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softsort(SCORES, 0.7)[0], expected, atol=1e-12)
    true = np.argsort(AGES[0].numpy())
    cross_entropy = -np.mean([np.log(expected[rank, face]) for rank, face in enumerate(true)])
    assert float(ORDER_LOSSES["softsort"](SCORES, AGES, 0.7)) == pytest.approx(cross_entropy, abs=1e-10)


def test_sinkhorn_is_repeated_normalisation_of_the_exponential() -> None:
    ranks = np.arange(4) - 1.5
    matrix = np.exp(ranks[:, None] * SCORES[0].numpy()[None, :] / 0.5)
    for _ in range(20):
        matrix = matrix / matrix.sum(axis=0, keepdims=True)
        matrix = matrix / matrix.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sinkhorn(SCORES, 0.5)[0], matrix, atol=1e-10)
    cross_entropy = -np.mean(
        [np.log(matrix[rank, face]) for rank, face in enumerate(np.argsort(AGES[0].numpy()))]
    )
    assert float(ORDER_LOSSES["sinkhorn"](SCORES, AGES, 0.5)) == pytest.approx(cross_entropy, abs=1e-8)


def test_listmle_is_the_plackett_luce_likelihood() -> None:
    s = np.exp(SCORES[0].numpy() / 2.0)
    left = list(np.argsort(-AGES[0].numpy()))
    likelihood = 1.0
    while left:
        likelihood *= s[left[0]] / s[left].sum()
        left.pop(0)
    assert float(ORDER_LOSSES["listmle"](SCORES, AGES, 2.0)) == pytest.approx(
        -np.log(likelihood) / 4, abs=1e-10
    )


@pytest.mark.parametrize("relaxed", [softsort, sinkhorn])
@given(seed=st.integers(0, 10_000))
def test_relaxed_permutations_follow_their_elements(relaxed: Callable[..., Tensor], seed: int) -> None:
    scores, _, places = _drawn(seed)
    moved = relaxed(scores[:, places], 0.8)
    torch.testing.assert_close(moved, relaxed(scores, 0.8)[:, :, places], atol=1e-9, rtol=0.0)


@given(seed=st.integers(0, 10_000))
def test_rows_are_distributions_and_sinkhorns_columns_nearly(seed: int) -> None:
    scores, _, _ = _drawn(seed)
    ones = torch.ones(2, 6, dtype=torch.float64)
    torch.testing.assert_close(softsort(scores, 1.0).sum(-1), ones, atol=1e-9, rtol=0.0)
    found = sinkhorn(scores, 5.0, rounds=200)
    torch.testing.assert_close(found.sum(-1), ones, atol=1e-9, rtol=0.0)
    torch.testing.assert_close(found.sum(-2), ones, atol=1e-3, rtol=0.0)


def test_without_temperature_both_are_the_permutation_itself() -> None:
    order = SCORES[0].argsort()
    permutation = torch.eye(4, dtype=torch.float64)[order]
    torch.testing.assert_close(softsort(SCORES, 1e-3)[0], permutation, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(sinkhorn(SCORES, 0.05, rounds=3000)[0], permutation, atol=1e-2, rtol=0.0)


@pytest.mark.parametrize("name", sorted(ORDER_LOSSES))
@given(seed=st.integers(0, 10_000))
def test_a_loss_does_not_see_how_the_sequence_was_shuffled(name: str, seed: int) -> None:
    scores, ages, places = _drawn(seed)
    loss = order_loss(name)
    torch.testing.assert_close(
        loss(scores[:, places], ages[:, places], 1.0), loss(scores, ages, 1.0), atol=1e-8, rtol=0.0
    )


@pytest.mark.parametrize("name", sorted(ORDER_LOSSES))
def test_the_right_order_costs_least_and_gradients_are_finite(name: str) -> None:
    loss = order_loss(name)
    right = AGES / 10.0
    costs = [float(loss(scores, AGES, 1.0)) for scores in (right, SCORES, -right)]
    assert all(less < more for less, more in pairwise(costs))
    extreme = torch.tensor([[1e4, -1e4, 0.0, 1e4]], dtype=torch.float64, requires_grad=True)
    loss(extreme, AGES, 1.0).sum().backward()  # type: ignore[no-untyped-call]
    assert extreme.grad is not None
    assert torch.isfinite(extreme.grad).all()


@given(seed=st.integers(0, 10_000))
def test_kendalls_tau_is_scipys(seed: int) -> None:
    scores, ages, _ = _drawn(seed)
    expected = [kendalltau(s, a).statistic for s, a in zip(scores, ages, strict=True)]
    np.testing.assert_allclose(kendall_tau(scores, ages), expected, atol=1e-6)


def test_an_exact_match_has_every_face_at_its_rank() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [2.0, 2.0, 3.0]])
    ages = torch.tensor([[10.0, 20.0, 30.0]]).expand(3, 3)
    assert exact_match(scores, ages).tolist() == [1.0, 0.0, 0.0]


def test_an_unknown_loss_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="listmle, sinkhorn, softsort"):
        order_loss("bubble")
