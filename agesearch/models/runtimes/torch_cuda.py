"""A network of ours in torch on an NVIDIA GPU, for timing: what a GPU gives where ONNX Runtime has none.

A call is what a service would wait for: faces go to the GPU, the network runs, its answer comes back, and the
GPU is waited for, so that a clock around the call tells the whole of it. fp32 is torch's own: convolutions
may use TF32, as they do in training. It was never run on a GPU, only on the CPU in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from agesearch.models.zoo import AgeNet

#: The device that networks are put on.
DEVICE = "cuda"


def on_gpu(net: AgeNet) -> AgeNet:
    """The network in evaluation mode on the GPU."""
    return net.eval().to(DEVICE)


def timed_call(net: AgeNet, input_size: int, batch: int) -> Callable[[], Any]:
    """One run on ``batch`` random faces, there and back."""
    import torch

    network = on_gpu(net)
    shape = (batch, 3, input_size, input_size)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, size=shape).astype(np.float32))

    def run() -> Any:
        with torch.inference_mode():
            answer = torch.softmax(network(images.to(DEVICE)).float(), dim=-1).cpu()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return answer

    return run


def layers_of(net: AgeNet) -> int:
    """How many of its layers multiply by weights."""
    from torch import nn

    return sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in net.modules())
