"""Ordinal heads: the age as a row of questions "older than k?", k = 0..99, whose answers never contradict.

Both make the PMF in the log domain: ``p(k) = P(age > k - 1) - P(age > k)`` is never computed as a difference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad, softplus

from agesearch.ages import MAX_AGE, FloatArray
from agesearch.models.heads.base import LinearHead, smoothed_pmf, uniform_pmf
from agesearch.specs import ModelSpec

#: The least by which a bias of CORAL is below the one before it.
_LEAST_STEP = 1e-4


class CoralHead(LinearHead):
    """``P(age > k) = sigmoid(w x + b_k)``: one weight vector for all k (CORAL, Cao 2020).

    Cao shows that the biases do not increase with k once the loss is at its least; here they never do: each
    is the one before it less a positive step (softplus of a parameter, at least 1e-4), so the cumulative
    probabilities are monotone from the first step on. The raw output is ``w x + b_0``. The label loss is the
    sum of the hundred binary cross-entropies, their targets the label's own ``P(age > k)``: 0 or 1 for a
    certain label, as in the paper.
    """

    def __init__(self, spec: ModelSpec, features: int) -> None:
        super().__init__(spec, features, 1)
        self.steps = nn.Parameter(torch.zeros(MAX_AGE - 1))
        self.start_from(uniform_pmf())

    def logits(self, raw: Tensor) -> Tensor:
        """``w x + b_0`` ``[B, 1]`` -> logs of the PMF ``[B, 101]``.

        With ``u = z_(k-1) > v = z_k``: ``sigmoid(u) - sigmoid(v) = sigmoid(u) sigmoid(-v) (1 - exp(v - u))``.
        """
        exceed = self.exceed_logits(raw)
        older = pad(-softplus(-exceed), (1, 0))  # log P(age > k - 1)
        not_older = pad(-softplus(exceed), (0, 1))  # log P(age <= k)
        return older + not_older + pad(_log_one_minus_exp(self._gaps()), (1, 1))

    def exceed_logits(self, raw: Tensor) -> Tensor:
        """``w x + b_0`` ``[B, 1]`` -> ``w x + b_k`` for k = 0..99: ``[B, 100]``."""
        return raw - pad(self._gaps().cumsum(dim=0), (1, 0))

    def label_loss(self, raw: Tensor, label_pmf: Tensor, age: Tensor) -> Tensor:
        """The sum of the binary cross-entropies of ``P(age > k)`` (Cao 2020, all tasks of weight 1)."""
        exceed, older = self.exceed_logits(raw), _older(label_pmf)
        return binary_cross_entropy_with_logits(exceed, older, reduction="none").sum(dim=-1)

    def start_from(self, prior: FloatArray) -> None:
        """The biases become the log-odds of the prior's ``P(age > k)``."""
        mass = smoothed_pmf(torch.from_numpy(prior))
        logits = torch.logit(mass.flip(0).cumsum(0).flip(0)[1:])
        self._start(logits[:1].float())
        with torch.no_grad():
            self.steps.copy_(torch.log(torch.expm1(-logits.diff() - _LEAST_STEP)).float())

    def _gaps(self) -> Tensor:
        return softplus(self.steps) + _LEAST_STEP


class CornHead(LinearHead):
    """``P(age > k | age > k - 1) = sigmoid(z_k)``, and the chain rule (CORN, Shi 2021).

    The label loss is the sum of the hundred binary cross-entropies, task k on the faces older than k - 1. A
    label that is a distribution is in that subset with its mass ``P(age > k - 1)``, which weighs the task: so
    a certain label gives the paper's loss, and any label the cross-entropy between it and the PMF. The paper
    divides by the number of the faces in all subsets, which is a constant of the labels: ``label_weight``
    has that place here.
    """

    def __init__(self, spec: ModelSpec, features: int) -> None:
        super().__init__(spec, features, MAX_AGE)
        self.start_from(uniform_pmf())

    def logits(self, raw: Tensor) -> Tensor:
        """Log-odds of the conditional probabilities ``[B, 100]`` -> logs of the PMF ``[B, 101]``."""
        older = pad((-softplus(-raw)).cumsum(dim=-1), (1, 0))  # log P(age > k - 1)
        not_older = pad(-softplus(raw), (0, 1))  # log P(age <= k | age > k - 1)
        return older + not_older

    def label_loss(self, raw: Tensor, label_pmf: Tensor, age: Tensor) -> Tensor:
        """The sum of the conditional binary cross-entropies (Shi 2021), soft labels by their mass."""
        return (_older(label_pmf) * softplus(-raw) + label_pmf[:, :-1] * softplus(raw)).sum(dim=-1)

    def start_from(self, prior: FloatArray) -> None:
        """The biases become the log-odds of the prior's conditional probabilities."""
        mass = smoothed_pmf(torch.from_numpy(prior))
        older = mass.flip(0).cumsum(0).flip(0)[1:]
        self._start(torch.log(older / mass[:-1]).float())


def _older(label_pmf: Tensor) -> Tensor:
    """``P(age > k)``, k = 0..99, of a distribution: ``[B, 101]`` -> ``[B, 100]``."""
    return label_pmf.flip(-1).cumsum(-1).flip(-1)[:, 1:].clamp(0.0, 1.0)


def _log_one_minus_exp(gaps: Tensor) -> Tensor:
    """``log(1 - exp(-gap))``; by the tanh, because ONNX has no expm1, and it is as exact for small gaps."""
    half = torch.tanh(gaps / 2)
    return torch.log(2 * half / (1 + half))
