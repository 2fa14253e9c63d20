"""A network in whole numbers of 8 bits: post-training quantisation by NNCF, as ONNX (QuantizeLinear and
DequantizeLinear), which ONNX Runtime and OpenVINO both run.

The head's arithmetic behind the last layer (probabilities times ages) stays in floats.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy.typing as npt

from agesearch.errors import AgeSearchError, first_line

Feed = dict[str, npt.NDArray[Any]]


#: Layers of which at most so many are tried in floats again: each costs a pass over some faces.
_RANKED_FACES = 100


def quantised(content: bytes, calibration: Sequence[Feed]) -> bytes:
    """An ONNX model in int8; ``calibration`` are inputs of one batch each, from which ranges are taken.

    Raises ``AgeSearchError`` where NNCF cannot quantise it.
    """
    with _nncf("quantised") as nncf:
        made = nncf.quantize(
            _parsed(content),
            nncf.Dataset(list(calibration)),
            subset_size=len(calibration),
            ignored_scope=_ignored(nncf, content),
        )
        return bytes(made.SerializeToString())


def quantised_within(
    content: bytes,
    calibration: Sequence[Feed],
    faces: int,
    drop: Callable[[bytes, Sequence[int]], tuple[float, list[float]]],
    max_drop: float,
) -> bytes:
    """The same, with the layers that hurt put back into floats, worst first, until the drop is within
    ``max_drop`` (NNCF's quantisation with accuracy control). Where it never is, what comes back drops more.

    ``drop`` scores an ONNX model on some of the ``faces`` (by index): how far it falls behind in the unit of
    ``max_drop``, and each face's own error.
    """

    def validated(model: Any, items: Any) -> tuple[float, list[float]]:
        lost, errors = drop(bytes(model.SerializeToString()), [int(item) for item in items])
        # NNCF divides by what the network has lost before it is quantised: nothing. So nothing counts as one.
        return -1.0 - lost, [-error for error in errors]

    with _nncf("quantised within its limit") as nncf:
        made = nncf.quantize_with_accuracy_control(
            _parsed(content),
            nncf.Dataset(list(calibration)),
            nncf.Dataset(list(range(faces))),
            validated,
            max_drop=max_drop,
            subset_size=len(calibration),
            ignored_scope=_ignored(nncf, content),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=_RANKED_FACES, num_ranking_workers=1
            ),
        )
        return bytes(made.SerializeToString())


def _parsed(content: bytes) -> Any:
    import onnx

    return onnx.load_model_from_string(content)


def _ignored(nncf: Any, content: bytes) -> Any:
    """Matrix products behind the last layer: the head's arithmetic, no layer of the network."""
    nodes = _parsed(content).graph.node
    layers = [place for place, node in enumerate(nodes) if node.op_type in ("Conv", "Gemm")]
    behind = nodes[layers[-1] + 1 :] if layers else []
    return nncf.IgnoredScope(names=[node.name for node in behind if node.op_type == "MatMul"])


@contextmanager
def _nncf(words: str) -> Iterator[Any]:
    """NNCF, silent on the wire; what goes wrong inside is an ``AgeSearchError``."""
    nncf = _imported()
    try:
        with redirect_stdout(io.StringIO()):  # its progress bars
            yield nncf
    except AgeSearchError:
        raise
    except Exception as error:  # NNCF's, ONNX's and OpenVINO's own kinds share no base
        raise AgeSearchError(f"The network cannot be {words}: {first_line(error)}") from error


def _imported() -> Any:
    """NNCF reports each call to its makers unless the library that sends it is missing: for us it is."""
    if "nncf" not in sys.modules:
        name = "openvino_telemetry"
        before = sys.modules.get(name)
        sys.modules[name] = None  # type: ignore[assignment]
        try:
            import nncf
        finally:
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before
        nncf.set_log_level("ERROR")
    return sys.modules["nncf"]
