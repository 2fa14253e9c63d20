"""A predictor for whatever stands at a place: a model folder with ONNX Runtime or torch, a foreign teacher,
an ensemble.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from agesearch.ages import FloatArray, expected_age
from agesearch.data.dataset.records import read_manifest
from agesearch.errors import InputError, unknown_name
from agesearch.models.foreign.document import is_teacher_file
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import ModelManifest, folder_calibration
from agesearch.models.predictors import (
    OnnxPredictor,
    Predictor,
    TorchPredictor,
    corrected,
    folder_int8,
    folder_onnx,
)
from agesearch.models.prepare import Images
from agesearch.models.runtimes.engines import DEFAULT, INT8, Engine
from agesearch.models.scorers import scorer_of
from agesearch.specs import CropSpec
from agesearch.storage import Location

Runtime = Literal["onnx", "torch"]


def open_predictor(
    folder: str | Location,
    runtime: Runtime = "onnx",
    threads: int = 1,
    *,
    crop: CropSpec | None = None,
    calibrated: bool = True,
    engine: Engine = DEFAULT,
) -> Predictor:
    """A predictor (RGB crops -> PMFs ``float32 [N, 101]``) for a model folder, on ``threads`` CPU threads of
    an engine; without a ``model.onnx`` in it, the network is exported in memory. For int8 the folder must
    have its ``model.int8.onnx``. Ages are corrected as the folder's calibration says (not ``calibrated``:
    they are the network's own).

    A teacher's document (``agesearch.models.foreign.document``) is opened, too; for it, ``crop`` says how the
    faces were cropped (None: as the teacher wants them), and the runtime must be onnx.
    """
    if runtime not in ("onnx", "torch"):
        raise unknown_name("runtime", runtime, ("onnx", "torch"))
    if is_teacher_file(folder):
        if runtime != "onnx":
            raise InputError(f"The teacher '{folder}' is no network of ours: it runs with the runtime onnx.")
        return scorer_of(folder, crop).open(threads, engine)
    manifest = read_model_manifest(folder)
    size = manifest.model.input_size
    calibration = folder_calibration(folder, manifest) if calibrated else None
    if runtime == "onnx":
        network = OnnxPredictor(_network(folder, manifest, engine), size, threads, engine)
        return corrected(network, calibration)
    from agesearch.models.folder import load_net

    return corrected(TorchPredictor(load_net(folder), size), calibration)


def _network(folder: str | Location, manifest: ModelManifest, engine: Engine) -> bytes:
    if engine.precision != INT8:
        return folder_onnx(folder, manifest)
    content = folder_int8(folder, manifest)
    if content is None:
        raise InputError(f"The model '{folder}' has no int8 network.")
    return content


def age_predictor(folder: str | Location, dataset: str | Location) -> Callable[[Images], FloatArray]:
    """A model's answer for the crops of a dataset: RGB ``uint8 [N, S, S, 3]`` -> ages in years ``[N]``."""
    predictor = open_predictor(folder, crop=read_manifest(dataset).crop)
    return lambda images: expected_age(predictor.pmf(images))
