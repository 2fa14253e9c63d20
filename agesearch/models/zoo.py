"""The named architectures, and ``build``: from a ``ModelSpec`` to a network that takes raw pixels.

Backbones come from timm. Adding one is one row of ``ARCHITECTURES``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agesearch.errors import InputError, unknown_name
from agesearch.models.heads import Head, build_head
from agesearch.models.weights import load_backbone_file
from agesearch.specs import ModelSpec


@dataclass(frozen=True)
class Architecture:
    """A backbone: its timm name, the publication, and the smallest input side it works on in pixels."""

    timm_name: str
    paper: str
    min_size: int = 32


ARCHITECTURES: dict[str, Architecture] = {
    "densenet121": Architecture("densenet121", "Huang 2017"),
    "efficientnet_lite0": Architecture("tf_efficientnet_lite0", "Tan 2019, Liu 2020"),
    "efficientnet_lite1": Architecture("tf_efficientnet_lite1", "Tan 2019, Liu 2020"),
    "lcnet_035": Architecture("lcnet_035", "Cui 2021"),
    "lcnet_050": Architecture("lcnet_050", "Cui 2021"),
    "lcnet_100": Architecture("lcnet_100", "Cui 2021"),
    "mnasnet_050": Architecture("mnasnet_050", "Tan 2019"),
    "mnasnet_100": Architecture("mnasnet_100", "Tan 2019"),
    "mobilenetv2_035": Architecture("mobilenetv2_035", "Sandler 2018"),
    "mobilenetv2_050": Architecture("mobilenetv2_050", "Sandler 2018"),
    "mobilenetv2_075": Architecture("mobilenetv2_075", "Sandler 2018"),
    "mobilenetv2_100": Architecture("mobilenetv2_100", "Sandler 2018"),
    "mobilenetv3_large_075": Architecture("mobilenetv3_large_075", "Howard 2019"),
    "mobilenetv3_large_100": Architecture("mobilenetv3_large_100", "Howard 2019"),
    "mobilenetv3_small_050": Architecture("mobilenetv3_small_050", "Howard 2019"),
    "mobilenetv3_small_075": Architecture("mobilenetv3_small_075", "Howard 2019"),
    "mobilenetv3_small_100": Architecture("mobilenetv3_small_100", "Howard 2019"),
    "mobilenetv4_conv_medium": Architecture("mobilenetv4_conv_medium", "Qin 2024"),
    "mobilenetv4_conv_small": Architecture("mobilenetv4_conv_small", "Qin 2024"),
    "mobilenetv4_conv_small_035": Architecture("mobilenetv4_conv_small_035", "Qin 2024"),
    "mobilenetv4_conv_small_050": Architecture("mobilenetv4_conv_small_050", "Qin 2024"),
    "resnet18": Architecture("resnet18", "He 2016"),
    "resnet50": Architecture("resnet50", "He 2016"),
    "seresnet50": Architecture("seresnet50", "Hu 2018"),
    "tinynet_d": Architecture("tinynet_d", "Han 2020"),
    "tinynet_e": Architecture("tinynet_e", "Han 2020"),
    "vgg16": Architecture("vgg16", "Simonyan 2015", min_size=224),
}


class AgeNet(nn.Module):
    """``float32 [B, 3, S, S]`` RGB in 0..255 -> logits ``[B, 101]`` whose softmax is the age PMF.

    The normalisation that the backbone's ImageNet weights expect is the first step of the graph.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: nn.Module, head: Head, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        scale = 1.0 / (255.0 * torch.tensor(std).view(1, 3, 1, 1))
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", -255.0 * torch.tensor(mean).view(1, 3, 1, 1) * scale, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """The pooled penultimate features ``[B, F]``."""
        features: Tensor = self.backbone(images * self.scale + self.shift)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images -> logits ``[B, 101]``."""
        return self.head.logits(self.head(self.features(images)))

    @property
    def parameter_count(self) -> int:
        """Trainable parameters, the head included."""
        return sum(parameter.numel() for parameter in self.parameters())


def architecture(name: str) -> Architecture:
    """The row of the zoo; an unknown name is an ``InputError`` that lists the known ones."""
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def build(spec: ModelSpec, *, drop_rate: float = 0.0) -> AgeNet:
    """A network with the weights that ``spec.init`` asks for; the head always starts fresh.

    Weights are drawn from torch's global generator: seed it first. Raises ``InputError`` for an unknown
    architecture, an input too small for it, weights that do not fit, or a download that fails.
    """
    row = architecture(spec.arch)
    if spec.input_size < row.min_size:
        raise InputError(
            f"{spec.arch} needs an input of at least {row.min_size} px, but input_size is {spec.input_size}."
        )
    backbone = _backbone(row, pretrained=spec.init == "pretrained", drop_rate=drop_rate)
    if spec.init == "file":
        load_backbone_file(backbone, str(spec.weights), spec.arch)
    config: dict[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]
    head = build_head("softmax", _feature_count(backbone))
    return AgeNet(backbone, head, list(config["mean"]), list(config["std"]))


def untrained(spec: ModelSpec) -> ModelSpec:
    """The same network from random weights: what is built before stored weights are loaded into it."""
    return spec.model_copy(update={"init": "random", "weights": None})


def _backbone(row: Architecture, *, pretrained: bool, drop_rate: float) -> nn.Module:
    import timm

    options: dict[str, Any] = {"num_classes": 0, "drop_rate": drop_rate}
    try:
        net: nn.Module = timm.create_model(row.timm_name, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise
        # The hub client raises many kinds (HTTP, DNS, offline mode, missing tag); all mean the same here.
        raise InputError(
            f"The pretrained weights of {row.timm_name} could not be downloaded "
            f"({type(error).__name__}): check the network, or give a weights file with init: file."
        ) from error
    return net


def _feature_count(backbone: nn.Module) -> int:
    # timm's ``num_features`` leaves out a last layer before the classifier; ``head_hidden_size`` has it.
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]
