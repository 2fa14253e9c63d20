"""Versions of the package's own network that differ from it in one thing: what a rolling update must take,
and what it must refuse.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import onnx
from onnx import helper, numpy_helper

from agesearch.ages import AGES
from agesearch.deploy.integrity import file_digest
from agesearch.deploy.registry import SHIPPED, Registry, Version
from agesearch.models.manifest import MANIFEST, ONNX
from agesearch.models.onnx import AGE_NAME, INPUT_NAME, PMF_NAME

#: Another file of the same network; ages that are older by ``DRIFT_YEARS``; one that computes for longer; one
#: that breaks on light faces.
Alteration = Literal["same", "drifts", "slow", "fails"]
ALTERATIONS: tuple[Alteration, ...] = get_args(Alteration)
DRIFT_YEARS = 8
NAME = "altered"
#: Convolutions of a slow network over its input, and their channels.
_SLOW_CONVOLUTIONS, _SLOW_CHANNELS = 2, 24
#: The mean of an input (pixels 0 to 255) above which a face counts as light: every sixth of the demo's.
_LIGHT = 150.0


def altered_versions(root: str) -> Registry:
    """A registry whose version 1 is the champion and the package's network, and 2 to 5 are ``ALTERATIONS`` of
    it.
    """
    shipped = Registry(SHIPPED)
    original = shipped.find("portraits")
    store = Registry(root)
    network = original.onnx.read_bytes()
    first = _add(store, original, 1, network)
    store.move_alias(first, "champion")
    for number, kind in enumerate(ALTERATIONS, start=2):
        _add(store, original, number, altered(network, kind))
    return store


def altered(network: bytes, kind: Alteration) -> bytes:
    """An ONNX network with PMFs and ages, altered."""
    model = onnx.load_from_string(network)
    if kind == "same":
        model.doc_string = "the same network in another file"
    elif kind == "drifts":
        _drift(model.graph)
    elif kind == "slow":
        _slow(model.graph)
    else:
        _fail(model.graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _add(store: Registry, original: Version, number: int, network: bytes) -> Version:
    kept = original.manifest()
    files = {ONNX: network}
    about = {
        "name": NAME,
        "version": number,
        "files": {ONNX: file_digest(network)},
        # What was found of the original's engines says nothing of another network.
        "precisions": (),
        "speed": (),
    }
    manifest = type(kept).model_validate(kept.model_dump() | about)
    with store.locked(NAME):
        return store.add(NAME, number, {**files, MANIFEST: manifest.model_dump_json().encode()})


def _drift(graph: Any) -> None:
    """Older by moving the probabilities up; those of the oldest ages become those of the youngest."""
    _rename(graph, PMF_NAME, "pmf_before")
    _rename(graph, AGE_NAME, "age_before")
    order = np.roll(np.arange(len(AGES)), DRIFT_YEARS)
    _constant(graph, "order", order.astype(np.int64))
    graph.node.append(helper.make_node("Gather", ["pmf_before", "order"], [PMF_NAME], axis=1))
    _constant(graph, "years", np.float32(DRIFT_YEARS))
    graph.node.append(helper.make_node("Add", ["age_before", "years"], [AGE_NAME]))


def _slow(graph: Any) -> None:
    """Convolutions over the input, whose mean changes nothing."""
    _rename(graph, PMF_NAME, "pmf_before")
    channels, name = 3, INPUT_NAME
    for index in range(_SLOW_CONVOLUTIONS):
        kernel = np.full((_SLOW_CHANNELS, channels, 5, 5), 1e-3, np.float32)
        _constant(graph, f"kernel{index}", kernel)
        node = helper.make_node("Conv", [name, f"kernel{index}"], [f"slow{index}"], pads=[2, 2, 2, 2])
        graph.node.append(node)
        channels, name = _SLOW_CHANNELS, f"slow{index}"
    _constant(graph, "axes", np.array([1, 2, 3], np.int64))
    graph.node.append(helper.make_node("ReduceMean", [name, "axes"], ["slow"], keepdims=0))
    _add_nothing(graph, "slow")


def _fail(graph: Any) -> None:
    """An index that is none for an image whose mean is high: the runtime raises there."""
    _rename(graph, PMF_NAME, "pmf_before")
    _constant(graph, "axes", np.array([1, 2, 3], np.int64))
    _constant(graph, "light", np.float32(_LIGHT))
    _constant(graph, "one", np.zeros(1, np.float32))
    graph.node.extend(
        [
            helper.make_node("ReduceMean", [INPUT_NAME, "axes"], ["mean"], keepdims=0),
            helper.make_node("Greater", ["mean", "light"], ["is_light"]),
            helper.make_node("Cast", ["is_light"], ["index"], to=onnx.TensorProto.INT64),
            helper.make_node("Gather", ["one", "index"], ["nothing"]),
        ]
    )
    _add_nothing(graph, "nothing")


def _add_nothing(graph: Any, name: str) -> None:
    """Make the PMFs depend on values ``[n]`` that do not change them."""
    _constant(graph, "tiny", np.float32(1e-12))
    _constant(graph, "last", np.array([1], np.int64))
    graph.node.extend(
        [
            helper.make_node("Mul", [name, "tiny"], ["tiny_values"]),
            helper.make_node("Unsqueeze", ["tiny_values", "last"], ["column"]),
            helper.make_node("Add", ["pmf_before", "column"], [PMF_NAME]),
        ]
    )


def _constant(graph: Any, name: str, value: Any) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _rename(graph: Any, name: str, other: str) -> None:
    """What the graph computed as ``name`` is called ``other`` inside it."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, found in enumerate(names):
                if found == name:
                    names[index] = other
