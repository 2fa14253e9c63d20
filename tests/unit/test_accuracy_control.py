"""Which layers of an int8 network go back into floats, in how many trials, and how the network then is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from agesearch.models.onnx import open_session
from agesearch.models.runtimes.accuracy_control import (
    MOST_IN_FLOATS,
    MOST_RANKED,
    MOST_TRIED,
    Restored,
    restored,
)
from agesearch.models.runtimes.mixed_precision import layer_groups, with_floats


@dataclass
class Network:
    """Each group in int8 costs some years, whatever the others are in."""

    cost: Sequence[float]
    hidden: tuple[int, int] | None = None  # the second costs nothing while the first is in int8
    tried: list[str] = field(default_factory=list)

    def lost(self, floats: Sequence[int]) -> float:
        self.tried.append("all faces")
        return self._sum(floats)

    def hurt(self, floats: Sequence[int]) -> float:
        self.tried.append("hardest faces")
        return 3 * self._sum(floats)

    def _sum(self, floats: Sequence[int]) -> float:
        costs = {group: cost for group, cost in enumerate(self.cost) if group not in floats}
        if self.hidden is not None and self.hidden[0] in costs:
            costs[self.hidden[1]] = 0.0
        return sum(costs.values())

    def restored(self, max_lost: float) -> Restored:
        found = restored(len(self.cost), self.lost, self.hurt, max_lost)
        assert found.tried == len(self.tried)
        return found


def network(groups: int, **costs: float) -> Network:
    return Network([costs.get(f"at{group}", 0.0) for group in range(groups)])


def test_what_loses_little_is_tried_once() -> None:
    assert network(53, at7=0.05).restored(0.1) == Restored((), 53, 0.05, 1)


@pytest.mark.parametrize("groups", [2, 8, 53, MOST_RANKED, MOST_RANKED + 1, 400])
def test_the_fewest_groups_go_back_worst_first_within_the_bound(groups: int) -> None:
    costs = {"at1": 0.4, f"at{groups - 1}": 0.7} if groups > 2 else {"at1": 0.7}
    found = network(groups, **costs).restored(0.1)
    assert found.floats == ((groups - 1, 1) if groups > 2 else (1,))
    assert found.lost == pytest.approx(0.0)
    assert found.tried <= 2 + MOST_RANKED + 8


@pytest.mark.parametrize("groups", [1, 2, 20, 53, 400])
def test_what_cannot_be_reached_is_given_up_after_one_look_at_the_most(groups: int) -> None:
    tiny = Network([0.3] * groups)
    found = tiny.restored(0.0001)
    most = min(MOST_IN_FLOATS, groups - 1)
    assert len(found.floats) == most
    assert found.lost == pytest.approx(0.3 * (groups - most))
    assert tiny.tried.count("all faces") == min(groups, 2)
    assert found.tried <= 2 + MOST_RANKED
    assert f"{most} of its {groups} groups of layers are back in floats, {found.tried} network" in str(found)


def test_what_shows_only_beside_others_is_ranked_anew() -> None:
    """A layer behind another that is worse."""
    late = Network([0.01] * 30, hidden=(4, 20))
    late.cost = [*late.cost[:4], 0.5, *late.cost[5:20], 0.4, *late.cost[21:]]
    found = late.restored(0.28)
    assert {4, 20} < set(found.floats)
    assert found.lost <= 0.28
    assert MOST_RANKED > late.tried.count("hardest faces") > 30


@pytest.mark.parametrize("groups", [20, 53, 90, 400])
def test_what_is_nearly_reached_ends_within_the_bound(groups: int) -> None:
    """Chance alone tells the networks apart, and none is good enough."""
    draw = np.random.default_rng(0)
    found = restored(groups, lambda _: draw.uniform(0.11, 0.19), lambda _: draw.uniform(0.1, 0.2), 0.1)
    assert groups < found.tried <= MOST_TRIED or groups == 400
    assert found.tried <= MOST_TRIED
    assert found.lost < 0.15


def test_where_all_are_too_many_to_rank_neighbours_are_ranked_first() -> None:
    many = network(300, **{f"at{place}": 0.2 for place in (3, 150, 151, 299)})
    found = many.restored(0.1)
    assert set(found.floats) == {3, 150, 151, 299}
    assert many.tried.count("hardest faces") <= MOST_RANKED


def tensor(name: str, values: Any, kind: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.asarray(values, kind), name)


def node(kind: str, given: str, made: str, name: str = "") -> Any:
    return helper.make_node(kind, given.split(), [made], name=name or f"{kind} {made}")


def graph(nodes: Sequence[Any], weights: Sequence[Any]) -> Any:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, 4, 4]) for name in ("images", "out")
    ]
    made = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def pair() -> tuple[Any, Any]:
    """Two convolutions and their sum, which reads what the second does; as floats and in coarse int8."""
    draw = np.random.default_rng(0)
    kernels = {f"w{k}": draw.normal(size=(2, 2, 1, 1)).astype(np.float32) for k in range(2)}
    layers = [
        node("Conv", "images w0 b0", "a", "first"),
        node("Conv", "a w1", "b", "second"),
        node("Add", "a b", "out", "sum"),
    ]
    floats = graph(layers, [*(tensor(*each) for each in kernels.items()), tensor("b0", [0.5, -0.5])])
    scales = [tensor("step", 0.25), tensor("zero", 0, np.int8)]
    stored = [tensor(f"q{name}", np.rint(each / 0.25), np.int8) for name, each in kernels.items()]
    nodes = [node("DequantizeLinear", f"q{name} step zero", f"dq{name}") for name in kernels]
    for name in ("images", "a", "b"):
        nodes.append(node("QuantizeLinear", f"{name} step zero", f"q{name}"))
        nodes.append(node("DequantizeLinear", f"q{name} step zero", f"dq{name}"))
    quantised = [
        *nodes[:4],
        node("Conv", "dqimages dqw0 b0", "a", "first"),
        *nodes[4:6],
        node("Conv", "dqa dqw1", "b", "second"),
        *nodes[6:],
        node("Add", "dqa dqb", "out", "sum"),
    ]
    return floats, graph(quantised, [*stored, *scales, tensor("b0", [0.6, -0.4])])


def answer(model: Any) -> Any:
    images = np.random.default_rng(1).normal(size=(3, 2, 4, 4)).astype(np.float32)
    return open_session(model.SerializeToString()).run(None, {"images": images})[0]


def test_layers_that_read_one_tensor_go_back_together_as_they_were() -> None:
    floats, quantised = pair()
    assert layer_groups(quantised) == [["first"], ["second", "sum"]]
    assert np.abs(answer(quantised) - answer(floats)).max() > 0.05
    whole = with_floats(floats, quantised, {"first", "second", "sum"})
    np.testing.assert_array_equal(answer(whole), answer(floats))
    assert {each.op_type for each in whole.graph.node} == {"Conv", "Add"}
    assert len(whole.graph.initializer) == 3, "nothing of the 8 bits is stored"
    part = with_floats(floats, quantised, {"first"})
    assert [each.op_type for each in part.graph.node].count("QuantizeLinear") == 2
    assert len(quantised.graph.initializer) == 5, "what it was made of stays as it is"


def test_what_a_pooling_hands_on_is_read_behind_it() -> None:
    nodes = [
        node("QuantizeLinear", "images step zero", "q"),
        node("DequantizeLinear", "q step zero", "dq"),
        node("MaxPool", "dq", "pooled", "pool"),
        node("Conv", "pooled w", "one", "behind"),
        node("Conv", "dq w", "out", "beside"),
    ]
    assert layer_groups(graph(nodes, [])) == [["pool", "behind", "beside"]]
