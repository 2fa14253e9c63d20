"""``measure speed``: which models and engines it means, best engines and ratios, by pretended clocks."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_study import write_study
from test_speed_rows import Clock, tiny_onnx

from agesearch.deploy.places import measured_models
from agesearch.deploy.speed import speed_of
from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.speed import timing
from agesearch.measure.speed.comparison import UNKNOWN, compare_speed, times_as_fast
from agesearch.measure.speed.gate import closed
from agesearch.measure.speed.hardware import device_name
from agesearch.measure.speed.rows import Setting
from agesearch.measure.speed.subjects import Subject, untrained_subject
from agesearch.models.runtimes import engines, torch_cuda
from agesearch.models.runtimes.engines import (
    BF16,
    FP32,
    INT8,
    ONNX_RUNTIME,
    OPENVINO,
    TIMED_RUNTIMES,
    TORCH_CUDA,
    Engine,
    engines_here,
)
from agesearch.models.runtimes.sessions import Layers, executed, open_engine
from agesearch.models.scorers import OnnxScorer
from agesearch.models.tracing import onnx_bytes
from agesearch.models.zoo import build
from agesearch.search.front.latencies import study_latencies
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location

ORT, OV, OV8, TORCH = Engine(), Engine(OPENVINO), Engine(OPENVINO, INT8), Engine(TORCH_CUDA)


class PretendedScorer:
    """Takes so many ms on each engine; without int8 it cannot be quantised."""

    input_size = 32

    def __init__(self, clock: Clock, ms: dict[Engine, float]) -> None:
        self.clock, self.ms = clock, ms

    def call(self, threads: int, batch: int, engine: Engine) -> Callable[[], None]:
        def run() -> None:
            self.clock.now += self.ms[engine] / 1000 * batch / threads

        return run

    def layers(self, engine: Engine) -> Layers:
        return Layers(10, 10 if engine.precision == FP32 else 7)

    def with_int8(self, make: Any) -> PretendedScorer:
        if OV8 not in self.ms:
            raise AgeSearchError("The network cannot be quantised: it is too odd.")
        return self


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", made.perf_counter)
    return made


def pretended(clock: Clock, name: str, *ms: float) -> Subject:
    scorer: Any = PretendedScorer(clock, dict(zip((ORT, OV, OV8), ms, strict=False)))
    return Subject(name, "fake", scorer, CropSpec())


def test_each_model_stands_on_its_fastest_engine_that_is_not_known_to_answer_worse(clock: Clock) -> None:
    subjects = [pretended(clock, "small", 2.0, 3.0, 1.0), pretended(clock, "large", 80.0, 40.0, 20.0)]
    plan = [Setting(1, 1), Setting(2, 8)]
    found = compare_speed(subjects, [ORT, OV, OV8], plan)
    assert [(row.model, row.runtime, row.precision) for row in found.rows[:3]] == [
        ("small", ONNX_RUNTIME, FP32),
        ("small", OPENVINO, FP32),
        ("small", OPENVINO, INT8),
    ]
    best = {(row.model, row.batch): row for row in found.best}
    assert best["small", 1].latency_ms_p50 == 1.0
    assert (best["small", 1].precision, best["small", 1].fp32_ms) == (INT8, 2.0)
    assert best["small", 1].answers == UNKNOWN
    assert best["large", 8].latency_ms_p50 == pytest.approx(20.0 * 8 / 2)
    assert [(r.faster, r.slower, r.batch, r.times) for r in found.ratios] == [
        ("small", "large", 1, 20.0),
        ("small", "large", 8, 20.0),
    ]
    refused = compare_speed(subjects, [ORT, OV, OV8], plan, gates={"small": [closed(OV8, 0.1, "it loses")]})
    small = next(row for row in refused.best if row.model == "small")
    assert (small.runtime, small.precision, small.answers) == (ONNX_RUNTIME, FP32, "as good")
    assert refused.ratios[0].times == 10.0


def test_models_may_be_timed_where_they_are_known_to_answer_as_well_alone(clock: Clock) -> None:
    subjects = [pretended(clock, "small", 2.0, 3.0, 1.0), pretended(clock, "large", 80.0, 40.0, 20.0)]
    held = closed(OV8, 0.1, "").with_values({"holds": True})
    found = compare_speed(
        subjects, [ORT, OV, OV8], [Setting()], gates={"small": [held]}, only_known=True, rounds=1
    )
    assert [(row.model, row.engine) for row in found.rows] == [
        *(("small", engine) for engine in (ORT, OV, OV8)),
        *(("large", engine) for engine in (ORT, OV)),
    ]
    assert [(best.model, best.answers) for best in found.best] == [("small", "as good"), ("large", "as good")]


def test_a_row_says_how_many_layers_ran_as_asked(clock: Clock) -> None:
    found = compare_speed([pretended(clock, "a", 2.0, 2.0, 2.0)], [ORT, OV8], [Setting()])
    assert [(row.layers_as_asked, row.layers) for row in found.rows] == [(10, 10), (7, 10)]


def test_a_photograph_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "faces.csv").write_text("file,age")
    with pytest.raises(InputError, match=r"--photo is '.*faces.csv', which is no photograph"):
        speed_of(["lcnet_035@32"], settings=[Setting()], photo=str(tmp_path / "faces.csv"))


def test_what_fails_once_it_is_run_is_left_out_too(clock: Clock) -> None:
    class Failing(PretendedScorer):
        def call(self, threads: int, batch: int, engine: Engine) -> Callable[[], None]:
            def run() -> None:
                raise RuntimeError("zero point must be a scalar")

            return run if engine == OV else super().call(threads, batch, engine)

    scorer: Any = Failing(clock, {ORT: 2.0, OV: 1.0, OV8: 3.0})
    found = compare_speed([Subject("a", "fake", scorer, CropSpec())], [ORT, OV, OV8], [Setting()])
    assert [row.engine for row in found.rows] == [ORT, OV8]
    assert [left.reason for left in found.left_out] == ["zero point must be a scalar"]
    assert found.best[0].latency_ms_p50 == 2.0


def test_what_cannot_be_quantised_is_left_out_with_its_reason(clock: Clock) -> None:
    found = compare_speed([pretended(clock, "odd", 2.0, 3.0)], [OV, OV8], [Setting()])
    assert [row.precision for row in found.rows] == [FP32]
    assert [(left.model, left.precision) for left in found.left_out] == [("odd", INT8)]
    assert "too odd" in found.left_out[0].reason
    with pytest.raises(InputError, match="odd: .* too odd"):
        compare_speed([pretended(clock, "odd", 2.0, 3.0)], [OV8], [Setting()])


def test_a_ratio_is_taken_round_by_round_so_that_a_slow_moment_hits_both() -> None:
    moments = np.array([1.0, 9.0, 1.0, 1.0, 30.0, 1.0, 2.0, 1.0, 1.0, 1.0])
    steady = times_as_fast(0.5 * moments, 5.0 * moments)
    assert (steady.value, steady.low, steady.high) == pytest.approx((10.0, 10.0, 10.0))
    noisy = times_as_fast(np.full(10, 0.5), 5.0 * moments)
    assert noisy.low < noisy.value < noisy.high
    assert noisy.high > 15.0


def test_engines_are_those_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_openvino_capabilities", lambda: frozenset({"FP32", "INT8"}))
    monkeypatch.setattr(engines, "_has_cuda", lambda: False)
    assert engines_here() == [ORT, Engine(ONNX_RUNTIME, INT8), OV, OV8]
    assert engines_here([OPENVINO], [INT8, FP32]) == [OV8, OV]
    with pytest.raises(InputError, match=r"does not compute in bf16 \(it has neither AVX-512 BF16 nor AMX\)"):
        engines_here((), [BF16])
    with pytest.raises(InputError, match="no GPU"):
        engines_here(["cuda"])
    with pytest.raises(InputError, match="runtime .*'openvin'.*openvino"):
        engines_here(["openvin"])
    with pytest.raises(InputError, match="onnxruntime cannot compute in bf16"):
        engines_here([ONNX_RUNTIME], [BF16])
    monkeypatch.setattr(engines, "_openvino_capabilities", lambda: frozenset({"BF16"}))
    assert Engine(OPENVINO, BF16) in engines_here()


def test_both_runtimes_answer_alike_on_one_face_and_on_several() -> None:
    content = tiny_onnx(3)
    faces = np.random.default_rng(0).random((5, 3, 32, 32), dtype=np.float32)
    ours, other = (open_engine(content, engine) for engine in (ORT, OV))
    for count in (1, 5, 2):
        feed = {"images": faces[:count]}
        assert np.allclose(ours.run(["pmf"], feed)[0], other.run(None, feed)[0], atol=1e-6)
    for ports in ("get_inputs", "get_outputs"):
        mine, theirs = (getattr(session, ports)()[0] for session in (ours, other))
        assert (mine.name, mine.type, mine.shape[1:]) == (theirs.name, theirs.type, theirs.shape[1:])
    assert executed(content, OV) == Layers(0, 0)
    with pytest.raises(InputError, match="cannot be run by OpenVINO"):
        open_engine(b"no network", OV)


def test_a_study_means_its_front_and_nothing_is_named_twice(tmp_path: Path) -> None:
    study = write_study(Location.of(tmp_path / "first"))
    front = study_latencies(study).front
    found = measured_models([str(tmp_path / "first")])
    assert list(found) == [f"first/{trial.name}" for trial in front]
    assert list(found.values()) == [study.trial_folder(trial) for trial in front]
    one = str(study.trial_folder(front[0]))
    with pytest.raises(InputError, match="named twice"):
        measured_models([str(tmp_path / "first"), one])
    with pytest.raises(InputError, match="There is no folder 'ages'"):
        measured_models(["ages"], tmp_path / "registry")  # type: ignore[arg-type]


def test_an_architecture_with_its_side_is_a_network_without_weights() -> None:
    assert untrained_subject("ages@champion") is None
    assert untrained_subject("nothing@64") is None
    with pytest.raises(InputError, match="vgg16 takes 224 to 512"):
        untrained_subject("vgg16@64")


def test_a_gpu_stands_beside_the_cpu_named_with_its_driver(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a pretended GPU: its rows are timed once, whatever the threads, and win no comparison with a CPU."""
    gpu = "NVIDIA L4, driver 550"
    monkeypatch.setattr(timing, "device_name", lambda engine: gpu if engine.on_gpu else "")
    subjects = [pretended(clock, "small", 2.0), pretended(clock, "large", 80.0)]
    for subject, ms in zip(subjects, (0.5, 1.0), strict=True):
        subject.scorer.ms[TORCH] = ms  # type: ignore[attr-defined]
    found = compare_speed(subjects, [ORT, TORCH], [Setting(1), Setting(2)])
    assert [(row.runtime, row.device, row.threads) for row in found.rows if row.model == "small"] == [
        (ONNX_RUNTIME, "", 1),
        (TORCH_CUDA, gpu, 1),
        (ONNX_RUNTIME, "", 2),
    ]
    at_one = [(one.model, one.runtime, one.fp32_ms) for one in found.best if one.threads == 1]
    assert at_one[:2] == [("small", ONNX_RUNTIME, 2.0), ("small", TORCH_CUDA, 0.5)]
    times = [
        (one.faster, one.slower, one.times, bool(one.device)) for one in found.ratios if one.threads == 1
    ]
    assert times == [("small", "large", 40.0, False), ("small", "large", 2.0, True)]


def test_torch_answers_on_the_device_as_onnx_runtime_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU in the place of a GPU: the way there and back, and the same answers as from ONNX."""
    assert TORCH not in engines_here(table=TIMED_RUNTIMES)
    with pytest.raises(InputError, match="There is no GPU that torch could use"):
        engines_here([TORCH_CUDA], table=TIMED_RUNTIMES)
    monkeypatch.setattr(engines, "torch_has_cuda", lambda: True)
    monkeypatch.setattr(torch_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA L4")
    assert TORCH in engines_here(table=TIMED_RUNTIMES)
    assert TORCH not in engines_here(), "a service does not run on it"
    torch.manual_seed(0)
    net = build(ModelSpec(arch="lcnet_035", input_size=32)).eval()
    scorer = OnnxScorer(onnx_bytes(net, 32), 32, net=lambda: net)
    faces = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(scorer.open(1, TORCH).pmf(faces), scorer.open().pmf(faces), atol=1e-5)
    assert scorer.call(1, 2, TORCH)().shape == (2, 101)
    assert pickle.loads(pickle.dumps(scorer)) == replace(scorer, net=None), "it travels without a place"
    assert scorer.layers(TORCH).count + 1 == scorer.layers(ORT).count, "whose graph has PMF x ages, too"
    assert device_name(TORCH).startswith("NVIDIA L4, driver ")
    assert device_name(ORT) == ""
    with pytest.raises(InputError, match="known as an ONNX file only"):
        OnnxScorer(scorer.onnx, 32).call(1, 1, TORCH)
