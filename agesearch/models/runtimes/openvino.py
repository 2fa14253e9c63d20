"""A network in OpenVINO on the CPU, with the calls of an ONNX Runtime session.

The precision is always asked for: left to itself, OpenVINO computes in bf16 on CPUs that have it. A network
for one face is compiled with its shape fixed (a tenth to a third faster for small ones), others with the
batch left open; each when it is first run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.errors import InputError, first_line
from agesearch.models.onnx import MAX_ONNX_BYTES
from agesearch.storage import Location

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)", "u8": "tensor(uint8)"}
#: Operators of the compiled graph that multiply by weights.
_LAYERS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})


class OpenVinoSession:
    """One ONNX model (a location, or its bytes) or IR (the path of its ``.xml``) in ``fp32``, ``bf16`` or,
    where it is quantised, ``int8``.
    """

    def __init__(
        self, model: str | bytes | Location | Path, precision: str = "fp32", threads: int = 1
    ) -> None:
        import openvino

        self._core = openvino.Core()
        self._options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned threads of several processes would share a core while others idle.
            "ENABLE_CPU_PINNING": False,
        }
        source = model
        if not isinstance(model, bytes | Path):
            source = Location.of(model).read_bytes(MAX_ONNX_BYTES)
        try:
            self._graph = self._core.read_model(source)
            self._requests: dict[bool, Any] = {}
            self._request(fixed=False)
        except Exception as error:  # OpenVINO raises RuntimeError and kinds of its own
            where = "The model" if isinstance(model, bytes) else f"'{model}'"
            raise InputError(f"{where} cannot be run by OpenVINO: {first_line(error)}") from error

    def get_inputs(self) -> list[Any]:
        """The inputs: each with its ``name``, ``shape`` and ``type``, as ONNX Runtime tells them."""
        return [_port(port) for port in self._graph.inputs]

    def get_outputs(self) -> list[Any]:
        """The outputs."""
        return [_port(port) for port in self._graph.outputs]

    def run(
        self, names: Sequence[str] | None, feed: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        """The named outputs (None: all) for these inputs."""
        one = all(len(values) == 1 for values in feed.values())
        found = self._request(fixed=one).infer(dict(feed), share_inputs=True)
        wanted = names or [port.get_any_name() for port in self._graph.outputs]
        return [np.asarray(found[name]) for name in wanted]

    def precisions(self) -> Counter[str]:
        """How many layers that multiply run in each precision (``f32``, ``bf16``, ``i8``, ``u8``)."""
        found: Counter[str] = Counter()
        compiled = self._request(fixed=False).get_compiled_model()
        for operator in compiled.get_runtime_model().get_ordered_ops():
            told = operator.get_rt_info()
            if told["layerType"].astype(str) in _LAYERS:
                found[told["runtimePrecision"].astype(str)] += 1
        return found

    def _request(self, *, fixed: bool) -> Any:
        """What runs one face (``fixed``), or any number of them."""
        if fixed not in self._requests:
            graph = self._graph
            if fixed:
                graph = graph.clone()
                graph.reshape({port.get_any_name(): _of_one(port) for port in graph.inputs})
            compiled = self._core.compile_model(graph, "CPU", self._options)
            self._requests[fixed] = compiled.create_infer_request()
        return self._requests[fixed]


def _of_one(port: Any) -> list[int]:
    return [1, *(dimension.get_length() for dimension in list(port.partial_shape)[1:])]


def _port(port: Any) -> Any:
    shape = [size.get_length() if size.is_static else "n" for size in port.partial_shape]
    kind = port.element_type.get_type_name()
    return SimpleNamespace(name=port.get_any_name(), shape=shape, type=_TYPES.get(kind, kind))
