"""A running session of an ONNX network: the form that is measured and served. Needs no torch.

``agesearch.models.tracing`` exports networks to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.ages import FloatArray
from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.storage import Location

INPUT_NAME = "images"
PMF_NAME = "pmf"
AGE_NAME = "age"

#: The largest ONNX file that is opened: protobuf itself stops at 2 GiB.
MAX_ONNX_BYTES = 2 * 1024**3 - 1


def open_session(
    model: str | bytes | Location, threads: int = 1, provider: str = "CPUExecutionProvider"
) -> Any:
    """An ``onnxruntime.InferenceSession`` with ``threads`` threads on the CPU (or another provider of
    ONNX Runtime), from a path or the bytes.

    Raises ``InputError`` where the model cannot be loaded.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = model if isinstance(model, bytes) else Location.of(model).read_bytes(MAX_ONNX_BYTES)
    try:
        return ort.InferenceSession(content, options, providers=[provider])
    except Exception as error:  # onnxruntime's own kinds share no public base
        where = "The model" if isinstance(model, bytes) else f"'{model}'"
        raise InputError(f"{where} is not an ONNX model that can be run: {first_line(error)}") from error


def run_pmf(session: Any, inputs: npt.NDArray[np.float32]) -> FloatArray:
    """PMFs ``[n, 101]`` of prepared inputs ``[n, 3, S, S]``; non-finite output is an ``AgeSearchError``."""
    pmf: FloatArray = session.run([PMF_NAME], {INPUT_NAME: inputs})[0]
    if not np.isfinite(pmf).all():
        raise AgeSearchError("The model answered with a value that is not a number.")
    return pmf
