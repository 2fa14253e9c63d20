"""Speed rows on a network small enough to time in a millisecond."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from agesearch.measure.speed import timing
from agesearch.measure.speed.hardware import hardware_name
from agesearch.measure.speed.rows import Setting, beyond_noise
from agesearch.progress import Progress
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
    row = timing.measure_onnx(tiny_onnx(), arch="tiny", input_size=32, setting=Setting(1, 4))
    assert (row.threads, row.batch, row.runtime, row.precision) == (1, 4, "onnxruntime", "fp32")
    assert row.calls >= timing.MIN_CALLS
    assert 0 < row.latency_ms_p50 <= row.latency_ms_p95
    assert row.images_per_s == pytest.approx(4000 / row.latency_ms_p50, rel=0.02)
    assert row.hardware == hardware_name()
    assert "onnxruntime" in row.versions


def test_side_by_side_keeps_names_order_and_sees_the_slower(tmp_path: Path) -> None:
    folder = Location.of(tmp_path)
    (folder / "slow.onnx").write_bytes(tiny_onnx(60))
    (folder / "fast.onnx").write_bytes(tiny_onnx(1))
    models = [timing.TimedModel(name, folder / f"{name}.onnx", "tiny", 32) for name in ("slow", "fast")]
    seen: list[Progress] = []
    rows = timing.side_by_side(models, [Setting(1, 1), Setting(1, 2)], on_progress=seen.append)
    assert [(row.model, row.batch) for row in rows] == [("slow", 1), ("fast", 1), ("slow", 2), ("fast", 2)]
    assert rows[0].latency_ms_p50 > 2 * rows[1].latency_ms_p50
    assert [event.done for event in seen] == list(range(seen[-1].total + 1))  # type: ignore[operator]
    assert (seen[0].note, seen[-2].note) == ("1 thread, batch 1, warming slow", "1 thread, batch 2, fast")


def test_slow_batches_are_timed_less_often_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_BATCH_SECONDS", 0.0)
    row = timing.measure_onnx(tiny_onnx(), arch="tiny", input_size=32, setting=Setting(1, 2))
    assert row.calls == timing._MIN_BATCH_CALLS


class Session:
    """Counts its calls on a clock of its own: each takes the next of ``seconds``, over and over."""

    def __init__(self, name: str, calls: list[str], clock: Clock, seconds: tuple[float, ...]) -> None:
        self._name, self._calls, self._clock, self._seconds = name, calls, clock, itertools.cycle(seconds)

    def call(self, threads: int, batch: int, engine: object = None) -> timing.Call:
        return self._run

    def _run(self) -> None:
        self._calls.append(self._name)
        self._clock.now += next(self._seconds)


class Clock:
    """Stands still unless a session runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", made.perf_counter)
    return made


def test_the_first_calls_are_not_timed(clock: Clock) -> None:
    calls: list[str] = []
    slow_at_first = (9.0,) * timing.WARMUP_CALLS + (0.001,) * timing.MIN_CALLS
    session = Session("a", calls, clock, slow_at_first)
    row = timing.measure_onnx(session, arch="fake", input_size=32)  # type: ignore[arg-type]
    assert len(calls) == timing.WARMUP_CALLS + timing.MIN_CALLS
    assert timing.WARMUP_CALLS >= 5
    assert (row.calls, row.latency_ms_p50, row.latency_ms_p95) == (timing.MIN_CALLS, 1.0, 1.0)


def test_side_by_side_warms_every_model_before_and_again_in_each_turn(clock: Clock) -> None:
    calls: list[str] = []
    models = [
        timing.TimedModel(name, Session(name, calls, clock, (ms / 1000,)), "fake", 32)  # type: ignore[arg-type]
        for name, ms in (("a", 1.0), ("b", 3.0))
    ]
    rows = timing.side_by_side(models, [Setting()])
    warm = timing.WARMUP_CALLS
    turn = 1 + timing.MIN_CALLS // timing.ROUNDS  # the first call of a turn is not timed
    blocks = [(name, len(list(run))) for name, run in itertools.groupby(calls)]
    assert blocks == [("a", warm), ("b", warm), *(("a", turn), ("b", turn)) * timing.ROUNDS]
    assert [(row.model, row.calls, row.latency_ms_p50) for row in rows] == [("a", 50, 1.0), ("b", 50, 3.0)]


def test_a_slow_first_call_of_a_turn_does_not_count(clock: Clock) -> None:
    calls: list[str] = []
    turn = 1 + timing.MIN_CALLS // timing.ROUNDS
    cold = (0.001,) * timing.WARMUP_CALLS + ((9.0,) + (0.001,) * (turn - 1)) * timing.ROUNDS
    models = [timing.TimedModel("a", Session("a", calls, clock, cold), "fake", 32)]  # type: ignore[arg-type]
    assert timing.side_by_side(models, [Setting()])[0].latency_ms_p95 == 1.0


def test_the_percentiles_are_those_of_single_calls(clock: Clock) -> None:
    milliseconds = [float(value) for value in np.random.default_rng(0).permutation(np.arange(1, 101))]
    seconds = (0.5,) * timing.WARMUP_CALLS + tuple(value / 1000 for value in milliseconds)
    session = Session("a", [], clock, seconds)
    row = timing.measure_onnx(session, arch="fake", input_size=32, calls=100)  # type: ignore[arg-type]
    assert row.latency_ms_p50 == pytest.approx(50.5)  # of 1, 2 ... 100 ms
    assert row.latency_ms_p95 == pytest.approx(95.05)
    assert row.images_per_s == pytest.approx(1000 / 50.5, abs=0.01)


def test_a_difference_is_noise_within_the_faster_runs_calls_or_a_twentieth() -> None:
    beyond = beyond_noise
    assert not beyond((0.120, 0.124), (0.126, 0.130)), "a twentieth of the faster median is noise"
    assert not beyond((0.120, 0.150), (0.140, 0.141)), "so are the calls of the faster run"
    assert beyond((0.120, 0.124), (0.127, 0.130))
    assert beyond((0.127, 0.130), (0.120, 0.124)), "in either order"
    assert not beyond((1.0, 1.0), (1.0, 1.0))
