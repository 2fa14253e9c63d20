"""Heads: exact conversions to a PMF, their authors' label losses, learning by them, extreme raw outputs."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agesearch.ages import AGES, BINS, age_spread, expected_age, gaussian_pmf, group_pmf
from agesearch.models.heads.table import HEADS, ClippedHead, CoralHead, CornHead, Head, build_head
from agesearch.specs import ModelSpec

FEATURES = 8
Floats = npt.NDArray[np.float64]


def _head(name: str, **values: object) -> Head:
    return build_head(ModelSpec(arch="lcnet_035", head=name, **values), FEATURES)  # type: ignore[arg-type]


def _raw(head: Head) -> torch.Tensor:
    """Raw outputs about as those in training are."""
    generator = torch.Generator().manual_seed(0)
    units = head(torch.zeros(1, FEATURES)).shape[1]
    raw = torch.randn(6, units, generator=generator)
    if isinstance(head, ClippedHead):
        raw[:, 0] = torch.tensor([-20.0, 0.4, 17.3, 50.0, 99.8, 130.0])
    return raw


def _pmf(head: Head, raw: torch.Tensor) -> Floats:
    with torch.no_grad():
        pmf: Floats = torch.softmax(head.logits(raw), dim=-1).double().numpy()
    return pmf


def _sigmoid(z: Floats) -> Floats:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("name", sorted(HEADS))
@settings(max_examples=8)
@given(scale=st.sampled_from([0.0, 1.0, 30.0, 1e3, 1e6, 1e12]), seed=st.integers(0, 99))
def test_every_raw_output_gives_a_pmf_and_finite_losses_and_gradients(
    name: str, scale: float, seed: int
) -> None:
    head = _head(name)
    units = head(torch.zeros(1, FEATURES)).shape[1]
    generator = torch.Generator().manual_seed(seed)
    raw = (torch.randn(5, units, generator=generator) * scale).requires_grad_()
    logits = head.logits(raw)
    pmf = torch.softmax(logits, dim=-1).detach().double().numpy()
    np.testing.assert_allclose(pmf.sum(axis=1), 1.0, atol=1e-5)
    cdf = pmf.cumsum(axis=1)
    assert (np.diff(cdf, axis=1) >= 0).all()
    np.testing.assert_allclose(pmf @ AGES, (cdf[:, -1:] - cdf[:, :-1]).sum(axis=1), atol=1e-3)

    ages = [0.0, 33.3, 100.0, float("nan"), float("nan")]
    label = np.concatenate([gaussian_pmf(ages[:3], 2.0), group_pmf([25.0], [32.0]), np.zeros((1, BINS))])
    targets = torch.from_numpy(label.astype(np.float32)), torch.tensor(ages)
    own = head.label_loss(raw, *targets)
    assert own.shape == (5,)
    towards_a_teacher = -(targets[0] * torch.log_softmax(logits, dim=-1)).sum()
    for loss in (own.sum(), towards_a_teacher):
        (gradient,) = torch.autograd.grad(loss, raw, retain_graph=True)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_started_from_a_prior_answers_about_it(name: str) -> None:
    head, prior = _head(name), gaussian_pmf(40.0, 8.0)
    head.start_from(prior)
    pmf = _pmf(head, head(torch.zeros(1, FEATURES)))
    assert expected_age(pmf)[0] == pytest.approx(40.0, abs=1.5)
    width = 2.0 if name == "clipped" else 8.0  # a little mass is kept at every age
    assert width - 0.01 < age_spread(pmf)[0] < 1.6 * width


def test_coral_answers_are_the_differences_of_its_cumulative_probabilities() -> None:
    head = _head("coral")
    assert isinstance(head, CoralHead)
    torch.nn.init.normal_(head.steps, std=3.0)
    raw = _raw(head) * 5
    with torch.no_grad():
        z = head.exceed_logits(raw).double().numpy()
    older = _sigmoid(z)
    assert (np.diff(z, axis=1) < 0).all()
    edges = np.concatenate([np.ones((6, 1)), older, np.zeros((6, 1))], axis=1)
    np.testing.assert_allclose(_pmf(head, raw), -np.diff(edges, axis=1), atol=1e-6)


def test_corn_answers_follow_the_chain_rule() -> None:
    head = _head("corn")
    raw = _raw(head)
    conditional = _sigmoid(raw.double().numpy())
    older = np.concatenate([np.ones((6, 1)), conditional.cumprod(axis=1)], axis=1)
    np.testing.assert_allclose(_pmf(head, raw)[:, :-1], -np.diff(older, axis=1), atol=1e-6)
    np.testing.assert_allclose(_pmf(head, raw)[:, -1], older[:, -1], atol=1e-6)


def _certain(ages: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.eye(BINS)[ages], torch.tensor(ages, dtype=torch.float32)


def test_the_loss_of_coral_is_the_papers() -> None:
    head, ages = _head("coral"), [0, 7, 40, 41, 99, 100]
    assert isinstance(head, CoralHead)
    raw = _raw(head)
    with torch.no_grad():
        ours = head.label_loss(raw, *_certain(ages)).numpy()
        z = head.exceed_logits(raw).double().numpy()
    levels = np.array([[float(age > k) for k in range(100)] for age in ages])
    s = _sigmoid(z)
    theirs = -(levels * np.log(s) + (1 - levels) * np.log(1 - s)).sum(axis=1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_the_loss_of_corn_is_the_papers_times_the_size_of_its_subsets() -> None:
    head, ages = _head("corn"), np.array([0, 7, 40, 41, 99, 100])
    raw = _raw(head)
    z = raw.double().numpy()
    total, members = 0.0, 0
    for k in range(100):  # task k learns from the faces whose rank is beyond k - 1
        subset = ages > k - 1
        older = ages[subset] > k
        f = _sigmoid(z[subset, k])
        total -= np.where(older, np.log(f), np.log(1 - f)).sum()
        members += int(subset.sum())
    ours = head.label_loss(raw, *_certain(ages.tolist())).mean().item()
    assert ours * len(ages) / members == pytest.approx(total / members, rel=1e-5)


def test_a_soft_label_of_corn_is_the_mean_of_its_certain_ones() -> None:
    head = _head("corn")
    raw = _raw(head)[:1]
    label = torch.from_numpy(group_pmf([25.0], [32.0]))
    each = head.label_loss(raw.expand(8, -1), *_certain(list(range(25, 33))))
    torch.testing.assert_close(head.label_loss(raw, label, torch.tensor([float("nan")])), each.mean()[None])


def test_the_gaussian_head_gives_the_discrete_gaussian_and_its_likelihood() -> None:
    head = _head("gaussian")
    raw = torch.tensor([[3.33, 0.1], [0.2, 0.4], [9.9, -0.7]])
    spread = 5 * 10 ** np.tanh(raw[:, 1].double().numpy())
    mean = 10 * raw[:, 0].double().numpy()
    np.testing.assert_allclose(_pmf(head, raw), gaussian_pmf(mean, spread), atol=1e-6)
    ages = np.array([30.2, 0.0, 100.0])
    mass = np.exp(-0.5 * ((AGES - mean[:, None]) / spread[:, None]) ** 2).sum(axis=1)
    known = 0.5 * ((ages - mean) / spread) ** 2 + np.log(mass)
    label = torch.from_numpy(gaussian_pmf(ages, 2.0))
    found = head.label_loss(raw, label, torch.from_numpy(ages.astype(np.float32)))
    np.testing.assert_allclose(found.numpy(), known, rtol=1e-4)
    group = torch.from_numpy(group_pmf([25.0] * 3, [26.0] * 3))
    of_group = head.label_loss(raw, group, torch.full((3,), float("nan")))
    ends = [head.label_loss(raw, group, torch.full((3,), age)) for age in (25.0, 26.0)]
    torch.testing.assert_close(of_group, (ends[0] + ends[1]) / 2)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 20.0])
def test_the_clipped_head_expects_the_clipped_age_and_keeps_a_gradient_of_one(sigma: float) -> None:
    head = _head("clipped", head_sigma=sigma)
    raw = torch.cat([torch.linspace(-3.0, 103.0, 213), torch.tensor([-1e4, 1e4])])[:, None].requires_grad_()
    pmf = torch.softmax(head.logits(raw), dim=-1)
    expected = pmf @ torch.from_numpy(AGES)
    clipped = raw.detach()[:, 0].clamp(0.05, 99.95)
    torch.testing.assert_close(expected.detach(), clipped, atol=5e-4, rtol=0.0)
    (gradient,) = torch.autograd.grad(expected.sum(), raw)
    torch.testing.assert_close(gradient, torch.ones_like(gradient), atol=0.02, rtol=0.0)
    middle = age_spread(pmf.detach().numpy()[106])
    assert middle == pytest.approx(float(age_spread(gaussian_pmf(50.0, sigma))), abs=0.01)


def test_the_clipped_head_is_trained_by_the_squared_error_of_its_unit() -> None:
    head = _head("clipped")
    label = torch.from_numpy(np.concatenate([gaussian_pmf([1.0, 90.0], 5.0), group_pmf([25.0], [32.0])]))
    raw = torch.tensor([[-9.0], [130.0], [30.0]])
    found = head.label_loss(raw, label, torch.tensor([1.0, 90.0, float("nan")]))
    torch.testing.assert_close(found, torch.tensor([100.0, 1600.0, 1.5**2]))


@pytest.mark.parametrize("name", sorted(HEADS))
def test_each_head_learns_a_few_faces_by_its_own_loss(name: str) -> None:
    torch.manual_seed(0)
    ages = torch.tensor([2.0, 5.0, 10.0, 17.0, 28.0, 40.0, 50.0, 70.0])
    features = torch.randn(8, FEATURES)
    head = _head(name)
    head.start_from(gaussian_pmf(30.0, 15.0))
    label = torch.from_numpy(gaussian_pmf(ages.numpy(), 1.0))
    before = np.abs(expected_age(_pmf(head, head(features))) - ages.numpy()).mean()
    optimiser = torch.optim.Adam(head.parameters(), lr=0.03 if name == "gaussian" else 0.3)
    for _ in range(150):
        loss = head.label_loss(head(features), label, ages).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        error = np.abs(expected_age(_pmf(head, head(features))) - ages.numpy())
    assert error.mean() < 5.0 < 15.0 < before


def test_corn_and_softmax_agree_on_what_a_label_costs() -> None:
    label, age = torch.from_numpy(gaussian_pmf([40.0], 3.0)), torch.tensor([40.0])
    corn = _head("corn")
    raw = _raw(corn)[:1]
    entropy = -torch.xlogy(label, label).sum()
    as_softmax = _head("softmax").label_loss(corn.logits(raw), label, age)
    torch.testing.assert_close(corn.label_loss(raw, label, age), as_softmax + entropy)
    assert isinstance(corn, CornHead)
