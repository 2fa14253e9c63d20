"""Losses towards a teacher against the papers' formulas, written anew in NumPy."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from agesearch.ages import BINS, gaussian_pmf, group_pmf
from agesearch.distill.hints import feature_cosine, feature_mse
from agesearch.distill.pmf_losses import (
    correlation_between,
    correlation_within,
    decoupled_kl,
    expectation,
    scalar_l2,
    softened_kl,
    trust,
)
from agesearch.distill.relations import MAX_FACES, angle_loss, distance_loss

Floats = npt.NDArray[np.float64]
T = 2.5


def _logits(faces: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(faces, BINS, generator=torch.Generator().manual_seed(seed)) * 2


STUDENT, TEACHER_LOGITS = _logits(seed=0), _logits(seed=1)
TEACHER = torch.softmax(TEACHER_LOGITS, dim=-1)


def _softmax(z: Floats) -> Floats:
    mass = np.exp(z - z.max(axis=1, keepdims=True))
    found: Floats = mass / mass.sum(axis=1, keepdims=True)
    return found


def _kl(p: Floats, q: Floats) -> Floats:
    found: Floats = (p * np.log(p / q)).sum(axis=1)
    return found


def test_decoupled_distillation_with_a_window_of_one_age_is_the_papers() -> None:
    p, q = (_softmax(z.double().numpy() / T) for z in (TEACHER_LOGITS, STUDENT))
    target = np.round(_softmax(TEACHER_LOGITS.double().numpy()) @ np.arange(BINS))
    inside = np.arange(BINS) == target[:, None]
    binary = [np.stack([(x * inside).sum(1), (x * ~inside).sum(1)], axis=1) for x in (p, q)]
    others = []
    for x in (p, q):
        rest = np.where(inside, np.nan, x)
        others.append(rest / np.nansum(rest, axis=1, keepdims=True))
    nckd = np.nansum(others[0] * np.log(others[0] / others[1]), axis=1)
    theirs = T**2 * (1.5 * _kl(*binary) + 4.0 * nckd)
    ours = decoupled_kl(STUDENT, TEACHER, T, alpha=1.5, beta=4.0, window=0)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4)


@pytest.mark.parametrize("window", [0, 2])
def test_decoupled_distillation_is_the_plain_one_where_beta_is_the_mass_outside(window: int) -> None:
    # Zhao 2022: KD = TCKD + (1 - p_target) NCKD
    one = TEACHER[:1]
    outside = (torch.arange(BINS) - expectation(one).round()).abs() > window
    beta = float((one * outside).sum())
    found = decoupled_kl(STUDENT[:1], one, 1.0, alpha=1.0, beta=beta, window=window)
    torch.testing.assert_close(found, softened_kl(STUDENT[:1], one, 1.0), rtol=1e-4, atol=1e-5)


def test_decoupled_distillation_from_a_certain_teacher_is_finite() -> None:
    certain = torch.eye(BINS)[[0, 40, 100]]
    student = _logits(3).requires_grad_()
    for window in (0, 50):
        loss = decoupled_kl(student, certain, T, alpha=1.0, beta=8.0, window=window).sum()
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_dist_is_one_minus_pearsons_correlation() -> None:
    p, q = (_softmax(z.double().numpy() / T) for z in (TEACHER_LOGITS, STUDENT))
    between = [1 - np.corrcoef(p[face], q[face])[0, 1] for face in range(5)]
    within = np.mean([1 - np.corrcoef(p[:, age], q[:, age])[0, 1] for age in range(BINS)])
    found = correlation_between(STUDENT, TEACHER, T)
    np.testing.assert_allclose(found.numpy(), T**2 * np.array(between), rtol=1e-3)
    alike = correlation_within(STUDENT, TEACHER, T, torch.ones(5))
    assert alike.item() == pytest.approx(T**2 * within, rel=1e-2)  # 1e-8 in the paper's code, too


def test_a_face_without_weight_has_no_part_in_relations_within_the_batch() -> None:
    weight = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0])
    kept = [0, 1, 3]
    features, theirs = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(3)
    alone = [
        correlation_within(STUDENT[kept], TEACHER[kept], T, ones),
        distance_loss(features[kept], theirs[kept], ones),
        angle_loss(features[kept], theirs[kept], ones),
    ]
    among = [
        correlation_within(STUDENT, TEACHER, T, weight),
        distance_loss(features, theirs, weight),
        angle_loss(features, theirs, weight),
    ]
    torch.testing.assert_close(torch.stack(among), torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_standardised_logits_forget_their_mean_and_spread() -> None:
    def z(x: torch.Tensor) -> Floats:
        values = x.double().numpy()
        scored: Floats = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True, ddof=1)
        return scored

    # Sun 2024: the teacher's logits are known up to a constant, which the mean takes away
    theirs = T**2 * _kl(_softmax(z(TEACHER_LOGITS) / T), _softmax(z(STUDENT) / T))
    ours = softened_kl(STUDENT, TEACHER, T, standardise=True)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-3)
    other = softened_kl(STUDENT * 7 + 3, TEACHER, T, standardise=True)
    torch.testing.assert_close(other, ours, rtol=1e-3, atol=1e-4)


def test_the_scalar_loss_is_the_squared_difference_of_ages() -> None:
    q, p = (_softmax(x.double().numpy()) for x in (STUDENT, TEACHER_LOGITS))
    found = scalar_l2(STUDENT, TEACHER)
    np.testing.assert_allclose(found.numpy(), ((q - p) @ np.arange(BINS)) ** 2, rtol=1e-3)


def _rkd(student: Floats, teacher: Floats) -> tuple[float, float]:
    """RKD's two losses with loops over pairs and triplets."""

    def huber(x: float) -> float:
        return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5

    def cosine(x: Floats, i: int, j: int, k: int) -> float:
        a, b = x[i] - x[j], x[k] - x[j]
        length = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / length if length else 0.0

    n = len(student)
    far = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (student, teacher)]
    near = [x / x[x > 0].mean() for x in far]
    distance = np.mean([huber(near[0][i, j] - near[1][i, j]) for i in range(n) for j in range(n)])
    triplets = [(i, j, k) for i in range(n) for j in range(n) for k in range(n)]
    angle = np.mean([huber(cosine(student, *t) - cosine(teacher, *t)) for t in triplets])
    return float(distance), float(angle)


def test_relations_are_the_papers() -> None:
    generator = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(6, 4, generator=generator), torch.randn(6, 9, generator=generator) * 30
    teacher[5] = teacher[4]  # two faces that are one to the teacher
    distance, angle = _rkd(student.double().numpy(), teacher.double().numpy())
    assert distance_loss(student, teacher, torch.ones(6)).item() == pytest.approx(distance, rel=1e-4)
    assert angle_loss(student, teacher, torch.ones(6)).item() == pytest.approx(angle, rel=1e-3)


def test_relations_have_finite_gradients_where_faces_coincide_and_split_large_batches() -> None:
    same = torch.ones(4, 3, requires_grad=True)
    one = torch.randn(1, 3, requires_grad=True)
    for loss in (distance_loss, angle_loss):
        for student in (same, one):
            value = loss(student, torch.randn(len(student), 5), torch.ones(len(student)))
            (gradient,) = torch.autograd.grad(value, student)
            assert torch.isfinite(gradient).all()
    student, teacher = torch.randn(2, MAX_FACES, 3, generator=torch.Generator().manual_seed(0))
    twice = [x.repeat(2, 1) for x in (student, teacher)]
    once = distance_loss(student, teacher, torch.ones(MAX_FACES))
    torch.testing.assert_close(distance_loss(*twice, torch.ones(2 * MAX_FACES)), once)


def test_hints_are_the_mean_square_and_the_cosine() -> None:
    ours, theirs = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    a, b = ours.double().numpy(), theirs.double().numpy()
    np.testing.assert_allclose(feature_mse(ours, theirs).numpy(), ((a - b) ** 2).mean(1), rtol=1e-5)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(feature_cosine(ours, theirs).numpy(), 1 - cosine, rtol=1e-5)


def test_a_teacher_is_trusted_where_it_is_not_much_worse_than_the_student() -> None:
    nan = float("nan")
    student = torch.log(torch.from_numpy(gaussian_pmf([30.0] * 6, 2.0)) + 1e-20)
    teacher = torch.from_numpy(gaussian_pmf([34.0, 36.0, 60.0, 60.0, 36.0, 60.0], 2.0))
    age = torch.tensor([30.0, 30.0, 30.0, nan, nan, 61.0])
    label = torch.from_numpy(gaussian_pmf([30.0] * 6, 2.0))
    label[3] = 0.0  # no label: whatever the teacher says is taken
    label[4] = torch.from_numpy(group_pmf(25.0, 32.0))  # 4 years from the group's end
    label[5] = torch.from_numpy(gaussian_pmf(61.0, 2.0))
    dropped = trust(student, teacher, age, label, 5.0, drop=True)
    assert dropped.tolist() == [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    weighed = trust(student, teacher, age, label, 5.0, drop=False)
    assert weighed.tolist() == pytest.approx([1.0, 5 / 6, 5 / 30, 1.0, 1.0, 1.0], rel=1e-3)
