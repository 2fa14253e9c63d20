"""From face crops to age PMFs, with ONNX Runtime or torch; ``agesearch.models.predict`` opens them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from agesearch.ages import BINS, FloatArray
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import ONNX, ModelManifest, read_checked
from agesearch.models.onnx import open_session, run_pmf
from agesearch.models.prepare import Images, prepare
from agesearch.storage import Location

if TYPE_CHECKING:
    from agesearch.models.zoo import AgeNet

#: Faces sent through a network at once: enough to fill the cores, little enough for the caches.
BATCH = 32


class Predictor(Protocol):
    """Something that gives one PMF a face."""

    input_size: int

    def pmf(self, images: Images | Sequence[Images]) -> FloatArray:
        """RGB crops ``uint8 [N, S, S, 3]`` of any S -> PMFs ``float32 [N, 101]``."""
        ...


class OnnxPredictor:
    """ONNX Runtime on the CPU; ``model`` is a path, a location or the bytes of an exported network."""

    def __init__(self, model: str | bytes | Location, input_size: int, threads: int = 1) -> None:
        self.input_size = input_size
        self.session: Any = open_session(model, threads)

    def pmf(self, images: Images | Sequence[Images]) -> FloatArray:
        """RGB crops of any size -> PMFs ``float32 [N, 101]``."""
        parts = [
            run_pmf(self.session, prepare(images[start : start + BATCH], self.input_size))
            for start in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, BINS), dtype=np.float32)


class TorchPredictor:
    """The torch network itself, in the precision it was trained in."""

    def __init__(self, net: AgeNet, input_size: int) -> None:
        self.input_size = input_size
        self.net = net.eval()

    def pmf(self, images: Images | Sequence[Images]) -> FloatArray:
        """RGB crops of any size -> PMFs ``float32 [N, 101]``."""
        import torch

        device = next(self.net.parameters()).device
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                inputs = torch.from_numpy(prepare(images[start : start + BATCH], self.input_size)).to(device)
                parts.append(torch.softmax(self.net(inputs).float(), dim=-1).cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, BINS), dtype=np.float32)


def folder_onnx(folder: str | Location, manifest: ModelManifest | None = None) -> bytes:
    """The ONNX bytes of a model folder: its checked ``model.onnx``, or the network exported in memory."""
    known = manifest or read_model_manifest(folder)
    if ONNX in known.files:
        return read_checked(folder, ONNX, manifest=known)
    from agesearch.models.folder import load_net
    from agesearch.models.tracing import onnx_bytes

    return onnx_bytes(load_net(folder), known.model.input_size)
