"""A narrower network that computes nearly what the wide one does: channels pruned by least squares.

Channel pruning by reconstruction (He et al. 2017): inside a block, a pointwise convolution reads channels
that others nearly tell; those are taken away one by one, the least missed first, and the weights that read
what stays are solved for, so that the block's output on faces changes least. No age is looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from agesearch.models.architectures import architecture
from agesearch.models.backbones.xception import TinyXception
from agesearch.models.prepare import prepare
from agesearch.models.zoo import AgeNet
from agesearch.training.refit.features import Crops

#: Added to each channel's variance, as a share of the mean one: what hardly varies is not divided by.
_LEAST_VARIANCE = 1e-6


def narrowed(net: AgeNet, arch: str, batches: Iterable[Crops]) -> AgeNet:
    """A network of ``xception_tiny`` with as many channels as the narrower ``arch``, chosen on batches of RGB
    crops of any size.
    """
    narrow = copy.deepcopy(net)
    row = architecture(arch)
    narrow.backbone = TinyXception(net.input_size, row.kept, centred=row.centred)
    wanted = narrow.backbone.state_dict()
    tensors = dict(net.backbone.state_dict())
    for (made, between, read), (mean, covariance) in _seen(net, batches).items():
        weight = tensors[f"{read}.weight"].flatten(1).double()
        count = len(wanted[f"{between}.weight"])
        stay, solved = kept_channels(covariance, weight, count)
        missing = weight @ mean - solved @ mean[stay]
        tensors[f"{read}.weight"] = solved[:, :, None, None]
        tensors[f"{read}.bias"] = tensors[f"{read}.bias"] + missing
        for name in (f"{made}.weight", f"{made}.bias", f"{between}.weight"):
            tensors[name] = tensors[name][stay]
    narrow.backbone.load_state_dict({name: values.float() for name, values in tensors.items()})
    return narrow.eval()


def kept_channels(covariance: Tensor, weight: Tensor, count: int) -> tuple[list[int], Tensor]:
    """Which ``count`` of C channels stay where a layer of weights ``[O, C]`` reads them, and its weights
    ``[O, count]`` for those, of least squared error; ``covariance`` ``[C, C]`` is that of the channels.

    The one whose loss costs least goes first (backward elimination); each step is exact for the layer.
    """
    stay = list(range(len(covariance)))
    floor = _LEAST_VARIANCE * covariance.diagonal().mean() + torch.finfo(covariance.dtype).tiny
    inverse = torch.linalg.inv(covariance + floor * torch.eye(len(covariance), dtype=covariance.dtype))
    while len(stay) > count:
        cost = (weight**2).sum(0) / inverse.diagonal()
        least = int(cost.argmin())
        others = [at for at in range(len(stay)) if at != least]
        share = inverse[least, others] / inverse[least, least]
        weight = weight[:, others] - weight[:, [least]] * share
        inverse = inverse[others][:, others] - inverse[others][:, [least]] * share
        stay = [stay[at] for at in others]
    return stay, weight


def _seen(net: AgeNet, batches: Iterable[Crops]) -> dict[tuple[str, str, str], tuple[Tensor, Tensor]]:
    """Mean ``[C]`` and covariance ``[C, C]`` of the channels inside each block, over faces and places."""
    assert isinstance(net.backbone, TinyXception)
    sums: dict[tuple[str, str, str], list[Any]] = {}
    hooks = []
    for layers in net.backbone.inside():
        sums[layers] = [0, 0, 0]

        def add(_: nn.Module, given: tuple[Tensor], __: Tensor, total: list[Any] = sums[layers]) -> None:
            rows = given[0].permute(0, 2, 3, 1).flatten(0, 2).double()
            for at, part in enumerate((len(rows), rows.sum(0), rows.T @ rows)):
                total[at] = total[at] + part

        hooks.append(net.backbone.get_submodule(layers[2]).register_forward_hook(add))
    try:
        with torch.inference_mode():
            for crops in batches:
                net.features(torch.from_numpy(prepare(crops, net.input_size)))
    finally:
        for hook in hooks:
            hook.remove()
    return {
        layers: ((mean := first / count), second / count - mean[:, None] * mean)
        for layers, (count, first, second) in sums.items()
    }
