"""The table of losses: what a student can be trained towards, each by its name, weight and the targets it
needs.

The formulas are in ``pmf_losses`` (age distributions), ``relations`` (between faces) and ``hints``
(features); a head's own label loss is in ``agesearch.models``. Adding a loss is a function, a row of
``LOSSES``, and its weight in ``DistillSpec``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from agesearch.distill import pmf_losses as pmf
from agesearch.distill.hints import feature_cosine, feature_mse
from agesearch.distill.relations import angle_loss, distance_loss
from agesearch.models.heads.table import Head
from agesearch.specs import DistillSpec


@dataclass(frozen=True)
class Targets:
    """What a batch is trained towards; ``label_pmf`` rows are zero and ``age`` NaN where unknown.

    ``teacher_features`` [B, F] are an order teacher's, the targets of hints; rows that are not finite are
    unknown. ``weight`` [B] multiplies what a face adds to every loss (None: each counts once).
    """

    age: Tensor
    label_pmf: Tensor
    teacher_pmf: Tensor | None = None
    teacher_features: Tensor | None = None
    weight: Tensor | None = None


@dataclass(frozen=True)
class Answers:
    """What a student says of a batch: its head with the raw outputs, logits [B, 101], pooled features [B, F],
    and the projected stage of hints.
    """

    head: Head
    raw: Tensor
    logits: Tensor
    features: Tensor
    hint: Tensor | None = None


#: Targets that a loss needs: a label, an exact age, a teacher's PMF, an order teacher's features, either of
#: the last two.
Need = Literal["label", "age", "teacher", "features", "relations"]


@dataclass(frozen=True)
class Loss:
    """A named loss: its formula, its weight in ``DistillSpec``, and what it needs.

    The formula gives one value a face [B], or one for the batch; its last argument [B] is what each face
    counts, 0 for faces without the target.
    """

    of: Callable[[Answers, Targets, DistillSpec, Tensor], Tensor]
    weight: Callable[[DistillSpec], float]
    needs: Need


def _label(a: Answers, t: Targets, _: DistillSpec, __: Tensor) -> Tensor:
    return a.head.label_loss(a.raw, t.label_pmf, t.age)


def _mean(a: Answers, t: Targets, _: DistillSpec, __: Tensor) -> Tensor:
    return pmf.mean_l1(a.logits, t.age.nan_to_num())


def _mse(a: Answers, t: Targets, _: DistillSpec, __: Tensor) -> Tensor:
    return pmf.mean_l2(a.logits, t.age, t.label_pmf)


def _kd(a: Answers, t: Targets, s: DistillSpec, _: Tensor) -> Tensor:
    return pmf.softened_kl(a.logits, _teacher(t), s.temperature, s.standardise)


def _dkd(a: Answers, t: Targets, s: DistillSpec, _: Tensor) -> Tensor:
    return pmf.decoupled_kl(
        a.logits,
        _teacher(t),
        s.temperature,
        alpha=s.dkd_alpha,
        beta=s.dkd_beta,
        window=s.dkd_window,
        standardise=s.standardise,
    )


def _dist(a: Answers, t: Targets, s: DistillSpec, counted: Tensor) -> Tensor:
    between = pmf.correlation_between(a.logits, _teacher(t), s.temperature)
    within = pmf.correlation_within(a.logits, _teacher(t), s.temperature, counted)
    return s.dist_between * between + s.dist_within * within


def _cdf(a: Answers, t: Targets, _: DistillSpec, __: Tensor) -> Tensor:
    return pmf.cdf_l1(a.logits, _teacher(t))


def _scalar(a: Answers, t: Targets, _: DistillSpec, __: Tensor) -> Tensor:
    return pmf.scalar_l2(a.logits, _teacher(t))


def _hint(a: Answers, t: Targets, s: DistillSpec, _: Tensor) -> Tensor:
    if a.hint is None:
        raise ValueError("hints need the student's projected stage")
    return HINT_LOSSES[s.hint_loss](a.hint, _known_features(t))


def _rkd_distance(a: Answers, t: Targets, _: DistillSpec, counted: Tensor) -> Tensor:
    return distance_loss(a.features, _embedding(t), counted)


def _rkd_angle(a: Answers, t: Targets, _: DistillSpec, counted: Tensor) -> Tensor:
    return angle_loss(a.features, _embedding(t), counted)


LOSSES: dict[str, Loss] = {
    "label": Loss(_label, lambda s: s.label_weight, "label"),
    "mean": Loss(_mean, lambda s: s.mean_weight, "age"),
    "mse": Loss(_mse, lambda s: s.mse_weight, "label"),
    "kd": Loss(_kd, lambda s: s.kd_weight, "teacher"),
    "dkd": Loss(_dkd, lambda s: s.dkd_weight, "teacher"),
    "dist": Loss(_dist, lambda s: s.dist_weight, "teacher"),
    "cdf": Loss(_cdf, lambda s: s.cdf_weight, "teacher"),
    "scalar": Loss(_scalar, lambda s: s.scalar_weight, "teacher"),
    "hint": Loss(_hint, lambda s: s.hint_weight, "features"),
    "rkd_distance": Loss(_rkd_distance, lambda s: s.rkd_distance_weight, "relations"),
    "rkd_angle": Loss(_rkd_angle, lambda s: s.rkd_angle_weight, "relations"),
}

#: What ``DistillSpec.hint_loss`` names.
HINT_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": feature_mse, "cosine": feature_cosine}


def target_mask(loss: Loss, targets: Targets) -> Tensor:
    """1 for each face of a batch that the loss has a target for, else 0: float ``[B]``."""
    if loss.needs == "age":
        return torch.isfinite(targets.age).to(targets.label_pmf.dtype)
    if loss.needs == "label":
        return (targets.label_pmf.sum(dim=-1) > 0).to(targets.label_pmf.dtype)
    if loss.needs != "teacher" and targets.teacher_features is not None:
        return _has_features(targets.teacher_features).to(targets.label_pmf.dtype)
    return torch.ones_like(targets.age)


def follows_teacher_pmf(loss: Loss, targets: Targets) -> bool:
    """Whether a loss pulls towards a teacher's PMF, so that the teacher bound holds for it."""
    from_pmf = loss.needs == "relations" and targets.teacher_features is None
    return loss.needs == "teacher" or from_pmf


def teacher_trust(logits: Tensor, targets: Targets, spec: DistillSpec) -> Tensor:
    """How much of what follows the teacher's PMF counts for each face, 0..1 ``[B]``: 1 for all where
    ``spec.teacher_bound`` is off or there is no teacher, else ``pmf_losses.trust`` of the student's
    ``logits`` ``[B, 101]``.
    """
    if spec.teacher_bound == "off" or targets.teacher_pmf is None:
        return torch.ones_like(targets.age)
    drop = spec.teacher_bound == "drop"
    return pmf.trust(
        logits, targets.teacher_pmf, targets.age, targets.label_pmf, spec.teacher_bound_years, drop=drop
    )


def _teacher(targets: Targets) -> Tensor:
    if targets.teacher_pmf is None:
        raise ValueError("this loss needs teacher targets")
    return targets.teacher_pmf


def _known_features(targets: Targets) -> Tensor:
    if targets.teacher_features is None:
        raise ValueError("this loss needs an order teacher's features")
    known = _has_features(targets.teacher_features).unsqueeze(-1)
    return torch.where(known, targets.teacher_features, 0.0)


def _has_features(features: Tensor) -> Tensor:
    return torch.isfinite(features).all(dim=-1)


def _embedding(targets: Targets) -> Tensor:
    """What places a face among the others: the order teacher's features, or else the teacher's CDF.

    The CDF and not the PMF: the distance between two narrow PMFs is the same for 10 years and for 60.
    """
    if targets.teacher_features is not None:
        return _known_features(targets)
    return _teacher(targets).cumsum(dim=-1)
