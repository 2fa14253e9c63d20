"""A network made ready for int8: it computes the same, its channels are alike, its strides stand apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, load_model_from_string, numpy_helper

from agesearch.models.onnx import open_session
from agesearch.models.runtimes.equalisation import equalised

DRAW = np.random.default_rng(0)
FEEDS = [{"images": DRAW.uniform(0, 255, (2, 3, 8, 8)).astype(np.float32)} for _ in range(2)]
#: A thousandfold between channels.
UNEVEN = np.geomspace(0.03, 30.0, 6).astype(np.float32)


def conv(name: str, given: str, made: str, group: int = 1, side: int = 1, stride: int = 1) -> Any:
    pads = [side // 2] * 4
    shape: dict[str, Any] = {"kernel_shape": [side, side], "strides": [stride, stride], "pads": pads}
    return helper.make_node("Conv", [given, f"{name}.weight", f"{name}.bias"], [made], group=group, **shape)


def node(kind: str, given: str, made: str, **attributes: Any) -> Any:
    return helper.make_node(kind, given.split(), [made], **attributes)


def network(*nodes: Any, uneven: str = "") -> bytes:
    """An ONNX model of these nodes with weights drawn for each layer, of six channels inside."""
    weights: dict[str, Any] = {"axes": np.array([2, 3]), "one": np.ones((1, 6, 1, 1), np.float32)}
    for one in nodes:
        if one.op_type in ("Conv", "Gemm"):
            name = one.input[1].removesuffix(".weight")
            group, kernel = (
                next((each.i for each in one.attribute if each.name == "group"), 1),
                next((list(each.ints) for each in one.attribute if each.name == "kernel_shape"), []),
            )
            inputs = 3 if one.input[0] == "images" else 6 // group
            drawn = DRAW.normal(size=(6, inputs, *kernel)).astype(np.float32)
            scale = UNEVEN if name in uneven else np.ones(6, dtype=np.float32)
            weights[f"{name}.weight"] = drawn * scale.reshape(-1, *[1] * (drawn.ndim - 1))
            weights[f"{name}.bias"] = scale * DRAW.normal(size=6).astype(np.float32)
    shape: list[str | int | None] = ["n", 3, 8, 8]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def spread(content: bytes, tensor: str) -> float:
    """The largest range of a tensor's channels against the smallest."""
    model = load_model_from_string(content)
    model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    session = open_session(model.SerializeToString())
    found = np.concatenate([session.run([tensor], feed)[0] for feed in FEEDS])
    ranges = np.abs(found).max((0, 2, 3))
    return float(ranges.max() / ranges.min())


def answers(content: bytes) -> Any:
    session = open_session(content)
    return np.concatenate([session.run(["out"], feed)[0] for feed in FEEDS])


def layers(content: bytes) -> list[Any]:
    return [numpy_helper.to_array(each) for each in load_model_from_string(content).graph.initializer]


SEPARABLE = (
    conv("a", "images", "a", side=3),
    node("Relu", "a", "b"),
    conv("d", "b", "c", group=6, side=3),
    conv("p", "c", "out"),
)
RESIDUAL = (
    conv("a", "images", "a", side=3),
    node("MaxPool", "a", "pooled", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    conv("s", "images", "s"),
    node("Add", "pooled s", "b"),
    node("Relu", "b", "r"),
    conv("d", "r", "e", group=6, side=3),
    node("Add", "b e", "f"),
    node("ReduceMean", "f axes", "mean", keepdims=0),
    helper.make_node("Gemm", ["mean", "g.weight", "g.bias"], ["out"], transB=1),
)


@pytest.mark.parametrize(("nodes", "inside"), [(SEPARABLE, "b"), (RESIDUAL, "b")])
def test_channels_become_alike_and_the_network_stays_the_same(nodes: Any, inside: str) -> None:
    """Also through a sum, where all that makes and reads it has to agree on the factors."""
    content = network(*nodes, uneven="as")
    made = equalised(content, FEEDS)
    np.testing.assert_allclose(answers(made), answers(content), rtol=1e-4, atol=1e-2)
    assert spread(made, inside) < spread(content, inside) / 5


@pytest.mark.parametrize(
    "nodes",
    [
        (conv("a", "images", "a"), node("Sigmoid", "a", "b"), conv("p", "b", "out")),
        (conv("a", "images", "a"), conv("p", "a", "b"), node("Add", "a b", "c"), node("Exp", "c", "out")),
        (
            conv("a", "images", "a"),
            node("ReduceMean", "a", "b"),
            node("Add", "a b", "c"),
            conv("p", "c", "out"),
        ),
        (conv("a", "images", "a"), node("Add", "a one", "b"), conv("p", "b", "out")),
        (conv("a", "images", "a"), conv("p", "a", "out", group=3)),
    ],
    ids=["sigmoid", "read by something else", "a mean over channels", "a constant", "groups of channels"],
)
def test_what_cannot_be_divided_by_channel_is_left_alone(nodes: Any) -> None:
    content = network(*nodes, uneven="a")
    for mine, theirs in zip(layers(equalised(content, FEEDS)), layers(content), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_channel_that_is_silent_on_the_faces_keeps_its_weights() -> None:
    content = load_model_from_string(network(*SEPARABLE))
    for each in content.graph.initializer:
        if each.name in ("a.weight", "a.bias"):
            values = numpy_helper.to_array(each).copy()
            values[2] = 0.0
            each.CopyFrom(numpy_helper.from_array(values, each.name))
    made = equalised(content.SerializeToString(), FEEDS)
    assert np.isfinite(answers(made)).all()
    np.testing.assert_allclose(answers(made), answers(content.SerializeToString()), rtol=1e-4, atol=1e-2)


def test_the_stride_of_a_pointwise_convolution_stands_apart() -> None:
    content = network(conv("a", "images", "a", stride=2), conv("d", "a", "out", group=6, side=3, stride=2))
    made = equalised(content, FEEDS)
    kinds = [each.op_type for each in load_model_from_string(made).graph.node]
    assert kinds == ["MaxPool", "Conv", "Conv"], "a convolution of 3 x 3 keeps its stride"
    np.testing.assert_allclose(answers(made), answers(content), rtol=1e-5, atol=1e-3)
