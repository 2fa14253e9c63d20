"""Losses against values worked out by hand, and what must hold for any distribution."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agesearch.ages import BINS, gaussian_pmf, group_pmf
from agesearch.distill.losses import Targets
from agesearch.distill.pmf_losses import cdf_l1, mean_l1, mean_l2, soften, softened_kl
from agesearch.distill.task import DistillTask
from agesearch.errors import InputError
from agesearch.models.heads.base import kl_divergence
from agesearch.models.heads.table import Head
from agesearch.models.zoo import AgeNet
from agesearch.specs import DistillSpec


def _kl(logits: torch.Tensor, label_pmf: torch.Tensor) -> torch.Tensor:
    return kl_divergence(label_pmf, torch.log_softmax(logits, dim=-1))


def _point(age: int, rest: float = 0.0) -> torch.Tensor:
    pmf = torch.full((1, BINS), rest / (BINS - 1))
    pmf[0, age] = 1.0 - rest
    return pmf


def test_kl_of_a_certain_label_is_minus_log_of_its_mass() -> None:
    logits = torch.zeros(1, BINS)
    assert _kl(logits, _point(30)).item() == pytest.approx(math.log(101))


def test_mean_error_is_in_years() -> None:
    assert mean_l1(torch.log(_point(30) + 1e-30), torch.tensor([42.5])).item() == pytest.approx(12.5)
    assert mean_l1(torch.zeros(1, BINS), torch.tensor([50.0])).item() == pytest.approx(0.0, abs=1e-4)


def test_squared_error_is_to_the_age_or_to_the_middle_of_a_group() -> None:
    at_30 = torch.log(_point(30) + 1e-30).expand(2, BINS)
    label = torch.from_numpy(np.concatenate([gaussian_pmf([1.0], 5.0), group_pmf([25.0], [32.0])]))
    age = torch.tensor([1.0, float("nan")])  # the Gaussian at 1 is cut at 0: its mean is not 1
    assert mean_l2(at_30, age, label).tolist() == pytest.approx([29.0**2, 1.5**2], abs=1e-2)


def test_squared_error_is_off_until_asked_for_and_judges_groups_too() -> None:
    student = _Fixed(torch.zeros(2, BINS))
    assert "mse" not in DistillTask(student, DistillSpec()).losses
    targets = Targets(
        torch.tensor([float("nan")] * 2), torch.from_numpy(group_pmf([20.0, 40.0], [20.0, 40.0]))
    )
    terms = DistillTask(student, DistillSpec(label_weight=0, mean_weight=0, mse_weight=2.0))(
        torch.zeros(2), targets
    )
    assert terms["mse"].item() == pytest.approx((30**2 + 10**2) / 2, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(30**2 + 10**2, rel=1e-4)
    terms["loss"].backward()
    assert torch.isfinite(student.answer.grad).all()  # type: ignore[arg-type]


def test_wasserstein_between_two_certain_ages_is_their_distance() -> None:
    assert cdf_l1(torch.log(_point(20) + 1e-30), _point(57)).item() == pytest.approx(37.0, abs=1e-3)


def test_softening_divides_logits_by_the_temperature() -> None:
    logits = torch.randn(4, BINS, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        soften(torch.softmax(logits, dim=-1), 3.0), torch.softmax(logits / 3.0, dim=-1), atol=1e-6, rtol=1e-4
    )


def test_distillation_matches_torch_and_keeps_the_gradient_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 5, BINS, generator=generator)
    pmf = torch.softmax(teacher, dim=-1)
    for temperature in (1.0, 4.0):
        expected = temperature**2 * torch.nn.functional.kl_div(
            torch.log_softmax(student / temperature, -1),
            torch.softmax(teacher / temperature, -1),
            reduction="none",
        ).sum(-1)
        torch.testing.assert_close(softened_kl(student, pmf, temperature), expected, atol=1e-5, rtol=1e-4)


@given(
    age=st.floats(0, 100), sigma=st.floats(0.3, 20), temperature=st.floats(0.5, 8), other=st.floats(0, 100)
)
def test_losses_are_zero_at_the_target_positive_elsewhere_and_have_finite_gradients(
    age: float, sigma: float, temperature: float, other: float
) -> None:
    # float16 as stored: most ages have no mass at all
    pmf = torch.from_numpy(gaussian_pmf([age], sigma).astype(np.float16).astype(np.float32))
    pmf = pmf / pmf.sum()
    same = torch.log(pmf.clamp_min(1e-12)).requires_grad_()
    assert _kl(same, pmf).item() == pytest.approx(0.0, abs=1e-3)
    assert cdf_l1(same, pmf).item() == pytest.approx(0.0, abs=1e-2)
    away = torch.from_numpy(np.log(gaussian_pmf([other], 3.0) + 1e-9)).requires_grad_()
    for loss in (_kl(away, pmf), cdf_l1(away, pmf), softened_kl(away, pmf, temperature)):
        assert loss.item() >= -1e-4
        (gradient,) = torch.autograd.grad(loss.sum(), away, retain_graph=True)
        assert torch.isfinite(gradient).all()


class _AsTheyAre(Head):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def logits(self, raw: torch.Tensor) -> torch.Tensor:
        return raw


class _Fixed(AgeNet):
    """A student that answers every batch with its parameters."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__(torch.nn.Identity(), _AsTheyAre(), [0.0] * 3, [1.0] * 3, 32)
        self.answer = torch.nn.Parameter(logits)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.answer


def test_the_task_adds_weighted_terms_and_skips_faces_without_a_target() -> None:
    student = _Fixed(torch.randn(3, BINS, generator=torch.Generator().manual_seed(1)))
    labels = torch.from_numpy(gaussian_pmf([20.0, 40.0, 60.0], 2.0))
    labels[1] = 0.0
    targets = Targets(
        age=torch.tensor([20.0, float("nan"), 60.0]), label_pmf=labels, teacher_pmf=_point(30).expand(3, BINS)
    )
    spec = DistillSpec(label_weight=1.0, mean_weight=0.1, kd_weight=0.5, cdf_weight=0.2, temperature=2.0)
    terms = DistillTask(student, spec, has_teacher=True)(torch.zeros(3), targets)
    logits = student.answer.detach()
    label = _kl(logits, labels)[[0, 2]].sum() / 3
    mean = mean_l1(logits, targets.age)[[0, 2]].sum() / 3
    kd = softened_kl(logits, _point(30).expand(3, BINS), 2.0).mean()
    cdf = cdf_l1(logits, _point(30).expand(3, BINS)).mean()
    torch.testing.assert_close(terms["label"], label)
    torch.testing.assert_close(terms["loss"].detach(), label + 0.1 * mean + 0.5 * kd + 0.2 * cdf)
    terms["loss"].backward()
    assert torch.isfinite(student.answer.grad).all()  # type: ignore[arg-type]


def test_a_face_counts_as_much_as_its_weight() -> None:
    student = _Fixed(torch.randn(3, BINS, generator=torch.Generator().manual_seed(2)))
    labels = torch.from_numpy(gaussian_pmf([20.0, 40.0, 60.0], 2.0))
    targets = Targets(
        age=torch.tensor([20.0, 40.0, 60.0]), label_pmf=labels, weight=torch.tensor([0.0, 1.0, 2.0])
    )
    terms = DistillTask(student, DistillSpec(mean_weight=0.0))(torch.zeros(3), targets)
    each = _kl(student.answer.detach(), labels)
    torch.testing.assert_close(terms["loss"].detach(), (each[1] + 2 * each[2]) / 3)


def test_losses_without_targets_are_left_out_and_none_left_is_refused() -> None:
    student = _Fixed(torch.zeros(1, BINS))
    assert set(DistillTask(student, DistillSpec()).losses) == {"label", "mean"}
    assert set(DistillTask(student, DistillSpec(), has_labels=False, has_teacher=True).losses) == {"kd"}
    with pytest.raises(InputError, match="Nothing to train on: the faces have no labels"):
        DistillTask(student, DistillSpec(kd_weight=0.0), has_labels=False, has_teacher=True)


@pytest.mark.parametrize(("bound", "share"), [("off", 1.0), ("drop", 0.5), ("weight", 0.5 + 0.5 * 2 / 30)])
def test_the_task_takes_back_a_teacher_that_is_worse_than_the_student(bound: str, share: float) -> None:
    """Two faces of 30 years, the student right on both; the teacher says 30 and 60, that is 28 too far."""
    student = _Fixed(torch.log(_point(30, 1e-6)).expand(2, BINS).clone())
    teacher = torch.cat([_point(30), _point(60)])
    age = torch.tensor([30.0, 30.0])
    targets = Targets(age, torch.from_numpy(gaussian_pmf([30.0, 30.0], 2.0)), teacher)
    weights = {"kd_weight": 0.0, "scalar_weight": 1.0, "cdf_weight": 1.0}
    spec = DistillSpec.model_validate({**weights, "teacher_bound": bound, "teacher_bound_years": 2.0})
    terms = DistillTask(student, spec, has_teacher=True)(torch.zeros(2), targets)
    # the first face's terms are 0, the second's as much as the bound leaves of 30^2 years^2 and 30 years
    taken = 2 * share - 1
    assert float(terms["scalar"]) == pytest.approx(taken * 30**2 / 2, rel=1e-3, abs=1e-6)
    assert float(terms["cdf"]) == pytest.approx(taken * 30 / 2, rel=1e-3, abs=1e-3)
    assert float(terms["label"]) > 0
