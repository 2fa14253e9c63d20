"""Export: the same PMFs as torch, any batch size, padding fixed in the graph."""

import numpy as np
import pytest
import torch

from agesearch.ages import expected_age
from agesearch.errors import InputError
from agesearch.models.onnx import open_session
from agesearch.models.predictors import OnnxPredictor, TorchPredictor
from agesearch.models.tracing import onnx_bytes
from agesearch.models.zoo import build
from agesearch.specs import ModelSpec

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)


def test_export_answers_as_torch_does_for_any_number_of_faces() -> None:
    torch.manual_seed(0)
    net = build(ModelSpec(arch="efficientnet_lite0", input_size=64)).eval()
    torch.nn.init.normal_(net.head.linear.weight, std=1.0)  # type: ignore[union-attr,arg-type]
    content = onnx_bytes(net, 64)
    pmf = OnnxPredictor(content, 64).pmf(IMAGES)
    np.testing.assert_allclose(pmf, TorchPredictor(net, 64).pmf(IMAGES), atol=1e-5)
    np.testing.assert_allclose(pmf.sum(axis=1), 1.0, atol=1e-5)

    session = open_session(content)
    for count in (1, 5):
        inputs = np.zeros((count, 3, 64, 64), dtype=np.float32)
        mass, age = session.run(["pmf", "age"], {"images": inputs})
        assert age.shape == (count,)
        np.testing.assert_allclose(age, expected_age(mass), rtol=1e-4)


def test_same_padding_leaves_no_shape_arithmetic_and_the_network_as_it_was() -> None:
    import onnx

    net = build(ModelSpec(arch="efficientnet_lite0", input_size=48)).train()
    layers = [type(layer) for layer in net.modules()]
    graph = onnx.load_from_string(onnx_bytes(net, 48)).graph
    assert "Shape" not in {node.op_type for node in graph.node}
    assert net.training
    assert [type(layer) for layer in net.modules()] == layers


def test_no_faces_give_no_pmfs() -> None:
    net = build(ModelSpec(arch="lcnet_035", input_size=32))
    empty = np.empty((0, 32, 32, 3), dtype=np.uint8)
    assert OnnxPredictor(onnx_bytes(net, 32), 32).pmf(empty).shape == (0, 101)
    assert TorchPredictor(net, 32).pmf(empty).shape == (0, 101)


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(InputError, match="not an ONNX model"):
        open_session(b"nothing")
