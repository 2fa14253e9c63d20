"""Hints (FitNets, Romero 2015): a stage of the student is brought close to an order teacher's features.

The projection is a 1x1 convolution followed by global average pooling, which commute: pooling first gives the
same and costs a hundredth, so the pooled stage goes through a linear layer. The projection is trained with
the student and stays behind: it is part of the task and of its checkpoints, not of the network that is kept.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from agesearch.errors import unknown_name
from agesearch.models.zoo import AgeNet, build
from agesearch.specs import ModelSpec

#: What the head is given: the pooled penultimate features.
POOLED = "pooled"


class Hint(nn.Module):
    """A named stage of a student, and its projection to ``width`` features.

    Raises ``InputError`` for an unknown stage. The weights are drawn from torch's global generator. Where the
    backbone is compiled, a stage inside it is seen only by running it uncompiled.
    """

    def __init__(self, student: AgeNet, stage: str, width: int) -> None:
        super().__init__()
        known = stages(student.backbone)
        if stage not in known:
            kind = f"stage of {type(student.backbone).__name__}"
            raise unknown_name(kind, stage, known)
        self.stage = known[stage]
        size = student.input_size
        training = student.training
        with torch.no_grad():
            pixels = next(student.parameters()).new_zeros(1, 3, size, size)
            channels = self.see(student.eval(), pixels)[1].shape[1]
        student.train(training)
        self.projection = nn.Linear(channels, width)

    def see(self, student: AgeNet, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images -> the student's features [B, F] and its stage, pooled [B, C]."""
        if self.stage == POOLED:
            features = student.features(images)
            return features, features
        seen: list[Tensor] = []
        module = student.backbone.get_submodule(self.stage)
        handle = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        try:
            with _uncompiled(student.backbone):
                features = student.features(images)
        finally:
            handle.remove()
        return features, seen[-1].mean(dim=(2, 3)) if seen[-1].ndim == 4 else seen[-1]

    def forward(self, stage: Tensor) -> Tensor:
        """The pooled stage [B, C] -> what is compared with the teacher's features [B, F]."""
        projected: Tensor = self.projection(stage.to(self.projection.weight.dtype))
        return projected


def stages(backbone: nn.Module) -> dict[str, str]:
    """The stages of a backbone by name, and the module behind each.

    Names are those of timm's ``feature_info`` and of their neighbours (``blocks.3``, ``layer2``,
    ``features.denseblock1``), ``stride8`` and so on for the last map at that stride, and ``pooled``.
    """
    found: dict[str, str] = {}
    info: Any = backbone.feature_info
    for row in info:
        name = str(row["module"])
        parent = name.rpartition(".")[0]
        if parent:
            children = backbone.get_submodule(parent).named_children()
            found |= {f"{parent}.{child}": f"{parent}.{child}" for child, _ in children}
        found[name] = name
    strides = {f"stride{row['reduction']}": str(row["module"]) for row in info}
    return found | strides | {POOLED: POOLED}


@lru_cache(maxsize=64)
def known_stages(arch: str) -> tuple[str, ...]:
    """The names of an architecture's stages, found without making its weights."""
    with torch.device("meta"):
        net = build(ModelSpec(arch=arch, input_size=512))
    return tuple(stages(net.backbone))


def _uncompiled(backbone: nn.Module) -> AbstractContextManager[Any]:
    """Hooks set after a module was compiled are not called."""
    if getattr(backbone, "_compiled_call_impl", None) is None:
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def feature_mse(projected: Tensor, features: Tensor) -> Tensor:
    """The mean over f of ``(h_f - t_f)^2``: one value a face [B].

    h is ``projected`` [B, F], the student's stage after its projection; t ``features`` [B, F], the order
    teacher's.
    """
    return ((projected - features) ** 2).mean(dim=-1)


def feature_cosine(projected: Tensor, features: Tensor) -> Tensor:
    """``1 - cos(h, t)``: one value a face [B], 0..2; h and t as in ``feature_mse``."""
    return 1 - cosine_similarity(projected, features, dim=-1)
