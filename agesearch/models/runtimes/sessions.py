"""A running network on any engine, and how many of its layers really run in the precision asked for.

Every session has the calls of an ``onnxruntime.InferenceSession`` that we use: ``run``, ``get_inputs`` and
``get_outputs``.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agesearch.errors import InputError
from agesearch.models.onnx import open_session
from agesearch.models.runtimes.engines import CUDA, DEFAULT, FP32, INT8, OPENVINO, TORCH_CUDA, Engine, why_not
from agesearch.models.runtimes.openvino import OpenVinoSession
from agesearch.storage import Location

#: Operators of ONNX Runtime's graph that multiply by weights: in floats, and in whole numbers.
_FLOAT_LAYERS = frozenset(
    {"Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
)
_INT8_LAYERS = frozenset(
    {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"}
)


@dataclass(frozen=True)
class Layers:
    """How many layers multiply (convolutions and matrix products), and how many of them run as asked."""

    count: int
    as_asked: int


def open_engine(model: str | bytes | Location, engine: Engine = DEFAULT, threads: int = 1) -> Any:
    """A session of an ONNX model (a path, or its bytes) on an engine, with ``threads`` CPU threads.

    For int8 the model must be quantised already (``agesearch.models.runtimes.int8``). Raises ``InputError``
    where the engine is not on this machine, or cannot run the model.
    """
    reason = why_not(engine)
    if reason is not None:
        raise InputError(f"{engine} cannot be run on: {reason}")
    if engine.runtime == TORCH_CUDA:
        raise InputError("torch runs the networks of model folders; this one is an ONNX file.")
    if engine.runtime == OPENVINO:
        return OpenVinoSession(model, engine.precision, threads)
    if engine.runtime == CUDA:
        return open_session(model, threads, provider="CUDAExecutionProvider")
    return open_session(model, threads)


def executed(model: bytes, engine: Engine) -> Layers:
    """How many layers of an ONNX model run in the precision of an engine, as its runtime has planned them.

    A runtime may compute in another precision than it was asked to: ONNX Runtime runs a quantised
    convolution in floats where the activation behind it is one that it cannot quantise.
    """
    if engine.runtime == OPENVINO:
        found = OpenVinoSession(model, engine.precision, 1).precisions()
        asked = {FP32: ("f32",), INT8: ("i8", "u8")}.get(engine.precision, (engine.precision,))
        return Layers(sum(found.values()), sum(found[name] for name in asked))
    names = _planned(model)
    whole, floats = (sum(name in kinds for name in names) for kinds in (_INT8_LAYERS, _FLOAT_LAYERS))
    return Layers(whole + floats, whole if engine.precision == INT8 else floats)


def _planned(model: bytes) -> list[str]:
    """The operators of ONNX Runtime's optimised graph."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "planned.onnx"
        options.optimized_model_filepath = str(place)
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(str(place)).graph.node]
