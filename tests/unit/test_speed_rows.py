"""Speed rows on a network small enough to time in a millisecond."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from agesearch.errors import InputError
from agesearch.measure import speed
from agesearch.specs import ModelSpec
from agesearch.storage import Location


def tiny_onnx(repeats: int = 1) -> bytes:
    """A graph of ``repeats`` steps over ``images`` float32 [n, 3, 32, 32]."""
    names = ["images", *(f"step{i}" for i in range(repeats - 1)), "pmf"]
    nodes = [helper.make_node("Sin", [a], [b]) for a, b in zip(names, names[1:], strict=False)]
    shape = ["n", 3, 32, 32]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("pmf", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_row_says_all_it_takes_to_compare_it() -> None:
    row = speed.measure_onnx(tiny_onnx(), arch="tiny", input_size=32, setting=speed.Setting(1, 4))
    assert (row.threads, row.batch, row.runtime, row.precision) == (1, 4, "onnxruntime", "fp32")
    assert row.calls >= speed.MIN_CALLS
    assert 0 < row.latency_ms_p50 <= row.latency_ms_p95
    assert row.images_per_s == pytest.approx(4000 / row.latency_ms_p50, rel=0.02)
    assert row.hardware == speed.hardware_name()
    assert "onnxruntime" in row.versions


def test_side_by_side_keeps_names_order_and_sees_the_slower(tmp_path: Path) -> None:
    folder = Location.of(tmp_path)
    (folder / "slow.onnx").write_bytes(tiny_onnx(60))
    (folder / "fast.onnx").write_bytes(tiny_onnx(1))
    models = [speed.TimedModel(name, folder / f"{name}.onnx", "tiny", 32) for name in ("slow", "fast")]
    notes: list[str] = []
    rows = speed.side_by_side(
        models, [speed.Setting(1, 1), speed.Setting(1, 2)], on_progress=lambda p: notes.append(p.note)
    )
    assert [(row.model, row.batch) for row in rows] == [("slow", 1), ("fast", 1), ("slow", 2), ("fast", 2)]
    assert rows[0].latency_ms_p50 > 2 * rows[1].latency_ms_p50
    assert notes == ["1 thread, batch 1", "1 thread, batch 2", ""]


def test_slow_batches_are_timed_less_often_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_BATCH_SECONDS", 0.0)
    row = speed.measure_onnx(tiny_onnx(), arch="tiny", input_size=32, setting=speed.Setting(1, 2))
    assert row.calls == speed._MIN_BATCH_CALLS


def test_latency_is_measured_once_and_cached_across_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[str] = []

    def untrained(model: ModelSpec) -> bytes:
        exported.append(f"{model.arch}@{model.input_size}")
        return tiny_onnx()

    monkeypatch.setattr(speed, "_untrained", untrained)
    cache = Location.of(tmp_path) / "latency"
    table = speed.LatencyTable(cache)
    row = table.latency(ModelSpec(arch="tiny", input_size=32))
    assert table.latency(ModelSpec(arch="tiny", input_size=32, init="pretrained")) is row
    assert speed.LatencyTable(cache).latency(ModelSpec(arch="tiny", input_size=32)) == row
    assert exported == ["tiny@32"]
    assert len(cache.children()) == 1

    monkeypatch.setattr(speed, "hardware_name", lambda: "another machine")
    speed.LatencyTable(cache).latency(ModelSpec(arch="tiny", input_size=32))
    assert exported == ["tiny@32", "tiny@32"]


def test_a_broken_cache_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_untrained", lambda model: tiny_onnx())
    cache = Location.of(tmp_path)
    speed.LatencyTable(cache).latency(ModelSpec(arch="tiny", input_size=32))
    cache.children()[0].write_json({"arch": "tiny"})
    with pytest.raises(InputError, match="delete it to measure again"):
        speed.LatencyTable(cache).latency(ModelSpec(arch="tiny", input_size=32))


def test_fewer_calls_than_the_protocol_asks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 50"):
        speed.LatencyTable(Location.of(tmp_path), calls=10)
