"""The groups head: its PMF, its loss as cross-entropy over groups, export, and starting from a prior."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from agesearch.ages import ADIENCE_CELLS, ADIENCE_GROUPS, BINS, adience_mass, group_cells, group_pmf
from agesearch.errors import InputError
from agesearch.models.heads.base import kl_divergence
from agesearch.models.heads.table import HEADS, GroupsHead, build_head
from agesearch.models.onnx import open_session, run_pmf
from agesearch.models.tracing import onnx_bytes
from agesearch.models.zoo import build
from agesearch.specs import ModelSpec

SPEC = ModelSpec(arch="lcnet_035", input_size=32, head="groups")


def _logits(count: int) -> torch.Tensor:
    return torch.randn(count, len(ADIENCE_GROUPS), generator=torch.Generator().manual_seed(0)) * 2


def test_cells_split_every_gap_half_way_and_cover_all_ages() -> None:
    np.testing.assert_array_equal(group_cells(ADIENCE_GROUPS), ADIENCE_CELLS)
    assert len(ADIENCE_CELLS) == BINS
    # half of each gap, by hand: 3, 7 and 14 stand half way, and go to the older group
    first = [int(np.argmax(cell == ADIENCE_CELLS)) for cell in range(8)]
    assert first == [0, 3, 7, 14, 23, 35, 46, 57]
    for cell, (low, high) in enumerate(ADIENCE_GROUPS):
        assert set(ADIENCE_CELLS[low : high + 1]) == {cell}


def test_the_mass_of_each_cell_is_the_softmax_over_the_groups_and_even_inside() -> None:
    raw = _logits(5)
    pmf = torch.softmax(GroupsHead(SPEC, 4).logits(raw), dim=-1)
    np.testing.assert_allclose(adience_mass(pmf.numpy()), torch.softmax(raw, dim=-1), atol=1e-6)
    inside = pmf[:, ADIENCE_CELLS == 4]
    torch.testing.assert_close(inside, inside[:, :1].expand_as(inside))


def test_the_label_loss_is_the_cross_entropy_over_the_groups_plus_a_constant_of_the_label() -> None:
    head, raw = GroupsHead(SPEC, 4), _logits(6).requires_grad_()
    target = torch.tensor([0, 1, 2, 4, 6, 7])
    low, high = np.array([ADIENCE_GROUPS[index] for index in target]).T
    label = torch.from_numpy(group_pmf(low, high))
    widths = torch.bincount(torch.from_numpy(ADIENCE_CELLS))[target].float()
    constant = torch.log(widths / torch.from_numpy(high - low + 1.0).float())
    loss = kl_divergence(label, torch.log_softmax(head.logits(raw), dim=-1))
    known = cross_entropy(raw, target, reduction="none")
    torch.testing.assert_close(loss, known + constant)
    (ours,) = torch.autograd.grad(loss.sum(), raw, retain_graph=True)
    (theirs,) = torch.autograd.grad(known.sum(), raw)
    torch.testing.assert_close(ours, theirs)


def test_a_groups_head_started_from_a_prior_answers_with_its_mass_by_cell() -> None:
    net = build(SPEC).eval()
    prior = group_pmf([0.0, 25.0, 25.0, 60.0], [2.0, 32.0, 32.0, 100.0]).mean(axis=0)
    net.head.start_from(prior)
    with torch.no_grad():
        pmf = torch.softmax(net(torch.full((1, 3, 32, 32), 128.0)), dim=-1).numpy()[0]
    np.testing.assert_allclose(adience_mass(pmf), [0.25, 0, 0, 0, 0.5, 0, 0, 0.25], atol=0.05)


def test_a_groups_network_exports_to_the_same_pmf() -> None:
    torch.manual_seed(0)
    net = build(SPEC).eval()
    torch.nn.init.normal_(net.head.linear.weight, std=1.0)  # type: ignore[union-attr,arg-type]
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        ours = torch.softmax(net(images), dim=-1).numpy()
    found = run_pmf(open_session(onnx_bytes(net, 32)), images.numpy())
    np.testing.assert_allclose(found, ours, atol=1e-5)
    assert found.shape == (3, BINS)


def test_dropout_acts_in_training_alone_and_adds_no_tensor() -> None:
    dropping = build(SPEC.model_copy(update={"dropout": 0.5}))
    assert set(dropping.state_dict()) == set(build(SPEC).state_dict())
    features = torch.ones(400, dropping.head.linear.in_features)  # type: ignore[union-attr,arg-type]
    dropped = dropping.head.train().dropout(features)  # type: ignore[operator]
    assert float((dropped == 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert torch.equal(dropping.head.eval().dropout(features), features)  # type: ignore[operator]


def test_heads_are_those_of_the_spec_and_an_unknown_one_lists_them() -> None:
    assert set(get_args(ModelSpec.model_fields["head"].annotation)) == set(HEADS)
    with pytest.raises(InputError, match=r"Unknown head 'corral'; .*: clipped, coral, corn"):
        build_head(SPEC.model_copy(update={"head": "corral"}), 4)


@pytest.mark.parametrize(
    "groups", [((0, 5), (5, 9)), ((9, 5), (10, 20)), ((50, 60), (0, 5)), ((0, 5), (90, 101))]
)
def test_groups_that_overlap_or_leave_the_axis_are_refused(groups: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match=r"ages in 0..100 that ascend and share no age"):
        ModelSpec(arch="lcnet_035", head="groups", groups=groups)
