"""Layers of an int8 ONNX network (QuantizeLinear and DequantizeLinear) put back into floats.

Layers that read one quantised tensor go together: an engine that quantised it for one of them and not for the
other would gain nothing. A group is known by the names that its nodes have in both networks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

_QUANTISE, _BACK = "QuantizeLinear", "DequantizeLinear"
#: What hands on the 8 bits that it is given: those behind it read the same tensor.
_PASSES_ON = frozenset(
    {
        *("MaxPool", "GlobalMaxPool", "Concat", "Flatten", "Identity", "Reshape", "Slice", "Split"),
        *("Squeeze", "Transpose", "Unsqueeze"),
    }
)


def layer_groups(quantised: Any) -> list[list[str]]:
    """The nodes of an int8 model (``onnx.ModelProto``) that are computed from 8 bits, grouped by the tensors
    that they read, in the order of the network.
    """
    nodes = quantised.graph.node
    read_by: dict[str, list[Any]] = defaultdict(list)
    for node in nodes:
        for name in node.input:
            read_by[name].append(node)
    group_of: dict[str, list[str]] = {}
    for node in nodes:
        if node.op_type == _BACK:
            _join(group_of, [reader.name for reader in _readers(node, read_by)])
    order = [node.name for node in nodes if node.name in group_of]
    return list({id(group_of[name]): group_of[name] for name in order}.values())


def _readers(node: Any, read_by: dict[str, list[Any]]) -> Iterable[Any]:
    for name in node.output:
        for reader in read_by[name]:
            yield reader
            if reader.op_type in _PASSES_ON:
                yield from (each for each in _readers(reader, read_by) if each.op_type != _QUANTISE)


def _join(group_of: dict[str, list[str]], names: Sequence[str]) -> None:
    joined: list[str] = []
    for name in names:
        if name not in joined:
            joined += group_of.get(name, [name])
    group_of.update(dict.fromkeys(joined, joined))


def with_floats(original: Any, quantised: Any, names: Collection[str]) -> Any:
    """The int8 model with the nodes of these names as they are in ``original``, from which it was made: what
    they read is no longer quantised, and their weights and biases are the original ones.
    """
    made = type(quantised).FromString(quantised.SerializeToString())
    before = {node.name: node for node in original.graph.node}
    floats = {tensor.name: tensor for tensor in original.graph.initializer}
    own = {tensor.name: tensor for tensor in made.graph.initializer}
    sources = {node.output[0]: node.input[0] for node in made.graph.node if node.op_type == _QUANTISE}
    backs = {node.output[0]: node.input[0] for node in made.graph.node if node.op_type == _BACK}
    for node in made.graph.node:
        for place, name in enumerate(node.input if node.name in names else ()):
            stored = backs.get(name, name)
            tensor = floats.get(before[node.name].input[place])
            if stored in sources:
                node.input[place] = sources[stored]
            elif tensor is not None and own.get(stored) != tensor:
                node.input[place] = f"{tensor.name} of {node.name}"
                made.graph.initializer.add().CopyFrom(tensor)
                made.graph.initializer[-1].name = node.input[place]
    _drop_unread(made.graph)
    return made


def _drop_unread(graph: Any) -> None:
    """Leave out 8 bits that nothing reads any more, and their weights."""
    for kind in (_BACK, _QUANTISE):
        read = _read(graph)
        _keep(graph.node, [node.op_type != kind or node.output[0] in read for node in graph.node])
    read = _read(graph)
    _keep(graph.initializer, [tensor.name in read for tensor in graph.initializer])


def _read(graph: Any) -> set[str]:
    return {name for node in graph.node for name in node.input} | {port.name for port in graph.output}


def _keep(repeated: Any, wanted: Sequence[bool]) -> None:
    for place in reversed(range(len(repeated))):
        if not wanted[place]:
            del repeated[place]
