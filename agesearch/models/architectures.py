"""The named architectures, without torch: what specs, search spaces and reports may name.

Backbones come from timm. Adding one is one row of ``ARCHITECTURES``.
"""

from __future__ import annotations

from dataclasses import dataclass

from agesearch.errors import unknown_name


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


def architecture(name: str) -> Architecture:
    """The row of the zoo; an unknown name is an ``InputError`` that lists the known ones."""
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]
