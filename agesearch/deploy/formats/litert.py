"""LiteRT (before: TensorFlow Lite): a ``.tflite`` for one face."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from agesearch.ages import BINS, FloatArray
from agesearch.data.images.decode import RgbImage
from agesearch.deploy.formats.reading import Reading
from agesearch.deploy.formats.subject import ExportSubject
from agesearch.errors import AgeSearchError, first_line
from agesearch.models.prepare import prepare


def write(subject: ExportSubject, reading: Reading, file: Path) -> None:
    """Write the network; its reading stands beside it."""
    import litert_torch
    import torch

    from agesearch.models.tracing import answering

    size = subject.input_size
    try:
        with redirect_stdout(io.StringIO()):  # its progress
            made = litert_torch.convert(answering(subject.net(), size), (torch.zeros(1, 3, size, size),))
            made.export(str(file))
    except Exception as error:  # the converter's own kinds share no base
        raise AgeSearchError(f"The network cannot be written for LiteRT: {first_line(error)}") from error


def answer(file: Path, crops: RgbImage, size: int) -> FloatArray:
    """PMFs by LiteRT's interpreter, face by face."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    [given] = interpreter.get_input_details()
    [pmf] = [one for one in interpreter.get_output_details() if one["shape"][-1] == BINS]
    found = []
    for inputs in prepare(crops, size):
        interpreter.set_tensor(given["index"], inputs[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(pmf["index"]))
    return np.concatenate(found)
