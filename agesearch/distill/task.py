"""A distillation task: a student, its targets and losses, and one dictionary of named terms a step.

After timm's ``timm/task``: the training loop knows nothing of teachers, it minimises ``"loss"``.
"""

from __future__ import annotations

from torch import Tensor, nn

from agesearch.distill.losses import LOSSES, Loss, Targets, judged
from agesearch.errors import InputError
from agesearch.specs import DistillSpec


class DistillTask(nn.Module):
    """The weighted sum of the losses of ``spec`` on a student's logits.

    ``has_labels`` and ``has_teacher`` say which targets the data bring: losses without a target are left out,
    and a task with no loss left is an ``InputError``.
    """

    def __init__(
        self, student: nn.Module, spec: DistillSpec, *, has_labels: bool = True, has_teacher: bool = False
    ) -> None:
        super().__init__()
        self.student = student
        self.spec = spec
        self.losses: dict[str, Loss] = {
            name: loss
            for name, loss in LOSSES.items()
            if loss.weight(spec) > 0 and (has_teacher if loss.needs == "teacher" else has_labels)
        }
        if not self.losses:
            raise InputError(
                "Nothing to train on: "
                f"{_state('labels', has_labels)}, {_state('teacher', has_teacher)}, "
                f"and the weights are {_weights(spec)}."
            )

    def forward(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Images ``float32 [B, 3, S, S]`` -> ``loss`` and each of its terms, unweighted, as scalars.

        A face without a target for a term adds nothing to it; every term is a mean over all B faces, so that
        one face weighs the same in every batch, as much as its own weight says.
        """
        logits = self.student(images).float()
        counted = 1.0 if targets.weight is None else targets.weight
        terms: dict[str, Tensor] = {}
        total = logits.new_zeros(())
        for name, loss in self.losses.items():
            value = (loss.of(logits, targets, self.spec) * counted * judged(loss, targets)).mean()
            terms[name] = value.detach()
            total = total + loss.weight(self.spec) * value
        return {"loss": total, **terms}


def _state(what: str, present: bool) -> str:
    return f"the faces have {'' if present else 'no '}{what}"


def _weights(spec: DistillSpec) -> str:
    return ", ".join(f"{name} {loss.weight(spec):g}" for name, loss in LOSSES.items())
