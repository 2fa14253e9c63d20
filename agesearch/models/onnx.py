"""From a network to ONNX, and from ONNX to a running session: the form that is measured and served.

torch is imported only where a network is exported, so that the service can do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from agesearch.ages import FloatArray
from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.storage import Location

if TYPE_CHECKING:
    from agesearch.models.zoo import AgeNet

INPUT_NAME = "images"
PMF_NAME = "pmf"
AGE_NAME = "age"

#: The largest ONNX file that is opened: protobuf itself stops at 2 GiB.
MAX_ONNX_BYTES = 2 * 1024**3 - 1


def onnx_bytes(net: AgeNet, input_size: int) -> bytes:
    """The network as ONNX: input ``images`` f32 [n, 3, S, S] RGB 0..255, outputs ``pmf`` f32 [n, 101] and
    ``age`` f32 [n] in years; n is dynamic.
    """
    from agesearch.models.tracing import traced

    return traced(net, input_size)


def open_session(model: str | bytes | Location, threads: int = 1) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU with ``threads`` threads, from a path or the bytes.

    Raises ``InputError`` where the model cannot be loaded.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = model if isinstance(model, bytes) else Location.of(model).read_bytes(MAX_ONNX_BYTES)
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds share no public base
        where = "The model" if isinstance(model, bytes) else f"'{model}'"
        raise InputError(f"{where} is not an ONNX model that can be run: {first_line(error)}") from error


def run_pmf(session: Any, inputs: npt.NDArray[np.float32]) -> FloatArray:
    """PMFs ``[n, 101]`` of prepared inputs ``[n, 3, S, S]``; non-finite output is an ``AgeSearchError``."""
    pmf: FloatArray = session.run([PMF_NAME], {INPUT_NAME: inputs})[0]
    if not np.isfinite(pmf).all():
        raise AgeSearchError("The model answered with a value that is not a number.")
    return pmf
