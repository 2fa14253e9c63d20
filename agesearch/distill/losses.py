"""Losses between a student and its label or its teacher, all on age distributions. Each returns one value a
face.

Shapes: ``logits`` [B, 101] (their softmax is the student's PMF), PMFs [B, 101], ages [B] in years. Adding a
loss is one function and one row of ``LOSSES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from agesearch.ages import BINS
from agesearch.errors import unknown_name
from agesearch.specs import DistillSpec


@dataclass(frozen=True)
class Targets:
    """What a batch is trained towards; ``label_pmf`` rows are zero and ``age`` NaN where unknown.

    ``teacher_features`` [B, F] are an order teacher's, the targets of hints. ``weight`` [B] multiplies what a
    face adds to every loss (None: each counts once).
    """

    age: Tensor
    label_pmf: Tensor
    teacher_pmf: Tensor | None = None
    teacher_features: Tensor | None = None
    weight: Tensor | None = None


def kl_to_label(logits: Tensor, label_pmf: Tensor) -> Tensor:
    """KL(label || student) (DLDL, Gao 2017)."""
    return _kl(label_pmf, torch.log_softmax(logits, dim=-1))


def mean_l1(logits: Tensor, age: Tensor) -> Tensor:
    """Absolute error of the student's expected age in years (DLDL-v2, Gao 2018)."""
    ages = torch.arange(BINS, dtype=logits.dtype, device=logits.device)
    return (torch.softmax(logits, dim=-1) @ ages - age).abs()


def mean_l2(logits: Tensor, age: Tensor, label_pmf: Tensor) -> Tensor:
    """Squared error of the student's expected age in years^2 (Greco 2021).

    It is measured to the label's mean: the age itself, and the middle of the label's mass where only a group
    is known.
    """
    ages = torch.arange(BINS, dtype=logits.dtype, device=logits.device)
    mean = torch.where(torch.isfinite(age), age, label_pmf @ ages)
    return (torch.softmax(logits, dim=-1) @ ages - mean) ** 2


def softened_kl(logits: Tensor, teacher_pmf: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher_T || student_T) (Hinton 2015); T^2 keeps the size of the gradient."""
    student = torch.log_softmax(logits / temperature, dim=-1)
    return temperature**2 * _kl(soften(teacher_pmf, temperature), student)


def cdf_l1(logits: Tensor, teacher_pmf: Tensor) -> Tensor:
    """Wasserstein-1 distance in years: the area between the two cumulative distributions."""
    difference = torch.softmax(logits, dim=-1) - teacher_pmf
    return difference.cumsum(dim=-1).abs().sum(dim=-1)


def soften(pmf: Tensor, temperature: float) -> Tensor:
    """The PMF whose logits are divided by T: p^(1/T), normalised. Ages without mass stay without."""
    raised = pmf.pow(1.0 / temperature)
    return raised / raised.sum(dim=-1, keepdim=True)


def _kl(target: Tensor, log_student: Tensor) -> Tensor:
    # xlogy: 0 log 0 is 0, which float16 targets need at most ages
    return (torch.xlogy(target, target) - target * log_student).sum(dim=-1)


@dataclass(frozen=True)
class Loss:
    """A named loss: its formula, its weight in ``DistillSpec``, and which faces it can judge."""

    of: Callable[[Tensor, Targets, DistillSpec], Tensor]
    weight: Callable[[DistillSpec], float]
    needs: Literal["label", "age", "teacher"]


LOSSES: dict[str, Loss] = {
    "label": Loss(lambda z, t, _: kl_to_label(z, t.label_pmf), lambda s: s.label_weight, "label"),
    "mean": Loss(lambda z, t, _: mean_l1(z, t.age.nan_to_num()), lambda s: s.mean_weight, "age"),
    "mse": Loss(lambda z, t, _: mean_l2(z, t.age, t.label_pmf), lambda s: s.mse_weight, "label"),
    "kd": Loss(lambda z, t, s: softened_kl(z, _teacher(t), s.temperature), lambda s: s.kd_weight, "teacher"),
    "cdf": Loss(lambda z, t, _: cdf_l1(z, _teacher(t)), lambda s: s.cdf_weight, "teacher"),
}


def loss_named(name: str) -> Loss:
    """A row of the table; an unknown name is an ``InputError`` that lists the known ones."""
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return LOSSES[name]


def judged(loss: Loss, targets: Targets) -> Tensor:
    """1 for each face [B] that the loss has a target for, else 0."""
    if loss.needs == "age":
        return torch.isfinite(targets.age).to(targets.label_pmf.dtype)
    if loss.needs == "label":
        return (targets.label_pmf.sum(dim=-1) > 0).to(targets.label_pmf.dtype)
    return torch.ones_like(targets.age)


def _teacher(targets: Targets) -> Tensor:
    if targets.teacher_pmf is None:
        raise ValueError("this loss needs teacher targets")
    return targets.teacher_pmf
