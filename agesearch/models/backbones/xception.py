"""A tiny Xception (Chollet 2017): separable convolutions with skips, as the age network of face-api.js (MIT)
has them, whose published weights it can start from.

Its batch statistics are folded into the convolutions, so it suits gentle training from good weights
(learning rates of some 3e-5) more than training from random ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

#: Times the face's box: the crops that the product makes by default, and the square that this network sees.
CROP_SCALE = 1.3

#: The mean colour that face-api.js subtracts, RGB in 0..255; nothing is divided but by 255.
MEAN_RGB = (122.782, 117.001, 104.298)

FEATURES = 512

#: Standard deviation, as a share of the last map's width (2 of 7 columns at 112 px).
CENTRED_WIDTH = 2 / 7


def seen_side(side: int) -> int:
    """The side in pixels of the central square that the network sees of an input of ``side``: its 1 / 1.3, an
    equal margin on each side. 146 gives 112.
    """
    return side - 2 * round((side - side / CROP_SCALE) / 2)


def side_seeing(seen: int) -> int:
    """The smallest input side of which the network sees the central ``seen`` px or more: 112 gives 146."""
    return next(side for side in range(seen, 2 * seen) if seen_side(side) >= seen)


class Separable(nn.Sequential):
    """A depthwise 3x3 convolution without bias, then a pointwise one with it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False), nn.Conv2d(inputs, outputs, 1)
        )


class Reduction(nn.Module):
    """Two separable convolutions with ``inner`` channels between them and a pooling to half the side, beside
    a pointwise skip of stride 2.

    ``side`` is the input's. Padding is TensorFlow's SAME, the pooling's over an odd side included.
    """

    def __init__(self, inputs: int, inner: int, outputs: int, side: int, *, first: bool = False) -> None:
        super().__init__()
        self.first = first
        self.a, self.b = Separable(inputs, inner), Separable(inner, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=2)
        self.pool = nn.MaxPool2d(3, 2, padding=side % 2, ceil_mode=True)

    def forward(self, maps: Tensor) -> Tensor:
        """``[B, inputs, S, S]`` -> ``[B, outputs, ceil(S / 2), ceil(S / 2)]``."""
        inner = self.b(torch.relu(self.a(maps if self.first else torch.relu(maps))))
        reduced: Tensor = self.pool(inner) + self.skip(maps)
        return reduced


class Residual(nn.Module):
    """Three separable convolutions with ``inner`` channels between them, each behind a ReLU, added to the
    input.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        widths = (width, inner, inner, width)
        self.convs = nn.Sequential(*(Separable(*each) for each in pairwise(widths)))

    def forward(self, maps: Tensor) -> Tensor:
        """``[B, width, S, S]`` -> the same shape."""
        inner = maps
        for conv in self.convs:
            inner = conv(torch.relu(inner))
        return inner + maps


class TinyXception(nn.Module):
    """``float32 [B, 3, S, S]`` normalised RGB -> pooled features ``[B, 512]``; ``side`` is S in pixels,
    ``kept`` the share of face-api's channels that there are inside blocks, in sixteens, which runtimes work
    on at once. With ``centred`` the mean over the last map weighs its columns by a Gaussian about the middle
    one, ``CENTRED_WIDTH`` of the map wide: at the sides there is what is beside a face.

    The network is made for faces cut at 1.0 x their box and sees the centre of its input alone
    (``seen_side``), so that it takes crops of 1.3 x the box as every other network does.
    """

    num_features = FEATURES
    columns: Tensor

    def __init__(self, side: int, kept: float = 1.0, *, centred: bool = False) -> None:
        super().__init__()
        seen = seen_side(side)
        sides = [-(-seen // 2**halved) for halved in range(5)]
        self.margin, self.seen = (side - seen) // 2, seen
        odd = seen % 2
        self.pad = nn.ZeroPad2d((odd, 1, odd, 1))
        self.stem = nn.Conv2d(3, 32, 3, stride=2)
        inner = {width: round(width * kept / 16) * 16 for width in (64, 128, 256)}
        self.entry = nn.Sequential(
            Reduction(32, inner[64], 64, sides[1], first=True), Reduction(64, inner[128], 128, sides[2])
        )
        self.middle = nn.Sequential(Residual(128, inner[128]), Residual(128, inner[128]))
        self.exit = Reduction(128, inner[256], 256, sides[3])
        self.last = Separable(256, FEATURES)
        self.centred = centred
        columns = torch.linspace(-0.5, 0.5, 2 * sides[4] + 1)[1::2]
        near = torch.exp(-0.5 * (columns / CENTRED_WIDTH) ** 2)
        self.register_buffer("columns", near / near.sum(), persistent=False)
        self.pretrained_cfg: dict[str, Any] = {
            "mean": tuple(value / 255 for value in MEAN_RGB),
            "std": (1.0, 1.0, 1.0),
        }
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": 64, "reduction": 4, "module": "entry.0"},
            {"num_chs": 128, "reduction": 8, "module": "middle"},
            {"num_chs": 256, "reduction": 16, "module": "exit"},
        ]

    def forward(self, images: Tensor) -> Tensor:
        """Images -> features."""
        maps = self._last_map(images)
        return self._about_middle(maps) if self.centred else maps.mean((2, 3))

    def poolings(self, images: Tensor) -> Tensor:
        """Images -> features ``[B, P, 512]``: of this network, and of the centred one of the same tensors (P
        is 1 where it is that one).
        """
        maps = self._last_map(images)
        centred = self._about_middle(maps)
        return torch.stack([centred] if self.centred else [maps.mean((2, 3)), centred], dim=1)

    def _about_middle(self, maps: Tensor) -> Tensor:
        return (maps.mean(2) * self.columns).sum(2)  # as a matrix product NNCF cannot quantise it

    def _last_map(self, images: Tensor) -> Tensor:
        end = self.margin + self.seen
        face = images[:, :, self.margin : end, self.margin : end]
        maps = self.middle(self.entry(torch.relu(self.stem(self.pad(face)))))
        return torch.relu(self.last(self.exit(maps)))

    def inside(self) -> Iterator[tuple[str, str, str]]:
        """The names of the layers that make, carry and read the channels inside each block."""
        for name in ("entry.0", "entry.1", "exit"):
            yield f"{name}.a.1", f"{name}.b.0", f"{name}.b.1"
        for name in (f"middle.{block}.convs" for block in range(len(self.middle))):
            for conv in range(2):
                yield f"{name}.{conv}.1", f"{name}.{conv + 1}.0", f"{name}.{conv + 1}.1"
