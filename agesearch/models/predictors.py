"""From face crops to age PMFs, with ONNX Runtime or torch; ``agesearch.models.predict`` opens them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from agesearch.ages import BINS, FloatArray
from agesearch.models.calibration.correction import AgeCorrection
from agesearch.models.calibration.record import Calibration
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import INT8_ONNX, ONNX, ModelManifest, read_checked
from agesearch.models.onnx import INPUT_NAME, run_pmf
from agesearch.models.prepare import Images, prepare
from agesearch.models.runtimes.engines import DEFAULT, Engine
from agesearch.models.runtimes.sessions import open_engine
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


class _OwnNetwork:
    """A network of ours, whatever runs it."""

    input_size: int

    def feed(self, images: Images | Sequence[Images]) -> dict[str, npt.NDArray[np.float32]]:
        """RGB crops of any size, of one batch, as the network's input."""
        return {INPUT_NAME: prepare(images, self.input_size)}


class SessionPredictor(_OwnNetwork):
    """A network of ours in a session that is open, with the calls of ONNX Runtime's."""

    def __init__(self, session: Any, input_size: int) -> None:
        self.input_size = input_size
        self.session = session

    def pmf(self, images: Images | Sequence[Images]) -> FloatArray:
        """RGB crops of any size -> PMFs ``float32 [N, 101]``."""
        parts = [
            run_pmf(self.session, prepare(images[start : start + BATCH], self.input_size))
            for start in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, BINS), dtype=np.float32)


class OnnxPredictor(SessionPredictor):
    """An exported network (a path, a location or its bytes; for int8 the quantised one) on an engine."""

    def __init__(
        self, model: str | bytes | Location, input_size: int, threads: int = 1, engine: Engine = DEFAULT
    ) -> None:
        super().__init__(open_engine(model, engine, threads), input_size)


class TorchPredictor(_OwnNetwork):
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


class CorrectedPredictor:
    """A predictor with an age correction: its PMFs are moved along the age axis."""

    def __init__(self, predictor: Predictor, correction: AgeCorrection) -> None:
        self.input_size = predictor.input_size
        self._predictor, self._correction = predictor, correction

    def pmf(self, images: Images | Sequence[Images]) -> FloatArray:
        """RGB crops of any size -> PMFs ``float32 [N, 101]``."""
        return self._correction.pmf(self._predictor.pmf(images))


def corrected(predictor: Predictor, calibration: Calibration | None) -> Predictor:
    """The predictor with the age correction of a calibration, where it has one."""
    if calibration is None or calibration.correction is None:
        return predictor
    return CorrectedPredictor(predictor, calibration.correction)


def folder_onnx(folder: str | Location, manifest: ModelManifest | None = None) -> bytes:
    """The ONNX bytes of a model folder: its checked ``model.onnx``, or the network exported in memory."""
    known = manifest or read_model_manifest(folder)
    if ONNX in known.files:
        return read_checked(folder, ONNX, manifest=known)
    from agesearch.models.folder import load_net
    from agesearch.models.tracing import onnx_bytes

    return onnx_bytes(load_net(folder), known.model.input_size)


def folder_int8(folder: str | Location, manifest: ModelManifest | None = None) -> bytes | None:
    """The checked ``model.int8.onnx`` of a model folder; None where it has none."""
    known = manifest or read_model_manifest(folder)
    return read_checked(folder, INT8_ONNX, manifest=known) if INT8_ONNX in known.files else None
