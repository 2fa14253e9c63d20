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
from agesearch.models.runtimes.accuracy_control import Restored, restored
from agesearch.models.runtimes.equalisation import equalised
from agesearch.models.runtimes.mixed_precision import layer_groups, with_floats

Feed = dict[str, npt.NDArray[Any]]

#: Raised where the same network becomes another in int8: it is then published as another version.
RECIPE = 3

#: Layers are ranked by what they cost on so many faces, those that int8 hurts most.
_RANKED_FACES = 100


def quantised(content: bytes, calibration: Sequence[Feed]) -> bytes:
    """An ONNX model in int8, for its time: ``calibration`` are inputs of one batch each, from which ranges
    are taken, and biases are left as they are.

    Raises ``AgeSearchError`` where NNCF cannot quantise it.
    """
    with _nncf("quantised") as nncf:
        _, made = _in_int8(nncf, content, calibration, disable_bias_correction=True)
        return bytes(made.SerializeToString())


def quantised_within(
    content: bytes,
    calibration: Sequence[Feed],
    faces: int,
    drop: Callable[[bytes, Sequence[int]], tuple[float, list[float]]],
    max_drop: float,
) -> tuple[bytes, Restored]:
    """The same with biases corrected, and with the layers that hurt put back into floats, worst first, until
    the drop is within ``max_drop``; and which those are. Where it never is, what comes back drops more.

    ``drop`` scores an ONNX model on some of the ``faces`` (by index): how far it falls behind in the unit of
    ``max_drop``, and by how much each face does.
    """
    with _nncf("quantised within its limit") as nncf:
        original, made = _in_int8(nncf, content, calibration)
        groups = layer_groups(made)
        if not groups:
            raise AgeSearchError("No layer of the network can be computed in int8.")
        hardest: list[int] = []

        def mixed(chosen: Sequence[int]) -> bytes:
            names = {name for place in chosen for name in groups[place]}
            return bytes((with_floats(original, made, names) if names else made).SerializeToString())

        def lost(chosen: Sequence[int]) -> float:
            dropped, each = drop(mixed(chosen), range(faces))
            if not chosen:
                hardest[:] = sorted(sorted(range(faces), key=each.__getitem__)[-_RANKED_FACES:])
            return dropped

        found = restored(len(groups), lost, lambda chosen: drop(mixed(chosen), hardest)[0], max_drop)
        return mixed(found.floats), found


def _in_int8(nncf: Any, content: bytes, calibration: Sequence[Feed], **more: Any) -> tuple[Any, Any]:
    """The model with its channels evened out and its nodes named, and the same in int8."""
    content = equalised(content, calibration)
    original = _parsed(content)
    made = nncf.quantize(
        original,
        nncf.Dataset(list(calibration)),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(calibration),
        ignored_scope=_ignored(nncf, content),
        advanced_parameters=_per_tensor(nncf, **more),
    )
    return original, made


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
    or ``Gemm``) follows, which are the last layer of each head and the head's arithmetic; and sums of
    products that only such a last layer follows, which are poolings.
    """
    leading = set[str]()  # tensors that a layer is computed from
    inner = set[str]()  # those that a layer in int8 is computed from
    summed = set[str]()
    found = []
    for node in reversed(nodes):
        is_last, is_inner = leading.isdisjoint(node.output), not inner.isdisjoint(node.output)
        is_layer = node.op_type in ("Conv", "Gemm")
        if node.op_type == "ReduceSum":
            summed.add(node.input[0])
        pools = node.op_type == "ReduceSum" or (node.op_type == "Mul" and not summed.isdisjoint(node.output))
        if (is_last and node.op_type in ("Gemm", "MatMul")) or (pools and not is_inner):
            found.append(node.name)
        if is_inner or node.op_type == "Conv" or (is_layer and not is_last):
            inner.update(node.input)
        if is_layer or not is_last:
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
