"""A network in whole numbers of 8 bits: post-training quantisation by NNCF, as ONNX (QuantizeLinear and
DequantizeLinear), which ONNX Runtime and OpenVINO both run.

The last layer stays in floats, and so does the head's arithmetic behind it (probabilities times ages): no
time to speak of goes there, and its rounding, which no layer averages out, is what hurts most. On the
portraits it alone kept the published network from its limit, and finding that out took 40 of 42 trials.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any

import numpy.typing as npt

from agesearch.errors import AgeSearchError, first_line
from agesearch.models.runtimes.equalisation import equalised

Feed = dict[str, npt.NDArray[Any]]

#: Raised where the same network becomes another in int8: it is then published as another version.
RECIPE = 2

#: Layers are ranked by what they cost on so many faces, and at most so many go back into floats: where more
#: had to, little would be won.
_RANKED_FACES, _MOST_LAYERS = 100, 15


def quantised(content: bytes, calibration: Sequence[Feed]) -> bytes:
    """An ONNX model in int8, for its time: ``calibration`` are inputs of one batch each, from which ranges
    are taken, and biases are left as they are.

    Raises ``AgeSearchError`` where NNCF cannot quantise it.
    """
    with _nncf("quantised") as nncf:
        content = equalised(content, calibration)
        made = nncf.quantize(
            _parsed(content),
            nncf.Dataset(list(calibration)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
            ignored_scope=_ignored(nncf, content),
            advanced_parameters=_per_tensor(nncf, disable_bias_correction=True),
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
        content = equalised(content, calibration)
        made = nncf.quantize_with_accuracy_control(
            _parsed(content),
            nncf.Dataset(list(calibration)),
            nncf.Dataset(list(range(faces))),
            validated,
            max_drop=max_drop,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
            ignored_scope=_ignored(nncf, content),
            advanced_quantization_parameters=_per_tensor(nncf),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=_RANKED_FACES, num_ranking_workers=1, max_num_iterations=_MOST_LAYERS
            ),
        )
        return bytes(made.SerializeToString())


def _per_tensor(nncf: Any, **more: Any) -> Any:
    """One range for each activation. Ranges by channel, NNCF's choice for depthwise convolutions, are run by
    OpenVINO alone: ONNX Runtime refuses some such networks and takes ten times as long for others. It holds
    all that was seen: where channels are alike, cutting off what is rare costs more than it gains. Nor need
    it be as wide below zero as above (the preset MIXED): what a network with few ReLUs computes is not.
    """
    parameters = import_module("nncf.quantization.advanced_parameters")
    ranges = import_module("nncf.quantization.range_estimator").RangeEstimatorParametersSet
    return nncf.AdvancedQuantizationParameters(
        activations_quantization_params=parameters.QuantizationParameters(per_channel=False),
        activations_range_estimator_params=ranges.MINMAX,
        **more,
    )


def _parsed(content: bytes) -> Any:
    """The model with a name for each node, by which NNCF is told of some of them."""
    import onnx

    model = onnx.load_model_from_string(content)
    for place, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type} at {place}"
    return model


def _ignored(nncf: Any, content: bytes) -> Any:
    return nncf.IgnoredScope(names=in_floats(_parsed(content).graph.node))


def in_floats(nodes: Sequence[Any]) -> list[str]:
    """The names of those nodes of an ONNX graph that stay in floats: matrix products that no layer (``Conv``
    or ``Gemm``) follows, which are the last layer of each head and the head's arithmetic.
    """
    leading = set[str]()  # tensors that a layer is computed from
    found = []
    for node in reversed(nodes):
        is_last = leading.isdisjoint(node.output)
        if is_last and node.op_type in ("Gemm", "MatMul"):
            found.append(node.name)
        if not is_last or node.op_type in ("Conv", "Gemm"):
            leading.update(node.input)
    return found[::-1] if leading else []


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
