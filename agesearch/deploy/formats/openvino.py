"""OpenVINO's IR: an ``.xml`` and its ``.bin``, with the reading in the model's runtime information."""

from __future__ import annotations

from pathlib import Path

from agesearch.ages import FloatArray
from agesearch.data.images.decode import RgbImage
from agesearch.deploy.formats.onnx import KEY
from agesearch.deploy.formats.reading import Reading
from agesearch.deploy.formats.subject import ExportSubject
from agesearch.models.predictors import SessionPredictor
from agesearch.models.runtimes.openvino import OpenVinoSession


def write(subject: ExportSubject, reading: Reading, file: Path) -> None:
    """Write both files; weights keep their precision."""
    import openvino

    model = openvino.Core().read_model(subject.onnx())
    model.set_rt_info(reading.model_dump_json(), [KEY, "reading"])
    openvino.save_model(model, file, compress_to_fp16=False)


def answer(file: Path, crops: RgbImage, size: int) -> FloatArray:
    """PMFs by OpenVINO on the CPU, in fp32 (and int8 where the network is)."""
    return SessionPredictor(OpenVinoSession(file), size).pmf(crops)
