"""Losses on age distributions: formulas between a student's logits and a label or a teacher's PMF.

Notation, for each face of a batch of B:

    z     ``logits`` [B, 101], the student's, for the ages 0..100 in years
    q     softmax(z), the student's PMF; q_T = softmax(z / T)
    p     ``teacher_pmf`` [B, 101]; p_T is proportional to p^(1/T): the PMF whose logits are divided by T
    T     ``temperature``, > 0, without a unit
    y     ``age`` [B] in years, NaN where unknown; ``label_pmf`` [B, 101], zero where there is no label
    E[q]  the expected age in years, the sum over ages a of a q(a)

Each loss gives one value a face [B], in the unit that it names, but for the correlation within a batch, a
scalar. Which of them a task adds up is said by the table in ``agesearch.distill.losses``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agesearch.ages import BINS
from agesearch.models.heads.base import kl_divergence, label_mean

#: What stands for an age without mass where a logarithm is taken: float16's least number, as PMFs are stored.
_LEAST_MASS = 2.0**-24

#: A logit of an age that is left out.
_LEFT_OUT = -1e30


def mean_l1(logits: Tensor, age: Tensor) -> Tensor:
    """``|E[q] - y|`` in years (DLDL-v2, Gao 2018)."""
    return (expectation(torch.softmax(logits, dim=-1)) - age).abs()


def mean_l2(logits: Tensor, age: Tensor, label_pmf: Tensor) -> Tensor:
    """``(E[q] - m)^2`` in years^2, m the label's age, or the middle of its group (``label_mean``)."""
    return (expectation(torch.softmax(logits, dim=-1)) - label_mean(label_pmf, age)) ** 2


def scalar_l2(logits: Tensor, teacher_pmf: Tensor) -> Tensor:
    """``(E[q] - E[p])^2`` in years^2 (Greco 2021)."""
    return (expectation(torch.softmax(logits, dim=-1)) - expectation(teacher_pmf)) ** 2


def softened_kl(logits: Tensor, teacher_pmf: Tensor, temperature: float, standardise: bool = False) -> Tensor:
    """``T^2 KL(p_T || q_T)`` in nats (Hinton 2015); T^2 keeps the size of the gradient.

    ``standardise`` z-scores the logits of both first: see ``softened_pair``.
    """
    log_student, teacher = softened_pair(logits, teacher_pmf, temperature, standardise)
    return temperature**2 * kl_divergence(teacher, log_student)


def decoupled_kl(
    logits: Tensor,
    teacher_pmf: Tensor,
    temperature: float,
    *,
    alpha: float,
    beta: float,
    window: int,
    standardise: bool = False,
) -> Tensor:
    """``T^2 (alpha TCKD + beta NCKD)`` in nats (DKD, Zhao 2022), the target being a window of ages.

    ``alpha`` and ``beta`` weigh the two, ``window`` is in years. TCKD is the KL where all ages outside the
    window are one class, NCKD that between the distributions outside, normalised there. So a window of one
    age gives the paper's loss; and with alpha 1 and the teacher's mass outside as beta, any window gives the
    plain KL.

    The window reaches ``window`` years to both sides of the teacher's expected age (the paper's target is the
    label's class): so faces without a label have one, it holds the teacher's own mass, and a wrong label does
    not turn the teacher's knowledge into "non-target".
    """
    log_student, teacher = softened_pair(logits, teacher_pmf, temperature, standardise)
    inside = (_ages(logits) - expectation(teacher_pmf).round().unsqueeze(-1)).abs() <= window
    kept = teacher.masked_fill(inside, 0.0).sum(dim=-1, keepdim=True)
    log_kept = log_student.masked_fill(inside, _LEFT_OUT).logsumexp(dim=-1, keepdim=True)
    target = kl_divergence(teacher * inside, log_student) + kl_divergence(kept, log_kept)
    others = teacher.masked_fill(inside, 0.0) / kept.clamp_min(1e-12)
    others_student = torch.log_softmax(log_student.masked_fill(inside, _LEFT_OUT), dim=-1)
    return temperature**2 * (alpha * target + beta * kl_divergence(others, others_student))


def correlation_between(logits: Tensor, teacher_pmf: Tensor, temperature: float) -> Tensor:
    """``T^2 (1 - r)``, r Pearson's correlation of q_T and p_T over the ages of a face (DIST's inter-class
    term, Huang 2022).
    """
    student, teacher = torch.softmax(logits / temperature, dim=-1), soften(teacher_pmf, temperature)
    return temperature**2 * (1 - _correlation(student, teacher, torch.ones_like(teacher), dim=-1))


def correlation_within(logits: Tensor, teacher_pmf: Tensor, temperature: float, weight: Tensor) -> Tensor:
    """``T^2 (1 - r)``, r Pearson's correlation of q_T and p_T at one age over the faces of the batch; the
    mean over ages, a scalar (DIST's intra-class term, Huang 2022).

    ``weight`` [B] is what each face counts. An age that no teacher and student give mass to correlates with
    nothing: it adds a constant.
    """
    student, teacher = torch.softmax(logits / temperature, dim=-1), soften(teacher_pmf, temperature)
    each = _correlation(student, teacher, weight.unsqueeze(-1).expand_as(teacher), dim=0)
    return temperature**2 * (1 - each).mean()


def cdf_l1(logits: Tensor, teacher_pmf: Tensor) -> Tensor:
    """The Wasserstein-1 distance of q and p in years: the area between their cumulative distributions."""
    difference = torch.softmax(logits, dim=-1) - teacher_pmf
    return difference.cumsum(dim=-1).abs().sum(dim=-1)


def soften(pmf: Tensor, temperature: float) -> Tensor:
    """``p_T`` [B, 101] of a PMF [B, 101]: p^(1/T), normalised. Ages without mass stay without."""
    raised = pmf.pow(1.0 / temperature)
    return raised / raised.sum(dim=-1, keepdim=True)


def softened_pair(
    logits: Tensor, teacher_pmf: Tensor, temperature: float, standardise: bool
) -> tuple[Tensor, Tensor]:
    """``log q_T`` and ``p_T``, both [B, 101].

    ``standardise`` z-scores the logits of both first (Sun 2024), so that the student need not match their
    mean and spread. The teacher's are the logs of its PMF, at least log 2^-24.
    """
    if not standardise:
        return torch.log_softmax(logits / temperature, dim=-1), soften(teacher_pmf, temperature)
    teacher = z_scored(torch.log(teacher_pmf.clamp_min(_LEAST_MASS)))
    return (
        torch.log_softmax(z_scored(logits) / temperature, dim=-1),
        torch.softmax(teacher / temperature, dim=-1),
    )


def z_scored(logits: Tensor) -> Tensor:
    """Logits [B, 101] with mean 0 and standard deviation 1 over the ages of each face."""
    centred = logits - logits.mean(dim=-1, keepdim=True)
    variance = (centred**2).sum(dim=-1, keepdim=True) / (logits.shape[-1] - 1)
    return centred / (variance.clamp_min(1e-12).sqrt() + 1e-7)


def expectation(pmf: Tensor) -> Tensor:
    """The expected age in years: ``[B, 101]`` -> ``[B]``."""
    return pmf @ _ages(pmf)


def trust(
    logits: Tensor, teacher_pmf: Tensor, age: Tensor, label_pmf: Tensor, bound: float, *, drop: bool
) -> Tensor:
    """How much of a teacher's terms counts for each face, 0..1 ``[B]`` (after the teacher bound of Chen
    2017).

    1 where the teacher's age E[p] is at most ``bound`` years further from the label than the student's E[q],
    or there is no label; else 0 if ``drop``, or (student's error + bound) / teacher's error. An error is
    measured to the age; where only a group is known, to its nearer end, and is 0 inside. Nothing is learnt
    through it.
    """
    with torch.no_grad():
        student = _label_error(expectation(torch.softmax(logits, dim=-1)), age, label_pmf)
        teacher = _label_error(expectation(teacher_pmf), age, label_pmf)
        allowed = student + bound
        kept = torch.zeros_like(teacher) if drop else allowed / teacher.clamp_min(1e-6)
        worse = (teacher > allowed) & (label_pmf.sum(dim=-1) > 0)
        return torch.where(worse, kept, 1.0)


def _label_error(found: Tensor, age: Tensor, label_pmf: Tensor) -> Tensor:
    has_mass = label_pmf > 0
    low = has_mass.to(found.dtype).argmax(dim=-1)
    high = BINS - 1 - has_mass.flip(-1).to(found.dtype).argmax(dim=-1)
    to_group = (low - found).clamp_min(0.0) + (found - high).clamp_min(0.0)
    return torch.where(torch.isfinite(age), (found - age.nan_to_num()).abs(), to_group)


def _correlation(a: Tensor, b: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Pearson's correlation, weighted, over ``dim``; 0 where one of the two does not vary."""
    total = weight.sum(dim=dim, keepdim=True).clamp_min(1e-12)
    a = a - (weight * a).sum(dim=dim, keepdim=True) / total
    b = b - (weight * b).sum(dim=dim, keepdim=True) / total
    length_a = (weight * a**2).sum(dim=dim).clamp_min(1e-20).sqrt()
    length_b = (weight * b**2).sum(dim=dim).clamp_min(1e-20).sqrt()
    return (weight * a * b).sum(dim=dim) / (length_a * length_b + 1e-8)


def _ages(like: Tensor) -> Tensor:
    return torch.arange(BINS, dtype=like.dtype, device=like.device)
