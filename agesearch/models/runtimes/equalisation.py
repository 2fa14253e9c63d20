"""An ONNX network rewritten so that int8 costs it less and runs more of it: it computes the same in floats.

An activation has one range for all of its channels, so a channel of small values is left with few of the 256
steps. Between layers with nothing but ReLU, pooling and sums, each channel can be divided by a factor where
it is made and multiplied by it where it is read (cross-layer equalisation, Nagel et al. 2019). The factors
are SmoothQuant's (Xiao et al. 2023): the channel's range on faces, against that of the weights that read it,
which take over what the activation is spared. Weights of a depthwise convolution have a range for each
channel anyway, and take all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from agesearch.models.onnx import open_session

Floats = npt.NDArray[np.float64]

#: The share of a channel's range, against the others', that weights of all channels take over.
_SHARE = 0.8
#: The least factor, of a largest of 1: a channel that is all but silent on some faces may speak on others.
_LEAST = 1 / 256
#: Operators with ``f(s x) = s f(x)`` for each channel and every s > 0.
_HOMOGENEOUS = frozenset(
    {"Add", "AveragePool", "Cast", "Flatten", "GlobalAveragePool", "MaxPool", "ReduceMean", "Relu"}
)
_SPATIAL = ([2, 3], [-2, -1], [-1, -2])


@dataclass
class _Channels:
    """Tensors whose channels share their factors, those of them that int8 needs a range for, and the layers
    that make and read them; ``closed`` is whether nothing else does.
    """

    tensors: set[str]
    ranged: set[str] = field(default_factory=set)
    made_by: list[Any] = field(default_factory=list)
    read_by: list[Any] = field(default_factory=list)
    closed: bool = True


def equalised(content: bytes, feeds: Sequence[Mapping[str, npt.NDArray[Any]]]) -> bytes:
    """An ONNX model with the ranges of its channels evened out, by what ``feeds`` (inputs of one batch each)
    show, and with strides apart from pointwise convolutions.
    """
    import onnx

    model = onnx.load_model_from_string(content)
    _part_strides(model.graph)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found = [each for each in _channels(model.graph, weights) if each.closed and each.made_by]
    found = [each for each in found if each.read_by and _fit(each, weights)]
    ranged = sorted(name for each in found for name in each.ranged)
    ranges = _ranges(model, ranged, feeds) if ranged else {}
    for each in found:
        factors = _factors(each, ranges, weights)
        for node in each.made_by:
            for name in node.input[1:]:
                _scale(weights[name], 1 / factors, 0)
        for node in each.read_by:
            _scale(weights[node.input[1]], factors, _read_axis(node, weights))
    return bytes(model.SerializeToString())


def _part_strides(graph: Any) -> None:
    """OpenVINO runs a pointwise convolution of stride 2 in floats, but one behind a pooling of one pixel and
    that stride in int8.
    """
    from onnx import helper

    parted = []
    for node in graph.node:
        given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        kernel, strides = given.get("kernel_shape", []), given.get("strides", [1])
        pointwise = node.op_type == "Conv" and set(kernel) == {1} and not any(given.get("pads", []))
        if pointwise and max(strides) > 1:
            apart = f"{node.output[0]} strided"
            parted.append(
                helper.make_node("MaxPool", [node.input[0]], [apart], kernel_shape=kernel, strides=strides)
            )
            node.input[0] = apart
            next(each for each in node.attribute if each.name == "strides").ints[:] = [1] * len(strides)
        parted.append(node)
    parted = [type(node).FromString(node.SerializeToString()) for node in parted]
    del graph.node[:]
    graph.node.extend(parted)


def _channels(graph: Any, weights: Mapping[str, Any]) -> list[_Channels]:
    """Which tensors share their channels, by the operators between them."""
    groups: dict[str, _Channels] = {}
    constants = _constants(graph)
    uses = [name for node in graph.node for name in node.input if name in weights]

    def of(name: str) -> _Channels:
        return groups.setdefault(name, _Channels({name}))

    for port in (*graph.input, *graph.output):
        of(port.name).closed = False
    for node in graph.node:
        own = all(uses.count(name) == 1 for name in node.input[1:])
        if _is_homogeneous(node, constants):
            for name in node.input if node.op_type == "Add" else node.input[:1]:
                group = _join(groups, of(name), of(node.output[0]))
                group.closed &= name not in weights
                if node.op_type != "Relu":  # which is part of the layer before it
                    group.ranged.add(name)
            continue
        reads = own and node.op_type in ("Conv", "Gemm") and _read_axis(node, weights) is not None
        makes = own and node.op_type == "Conv" and all(name in weights for name in node.input[1:])
        for name in [name for name in node.input if name not in weights]:
            of(name).closed &= reads
        if reads:
            of(node.input[0]).read_by.append(node)
            of(node.input[0]).ranged.add(node.input[0])
        for name in node.output:
            of(name).closed &= makes
        if makes:
            of(node.output[0]).made_by.append(node)
    return list({id(group): group for group in groups.values()}.values())


def _join(groups: dict[str, _Channels], one: _Channels, other: _Channels) -> _Channels:
    if one is not other:
        one.tensors |= other.tensors
        one.ranged |= other.ranged
        one.made_by += other.made_by
        one.read_by += other.read_by
        one.closed &= other.closed
        groups.update(dict.fromkeys(other.tensors, one))
    return one


def _constants(graph: Any) -> dict[str, list[int]]:
    """The values of small constants, by the tensors' names."""
    from onnx import numpy_helper

    found = {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    found |= {tensor.name: tensor for tensor in graph.initializer}
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in found.items() if len(tensor.dims) == 1}
    return {name: values.tolist() for name, values in arrays.items() if values.size <= len(_SPATIAL[0])}


def _is_homogeneous(node: Any, constants: Mapping[str, list[int]]) -> bool:
    if node.op_type == "ReduceMean":
        return len(node.input) > 1 and constants.get(node.input[1]) in _SPATIAL
    return node.op_type in _HOMOGENEOUS


def _read_axis(node: Any, weights: Mapping[str, Any]) -> int | None:
    """The axis of a layer's weights that its input's channels lie on; None where they lie on none."""
    if node.input[1] not in weights:
        return None
    given = {each.name: each.i for each in node.attribute}
    if node.op_type == "Gemm":
        return None if given.get("transA") else 1 if given.get("transB") else 0
    group = given.get("group", 1)
    return 1 if group == 1 else 0 if group == weights[node.input[1]].dims[0] else None


def _fit(channels: _Channels, weights: Mapping[str, Any]) -> bool:
    """Whether all layers mean the same number of channels."""
    counts = {weights[node.input[1]].dims[0] for node in channels.made_by}
    counts |= {weights[node.input[1]].dims[_read_axis(node, weights)] for node in channels.read_by}
    return len(counts) == 1


def _ranges(
    model: Any, names: Sequence[str], feeds: Sequence[Mapping[str, npt.NDArray[Any]]]
) -> dict[str, Floats]:
    """The largest absolute value of each channel of these tensors."""
    from onnx import helper

    open_model = type(model).FromString(model.SerializeToString())
    open_model.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names)
    session = open_session(open_model.SerializeToString())
    found: dict[str, Floats] = {}
    for feed in feeds:
        for name, values in zip(names, session.run(list(names), dict(feed)), strict=True):
            most = np.abs(values).max(axis=tuple(k for k in range(values.ndim) if k != 1)).astype(np.float64)
            found[name] = np.maximum(found.get(name, 0.0), most)
    return found


def _factors(channels: _Channels, ranges: Mapping[str, Floats], weights: Mapping[str, Any]) -> Floats:
    """What each channel is divided by, at most 1. Where several tensors share them, each counts by its own
    largest range.
    """
    shares = [ranges[name] / ranges[name].max() for name in channels.ranged if ranges[name].any()]
    if not shares:
        return np.ones(weights[channels.made_by[0].input[1]].dims[0])
    range_ = np.max(shares, axis=0)
    readers = [_reading(node, weights) for node in channels.read_by if _reads_all(node)]
    factors = range_
    if readers:
        reading = np.max([each / max(each.max(), 1e-12) for each in readers], axis=0)
        factors = range_**_SHARE / np.maximum(reading, 1e-6) ** (1 - _SHARE)
    factors = np.where(range_ > 0, factors, factors.max())  # what is silent stays as it is
    evened: Floats = np.clip(factors / factors.max(), _LEAST, 1.0)
    return evened


def _reads_all(node: Any) -> bool:
    return node.op_type == "Gemm" or all(each.i == 1 for each in node.attribute if each.name == "group")


def _reading(node: Any, weights: Mapping[str, Any]) -> Floats:
    """The largest absolute weight that reads each channel."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(weights[node.input[1]])
    axis = _read_axis(node, weights)
    most: Floats = np.abs(values).max(axis=tuple(k for k in range(values.ndim) if k != axis))
    return most.astype(np.float64)


def _scale(tensor: Any, factors: Floats, axis: int | None) -> None:
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    shape = [-1 if k == axis else 1 for k in range(values.ndim)]
    tensor.CopyFrom(
        numpy_helper.from_array((values * factors.reshape(shape)).astype(values.dtype), tensor.name)
    )
