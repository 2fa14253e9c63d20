"""Exporting a network to ONNX by tracing it with torch; ``agesearch.models.onnx`` runs what comes out."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame, Conv2dSameExport
from torch import Tensor, nn

from agesearch.ages import AGES
from agesearch.errors import AgeSearchError
from agesearch.models.onnx import AGE_NAME, INPUT_NAME, PMF_NAME
from agesearch.models.zoo import AgeNet

OPSET = 18


class _WithAge(nn.Module):
    """The network as it is exported: PMF and expected age in the graph."""

    ages: Tensor

    def __init__(self, net: AgeNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("ages", torch.from_numpy(AGES))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pmf = torch.softmax(self.net(images), dim=-1)
        return pmf, pmf @ self.ages


def answering(net: AgeNet, input_size: int) -> nn.Module:
    """A copy of the network as it goes out: f32 [n, 3, S, S] RGB 0..255 -> PMF f32 [n, 101] and expected age
    f32 [n] in years, its paddings constants for inputs of this size.
    """
    module = _WithAge(_with_fixed_padding(copy.deepcopy(net).cpu().float())).eval()
    with torch.no_grad():
        module(torch.zeros(2, 3, input_size, input_size))  # fixes the paddings
    return module


def onnx_bytes(net: AgeNet, input_size: int) -> bytes:
    """The network as ONNX: input ``images`` f32 [n, 3, S, S] RGB 0..255, outputs ``pmf`` f32 [n, 101] and
    ``age`` f32 [n] in years; n is dynamic. The network itself is not touched.
    """
    module = answering(net, input_size)
    sample = torch.zeros(2, 3, input_size, input_size)
    buffer: Any = io.BytesIO()
    options: dict[str, Any] = {
        "opset_version": OPSET,
        "input_names": [INPUT_NAME],
        "output_names": [PMF_NAME, AGE_NAME],
        "dynamic_axes": {INPUT_NAME: {0: "n"}, PMF_NAME: {0: "n"}, AGE_NAME: {0: "n"}},
        # The TorchScript exporter takes 0.4-0.7 s for these nets, the dynamo one about 5 s (torch 2.15).
        "dynamo": False,
    }
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(module, (sample,), buffer, **options)
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).splitlines()[0]
            raise AgeSearchError(
                f"The network cannot be exported to ONNX at {input_size} px: {reason}"
            ) from error
    content: bytes = buffer.getvalue()
    return content


def _with_fixed_padding(net: AgeNet) -> AgeNet:
    """TensorFlow's SAME padding as constants of the graph: computed from the input at run time, it would
    leave some 350 nodes of shape arithmetic in an EfficientNet-Lite.
    """
    for name, layer in list(net.named_modules()):
        if isinstance(layer, Conv2dSame):
            shape: dict[str, Any] = {"stride": layer.stride, "dilation": layer.dilation}
            kernel: Any = layer.kernel_size
            fixed = Conv2dSameExport(
                layer.in_channels, layer.out_channels, kernel, groups=layer.groups, bias=False, **shape
            )
            fixed.weight, fixed.bias = layer.weight, layer.bias
            net.set_submodule(name, fixed)
    return net
