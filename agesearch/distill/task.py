"""A distillation task: a student, its targets and losses, and one dictionary of named terms a step.

After timm's ``timm/task``: the training loop knows nothing of teachers, it minimises ``"loss"``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agesearch.distill.hints import Hint
from agesearch.distill.losses import (
    LOSSES,
    Answers,
    Loss,
    Targets,
    follows_teacher_pmf,
    target_mask,
    teacher_trust,
)
from agesearch.errors import InputError
from agesearch.models.zoo import AgeNet
from agesearch.specs import DistillSpec


class DistillTask(nn.Module):
    """The weighted sum of the losses of ``spec`` on a student's answers.

    ``has_labels`` and ``has_teacher`` say which targets the data bring, ``feature_width`` how many features
    an order teacher gives (0: there is none). Losses without a target are left out; a task with no loss left
    is an ``InputError``, as is a hint at a stage that the student does not have.

    The parameters are the student's, and first; then those of the hint's projection, where there is one.
    """

    def __init__(
        self,
        student: AgeNet,
        spec: DistillSpec,
        *,
        has_labels: bool = True,
        has_teacher: bool = False,
        feature_width: int = 0,
    ) -> None:
        super().__init__()
        self.student = student
        self.spec = spec
        has_features = feature_width > 0
        there = {
            "label": has_labels,
            "age": has_labels,
            "teacher": has_teacher,
            "features": has_features,
            "relations": has_features or has_teacher,
        }
        self.losses: dict[str, Loss] = {
            name: loss for name, loss in LOSSES.items() if loss.weight(spec) > 0 and there[loss.needs]
        }
        if not self.losses:
            raise InputError(
                f"Nothing to train on: {_state('labels', has_labels)}, {_state('teacher', has_teacher)}, "
                f"{_state('order teacher', has_features)}, and the weights are {_weights(spec)}."
            )
        self.hint = Hint(student, spec.hint_stage, feature_width) if "hint" in self.losses else None

    def forward(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Images ``float32 [B, 3, S, S]`` -> ``loss`` and each of its terms, unweighted, as scalars.

        A face without a target for a term adds nothing to it; every term is a mean over all B faces, so that
        one face weighs the same in every batch, as much as its own weight says. Only the backbone is subject
        to autocast: the head and the losses work in float32.
        """
        if self.hint is None:
            features, stage = self.student.features(images), None
        else:
            features, stage = self.hint.see(self.student, images)
        with torch.autocast(images.device.type, enabled=False):
            return self._terms(self._answers(features, stage), targets)

    def own_state(self) -> dict[str, Tensor]:
        """Copies of what the task trains besides the student, on the CPU: for a checkpoint."""
        own = {} if self.hint is None else self.hint.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in own.items()}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Take back what ``own_state`` gave."""
        if self.hint is not None:
            self.hint.load_state_dict(state)

    def _answers(self, features: Tensor, stage: Tensor | None) -> Answers:
        raw = self.student.head(features)
        return Answers(
            head=self.student.head,
            raw=raw,
            logits=self.student.head.logits(raw),
            features=features.float(),
            hint=None if stage is None or self.hint is None else self.hint(stage),
        )

    def _terms(self, answers: Answers, targets: Targets) -> dict[str, Tensor]:
        weight = torch.ones_like(targets.age) if targets.weight is None else targets.weight
        trusted = weight * teacher_trust(answers.logits, targets, self.spec)
        terms: dict[str, Tensor] = {}
        total = answers.logits.new_zeros(())
        for name, loss in self.losses.items():
            counted = (trusted if follows_teacher_pmf(loss, targets) else weight) * target_mask(loss, targets)
            value = (loss.of(answers, targets, self.spec, counted) * counted).mean()
            terms[name] = value.detach()
            total = total + loss.weight(self.spec) * value
        return {"loss": total, **terms}


def _state(what: str, present: bool) -> str:
    return f"the faces have {'' if present else 'no '}{what}"


def _weights(spec: DistillSpec) -> str:
    return ", ".join(f"{name} {loss.weight(spec):g}" for name, loss in LOSSES.items())
