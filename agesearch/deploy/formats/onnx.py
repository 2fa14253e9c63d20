"""ONNX: the network as it is served, with its reading in the file's metadata."""

from __future__ import annotations

from pathlib import Path

from agesearch.ages import FloatArray
from agesearch.data.images.decode import RgbImage
from agesearch.deploy.formats.reading import Reading
from agesearch.deploy.formats.subject import ExportSubject
from agesearch.models.predictors import OnnxPredictor

#: The key of the reading in the metadata of a file.
KEY = "agesearch"


def write(subject: ExportSubject, reading: Reading, file: Path) -> None:
    """Write the network with its reading."""
    file.write_bytes(with_reading(subject.onnx(), reading))


def with_reading(content: bytes, reading: Reading) -> bytes:
    """An ONNX model with a reading in its metadata."""
    import onnx

    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(model, {KEY: reading.model_dump_json()})
    model.doc_string = f"{reading.age.how} {reading.purpose}"
    return bytes(model.SerializeToString())


def answer(file: Path, crops: RgbImage, size: int) -> FloatArray:
    """PMFs by ONNX Runtime."""
    return OnnxPredictor(file.read_bytes(), size).pmf(crops)
