"""Versions with an int8 network: quantised layer by layer, published with their gates, and opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, load_model_from_string, numpy_helper
from test_export_parity import dataset, model

from agesearch.deploy import publish as publishing
from agesearch.deploy.integrity import verify
from agesearch.deploy.precisions import Precisions
from agesearch.deploy.publish import publish
from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.intervals import Persons
from agesearch.measure.speed import judge as judging
from agesearch.measure.speed.gate import closed, gate_of
from agesearch.measure.speed.judge import judge
from agesearch.models.manifest import INT8_ONNX
from agesearch.models.predict import open_predictor
from agesearch.models.runtimes.engines import BF16, DEFAULT, INT8, OPENVINO, Engine
from agesearch.models.runtimes.int8 import quantised_within
from agesearch.models.scorers import EnsembleScorer
from agesearch.storage import Location

__all__ = ["dataset", "model"]

OV8, OV16 = Engine(OPENVINO, INT8), Engine(OPENVINO, BF16)
DRAW = np.random.default_rng(0)


def test_a_version_holds_its_int8_network_and_the_card_its_gates(
    model: Location, dataset: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(scorer: Any, *_: Any) -> Precisions:
        errors = DRAW.uniform(0.0, 12.0, 200)
        held = gate_of(OV8, errors, errors, Persons.each(200), 0.1)
        timed = held.with_values({"latency_ms_p50": 1.0, "threads": 1, "hardware": "this"})
        return Precisions(scorer.onnx, [timed, closed(OV16, 0.1, "it loses 0.3 years")])

    monkeypatch.setattr(publishing, "precisions", found)
    published = publish(model, "ages", tmp_path / "registry", dataset=dataset).version
    verify(published.folder)
    assert published.manifest().best_engine("this") == OV8
    assert INT8_ONNX in (published.folder / "SHA256SUMS").read_text()
    open_predictor(published.folder, engine=OV8)
    card = (published.folder / "card.md").read_text()
    assert "| openvino | int8 | - | 200 | +0.000 (+0.000 to +0.000) | 1 | yes |" in card
    assert "| openvino | bf16 | - | 0 | - | - | no: it loses 0.3 years |" in card
    assert "`model.int8.onnx` is the same in int8" in card
    again = publish(model, "ages", tmp_path / "registry", dataset=dataset, max_drop=0.0)
    assert again.is_new, "what its precisions may lose is part of what a version is"


def test_few_faces_leave_a_version_in_fp32_and_say_why(
    model: Location, dataset: Location, tmp_path: Path
) -> None:
    version = publish(model, "ages", tmp_path / "registry", dataset=dataset).version
    assert INT8_ONNX not in version.manifest().files
    assert {row["holds"] for row in version.manifest().precisions} == {False}
    assert "no: the validation faces show 6 persons" in (version.folder / "card.md").read_text()
    with pytest.raises(InputError, match="no int8 network"):
        open_predictor(version.folder, engine=OV8)


def test_what_has_no_int8_has_a_closed_gate_with_the_reason(
    dataset: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "too_few", lambda persons: None)
    scorer = EnsembleScorer((), ())
    _, found = judge(scorer, dataset, [DEFAULT, OV8], 0.1, lambda _: None)
    assert [(one.engine, one.holds) for one in found] == [(OV8, False)]
    assert "ensemble" in found[0].reason


def convolutions() -> bytes:
    """Two convolutions, then their mean: ``images`` [n, 3, 8, 8] -> ``pmf`` [n, 4]."""
    draw = np.random.default_rng(1)
    shapes = {"w0": (8, 3, 3, 3), "w1": (4, 8, 3, 3)}
    weights = [
        numpy_helper.from_array(draw.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["images", "w0"], ["a"], name="first"),
        helper.make_node("Conv", ["a", "w1"], ["b"], name="second"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="mean"),
        helper.make_node("Flatten", ["c"], ["pmf"], name="flat"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("images", ["n", 3, 8, 8]), ("pmf", ["n", 4]))
    ]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(made.SerializeToString())


def quantisers(content: bytes) -> int:
    return sum(node.op_type == "QuantizeLinear" for node in load_model_from_string(content).graph.node)


def test_layers_that_hurt_go_back_into_floats_until_the_loss_is_allowed() -> None:
    """The loss is made up: half a year for each quantiser of the network."""
    feeds = [{"images": DRAW.random((1, 3, 8, 8), dtype=np.float32)} for _ in range(4)]

    def drop(content: bytes, where: Any) -> tuple[float, list[float]]:
        return 0.5 * quantisers(content), [0.5 * quantisers(content)] * len(where)

    (whole, _), (part, found) = (
        quantised_within(convolutions(), feeds, 3, drop, most) for most in (9.0, 1.2)
    )
    assert quantisers(whole) > quantisers(part) > 0
    assert 0.5 * quantisers(part) == found.lost <= 1.2

    def failing(content: bytes, where: Any) -> tuple[float, list[float]]:
        raise AgeSearchError("no answer")

    with pytest.raises(AgeSearchError):
        quantised_within(convolutions(), feeds, 3, failing, 1.0)
