"""From face crops to age PMFs, with ONNX Runtime or torch, whatever the model folder's size or input side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from agesearch.ages import BINS, FloatArray, expected_age
from agesearch.data.records import read_manifest
from agesearch.errors import InputError, unknown_name
from agesearch.models.manifest import ONNX, ModelManifest, read_checked, read_model_manifest
from agesearch.models.onnx import onnx_bytes, open_session, run_pmf
from agesearch.models.prepare import Images, prepare
from agesearch.models.teacher_files import is_teacher_file
from agesearch.specs import CropSpec
from agesearch.storage import Location

if TYPE_CHECKING:
    from agesearch.models.zoo import AgeNet

Runtime = Literal["onnx", "torch"]

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


def open_predictor(
    folder: str | Location,
    runtime: Runtime = "onnx",
    threads: int = 1,
    *,
    crop: CropSpec | None = None,
) -> Predictor:
    """A predictor for a model folder; without a ``model.onnx`` in it, the network is exported in memory.

    A teacher's document (``agesearch.models.teacher_files``) is opened, too; for it, ``crop`` says how the
    faces were cropped (None: as the teacher wants them), and the runtime must be onnx.
    """
    if runtime not in ("onnx", "torch"):
        raise unknown_name("runtime", runtime, ("onnx", "torch"))
    if is_teacher_file(folder):
        from agesearch.models.scorers import scorer_of

        if runtime != "onnx":
            raise InputError(f"The teacher '{folder}' is no network of ours: it runs with the runtime onnx.")
        return scorer_of(folder, crop).open(threads)
    manifest = read_model_manifest(folder)
    size = manifest.model.input_size
    if runtime == "onnx":
        return OnnxPredictor(folder_onnx(folder, manifest), size, threads)
    from agesearch.models.folder import load_net

    return TorchPredictor(load_net(folder), size)


def age_predictor(folder: str | Location, dataset: str | Location) -> Callable[[Images], FloatArray]:
    """A model's answer for the crops of a dataset: RGB ``uint8 [N, S, S, 3]`` -> ages in years ``[N]``."""
    predictor = open_predictor(folder, crop=read_manifest(dataset).crop)
    return lambda images: expected_age(predictor.pmf(images))


def folder_onnx(folder: str | Location, manifest: ModelManifest | None = None) -> bytes:
    """The ONNX bytes of a model folder: its checked ``model.onnx``, or the network exported in memory."""
    known = manifest or read_model_manifest(folder)
    if ONNX in known.files:
        return read_checked(folder, ONNX, manifest=known)
    from agesearch.models.folder import load_net

    return onnx_bytes(load_net(folder), known.model.input_size)
