"""``build``: a network that takes raw pixels, from a ``ModelSpec``. The names are in ``architectures.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from agesearch.errors import InputError
from agesearch.models.architectures import ARCHITECTURES, Architecture, architecture
from agesearch.models.backbones.xception import TinyXception
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.heads.table import Head, build_head
from agesearch.models.weights import (
    Loaded,
    load_backbone_file,
    load_foreign_tensors,
    load_model_tensors,
    pretrained_file,
)
from agesearch.specs import ModelSpec

__all__ = ["ARCHITECTURES", "AgeNet", "Architecture", "architecture", "build", "untrained"]

#: The mean colour of VGGFace2 in 0..255, as RGB (Greco 2021 names it as BGR: 91.4953, 103.8827, 131.0912).
VGGFACE2_RGB = (131.0912, 103.8827, 91.4953)


class AgeNet(nn.Module):
    """``float32 [B, 3, S, S]`` RGB in 0..255 -> logits ``[B, 101]`` whose softmax is the age PMF.

    The normalisation ``(pixel / 255 - mean) / std`` is the first step of the graph, so that the export and
    the service are given raw pixels. ``loaded`` tells what was read into it when it was built.
    """

    scale: Tensor
    shift: Tensor
    loaded = Loaded()

    def __init__(
        self, backbone: nn.Module, head: Head, mean: Sequence[float], std: Sequence[float], input_size: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.input_size = input_size
        scale = 1.0 / (255.0 * torch.tensor(std).view(1, 3, 1, 1))
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", -255.0 * torch.tensor(mean).view(1, 3, 1, 1) * scale, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """The pooled penultimate features ``[B, F]``."""
        features: Tensor = self.backbone(images * self.scale + self.shift)
        return features

    def poolings(self, images: Tensor) -> Tensor:
        """Features ``[B, P, F]`` by each architecture that ``poolings_of`` names for this network's."""
        pooled = getattr(self.backbone, "poolings", None)
        if pooled is None:
            return self.features(images)[:, None]
        found: Tensor = pooled(images * self.scale + self.shift)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Images -> logits ``[B, 101]``; the head works in float32, also under autocast."""
        features = self.features(images)
        with torch.autocast(features.device.type, enabled=False):
            return self.head.logits(self.head(features))

    @property
    def parameter_count(self) -> int:
        """Trainable parameters, the head included."""
        return sum(parameter.numel() for parameter in self.parameters())


def build(spec: ModelSpec) -> AgeNet:
    """A network with the weights that ``spec.init`` asks for; only ``model`` may bring a trained head.

    Weights are drawn from torch's global generator: seed it first. Raises ``InputError`` for an unknown
    architecture, an input too small for it, weights that do not fit, or a download that fails.
    """
    row = architecture(spec.arch)
    if spec.input_size < row.min_size:
        raise InputError(
            f"{spec.arch} needs an input of at least {row.min_size} px, but input_size is {spec.input_size}."
        )
    backbone = _backbone(spec, row)
    tensors = load_backbone_file(backbone, str(spec.weights), spec.arch) if spec.init == "file" else 0
    if row.blocks is not None:
        _cut(backbone, *row.blocks)
    head = build_head(spec, _feature_count(backbone))
    net = AgeNet(backbone, head, *_pixels(spec, backbone), spec.input_size)
    if spec.init == "file":
        net.loaded = Loaded(tensors)
    elif spec.init == "model":
        load = load_foreign_tensors if is_teacher_file(str(spec.weights)) else load_model_tensors
        net.loaded = load(net, str(spec.weights), spec)
    return net


def untrained(spec: ModelSpec) -> ModelSpec:
    """The same network from random weights: what is built before stored weights are loaded into it."""
    return spec.model_copy(update={"init": "random", "weights": None})


def _pixels(spec: ModelSpec, backbone: nn.Module) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of RGB pixels in 0..1: what is subtracted, and what is divided by."""
    if spec.pixels == "vggface2":
        return [value / 255 for value in VGGFACE2_RGB], [1 / 255] * 3
    config: dict[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]
    return config["mean"], config["std"]


def _backbone(spec: ModelSpec, row: Architecture) -> nn.Module:
    import timm

    arch, pretrained = spec.arch, spec.init == "pretrained"
    overlay = {"file": pretrained_file(arch)} if pretrained else {}
    if row.timm_name is None:
        return TinyXception(spec.input_size, row.kept, centred=row.centred)
    try:
        net: nn.Module = timm.create_model(
            row.timm_name,
            pretrained=pretrained,
            num_classes=0,
            pretrained_cfg_overlay={name: file for name, file in overlay.items() if file},
        )
    except Exception as error:
        if not pretrained:
            raise
        # The hub client raises many kinds (HTTP, a full disk, a missing tag); all mean the same here.
        raise InputError(
            f"The pretrained weights of {arch} could not be downloaded ({type(error).__name__}): check the "
            "network, or start from a weights file: --init FILE (in YAML: init: file, weights: FILE)."
        ) from error
    return net


def _cut(backbone: nn.Module, stages: int, blocks: int) -> None:
    """Keep the first ``blocks`` of stage ``stages`` and all before them, of a network in timm's MobileNet
    form.
    """
    net: Any = backbone
    net.blocks = net.blocks[:stages]
    net.blocks[-1] = net.blocks[-1][:blocks]
    net.conv_head, net.bn2 = nn.Identity(), nn.Identity()
    width = net.blocks[-1][-1].bn3.num_features
    net.num_features = net.head_hidden_size = width
    net.feature_info = [row for row in net.feature_info if int(row["stage"]) <= stages]


def _feature_count(backbone: nn.Module) -> int:
    # timm's ``num_features`` leaves out a last layer before the classifier; ``head_hidden_size`` has it.
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]
