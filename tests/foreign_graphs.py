"""Tiny ONNX graphs of other people, with their manifests: each answers the mean of its input's channels."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx
import yaml
from onnx import TensorProto, helper

SIZE = 32


def mean_graph(
    *, layout: str = "nchw", kind: int = TensorProto.FLOAT, batch: str | int = "N", sizes: int = SIZE
) -> onnx.ModelProto:
    """Input ``x`` -> ``means`` [N, 3]: the mean of each channel; and ``softmax`` [N, 3] over them."""
    pixels = [3, sizes, sizes] if layout == "nchw" else [sizes, sizes, 3]
    axes = [2, 3] if layout == "nchw" else [1, 2]
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide", "axes"], ["means"], keepdims=0),
        helper.make_node("Softmax", ["means"], ["softmax"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, 3]) for n in ("means", "softmax")]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("x", kind, [batch, *pixels])],
        outputs,
        [helper.make_tensor("axes", TensorProto.INT64, [2], axes)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def heads_graph(*, known: bool = True) -> onnx.ModelProto:
    """Input ``x`` -> ``heads`` [N, 5]: two logits of another head (9 and -9), then the mean of each channel.

    ``known``: whether the file says how wide its output is.
    """
    model = mean_graph()
    model.graph.initializer.extend(
        [
            helper.make_tensor("others", TensorProto.FLOAT, [1, 2], [9.0, -9.0]),
            helper.make_tensor("two_before", TensorProto.INT64, [4], [0, 2, 0, 0]),
            helper.make_tensor("three_behind", TensorProto.INT64, [4], [0, 0, 0, 3]),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("Pad", ["means", "two_before"], ["right"]),
            helper.make_node("Pad", ["others", "three_behind"], ["left"]),
            helper.make_node("Add", ["right", "left"], ["heads"]),
        ]
    )
    width: str | int = 5 if known else "W"
    model.graph.output.append(helper.make_tensor_value_info("heads", TensorProto.FLOAT, ["N", width]))
    return model


def write_teacher(
    folder: Path,
    model: onnx.ModelProto | None = None,
    *,
    name: str = "mean",
    output: dict[str, Any] | None = None,
    crop: dict[str, Any] | None = None,
    **inputs: Any,
) -> Path:
    """The graph and its manifest in a folder; ``inputs`` change the manifest's input."""
    content = (model or mean_graph()).SerializeToString()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(content)
    document = {
        "kind": "onnx",
        "name": name,
        "licence": "CC0-1.0",
        "file": f"{name}.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "input": {"name": "x", "size": SIZE, **inputs},
        "crop": crop or {"scale": 1.0},
        "output": output or {"kind": "scalar", "name": "means", "spread": 3.0},
    }
    where = folder / f"{name}.yaml"
    where.write_text(yaml.safe_dump(document))
    return where
