"""The named architectures, and what tells two networks apart, without torch: what specs, search spaces and
reports may name.

Backbones come from timm, or from ``agesearch.models.backbones``. Adding one is one row of ``ARCHITECTURES``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from agesearch.errors import InputError, unknown_name
from agesearch.specs import ModelSpec

#: The fields of a ``ModelSpec`` that a search may vary and that change the graph.
NETWORK_FIELDS = ("arch", "input_size", "head", "pixels")

_ARCH_AT_SIZE = re.compile(r"(?P<arch>[a-z0-9_]+)@(?P<size>\d+)")


@dataclass(frozen=True)
class Architecture:
    """A backbone: its timm name (None: it is our own), the publication, and the smallest input side it works
    on in pixels.

    ``blocks`` (s, b) keeps its first s stages, of the last of these the first b blocks, and no layer behind
    them: late layers of an ImageNet network tell a thousand classes apart, hold most of its parameters, and
    are little use for ages. Published weights of the whole network are loaded before it is cut. ``kept`` of
    our own is the share of the channels inside its blocks; 'agesearch refit' chooses which. ``centred`` ones
    weigh the columns of their last map by how near the middle they are; their tensors are those of the same
    name without ``_centred``, and 'agesearch refit' chooses between the two.
    """

    timm_name: str | None
    paper: str
    min_size: int = 32
    blocks: tuple[int, int] | None = None
    kept: float = 1.0
    centred: bool = False


class Network(NamedTuple):
    """All of a ``ModelSpec`` that decides the exported graph, and so how long it takes.

    Weights do not, nor what only training has (``dropout``), nor the value of a constant (``head_sigma``).
    ``pixels`` does: a runtime leaves a multiplication by one out. ``groups`` are those of the head
    ``groups``, and empty for the others.
    """

    arch: str
    input_size: int
    head: str = "softmax"
    pixels: str = "imagenet"
    groups: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, model: ModelSpec, changes: Mapping[str, Any] | None = None) -> Self:
        """The network of a spec, some of its fields changed."""
        arch, size, head, pixels = (
            (changes or {}).get(name, getattr(model, name)) for name in NETWORK_FIELDS
        )
        return cls(str(arch), int(size), str(head), str(pixels), model.groups if head == "groups" else ())

    @classmethod
    def named(cls, name: str) -> Self | None:
        """The network that ``ARCH@SIZE`` names, such as ``vgg16@224``; None for another name.

        No alias of the registry is a number, so this names no version. Raises ``InputError`` for a side that
        the architecture does not take.
        """
        match = _ARCH_AT_SIZE.fullmatch(name)
        if match is None or match["arch"] not in ARCHITECTURES:
            return None
        arch, size = match["arch"], int(match["size"])
        least, most = ARCHITECTURES[arch].min_size, 512
        if not least <= size <= most:
            raise InputError(f"'{name}' has an input of {size} px, but {arch} takes {least} to {most}.")
        return cls(arch, size)

    def fields(self) -> dict[str, Any]:
        """The fields of a ``ModelSpec`` that it decides."""
        values = self._asdict()
        return values if self.groups else {name: values[name] for name in NETWORK_FIELDS}

    def model(self) -> ModelSpec:
        """A spec of this network, its weights random."""
        return ModelSpec(**self.fields())

    def __str__(self) -> str:
        """``lcnet_050 at 96 px``, with a head or a normalisation that is not the usual one."""
        usual = Network(self.arch, self.input_size)
        others = [name for name in ("head", "pixels") if getattr(self, name) != getattr(usual, name)]
        words = [f"{name} {getattr(self, name)}" for name in others]
        return ", ".join([f"{self.arch} at {self.input_size} px", *words])


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
    "mobilenetv2_100_cut": Architecture("mobilenetv2_100", "Sandler 2018, first 16 layers", blocks=(6, 2)),
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
    "xception_tiny": Architecture(None, "Chollet 2017, as in face-api.js"),
    "xception_tiny_050": Architecture(None, "He 2017, half of the channels inside blocks", kept=0.5),
    "xception_tiny_075": Architecture(None, "He 2017, three quarters of them", kept=0.75),
    "xception_tiny_088": Architecture(None, "He 2017, seven eighths of them", kept=0.875),
}

_CENTRED = "_centred"
ARCHITECTURES |= {
    name + _CENTRED: replace(row, paper=f"{row.paper}, centred", centred=True)
    for name, row in ARCHITECTURES.items()
    if row.timm_name is None
}

#: What the narrower ones of our own are pruned from.
WIDE = "xception_tiny"


def evenly_pooled(name: str) -> str:
    """The architecture of the same tensors that pools its last map evenly."""
    return name.removesuffix(_CENTRED)


def poolings_of(name: str) -> tuple[str, ...]:
    """An architecture, and the centred one of the same tensors, where there is one."""
    centred = name + _CENTRED
    return (name, centred) if centred in ARCHITECTURES else (name,)


def architecture(name: str) -> Architecture:
    """The row of the zoo; an unknown name is an ``InputError`` that lists the known ones."""
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]
