"""int8 and bf16: an engine is used only where the model answers on it as well as it was trained to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_export_card import manifest
from test_study_latencies import row

from agesearch.deploy.card import render_card
from agesearch.deploy.evidence import Evidence
from agesearch.measure.intervals import Persons
from agesearch.measure.speed import served_here
from agesearch.measure.speed.gate import Gate, closed, gate_of, too_few, with_times
from agesearch.measure.speed.hardware import hardware_name
from agesearch.models.manifest import INT8_ONNX, ONNX
from agesearch.models.runtimes.engines import BF16, DEFAULT, INT8, OPENVINO, Engine
from agesearch.models.runtimes.int8 import in_floats

OV8, OV16 = Engine(OPENVINO, INT8), Engine(OPENVINO, BF16)
DRAW = np.random.default_rng(0)
USUAL = DRAW.uniform(0.0, 12.0, 200)


def gate(lost: Any, persons: Persons | None = None, max_drop: float = 0.1) -> Gate:
    return gate_of(OV8, USUAL, USUAL + lost, persons or Persons.each(200), max_drop)


def test_a_gate_holds_where_even_the_upper_end_of_the_loss_is_allowed() -> None:
    found = gate(DRAW.normal(0.02, 0.1, 200))
    assert found.holds
    assert found.reason == ""
    assert found.drop_low < 0.02 < found.drop_high < 0.1  # type: ignore[operator]
    assert found.mae_years - found.fp32_mae_years == pytest.approx(found.drop_years)  # type: ignore[operator]


def test_a_gate_says_whether_it_is_the_loss_or_the_few_faces() -> None:
    assert "it loses 0.300 years of MAE on 200 faces (allowed: 0.1)" in gate(0.3).reason
    unsure = gate(DRAW.normal(0.0, 3.0, 200))
    assert not unsure.holds
    assert unsure.drop_years < 0.1  # type: ignore[operator]
    assert "too few faces to tell" in unsure.reason
    assert gate(-0.5).holds, "a gain is no loss"


def test_times_go_to_the_gates_of_one_run_and_the_usual_engine_comes_first() -> None:
    shut = closed(OV16, 0.1, "it loses too much")
    rows = [row("a", 2.0), row("a", 1.0).with_values(OV8._asdict())]
    found = with_times([gate(0.0), shut], rows)
    assert [(one.engine, one.latency_ms_p50) for one in found] == [(DEFAULT, 2.0), (OV8, 1.0), (OV16, None)]
    assert found[0].holds
    assert with_times([shut], rows[1:]) == [shut], "without the usual engine in the run there is no measure"


def test_the_interval_is_over_persons() -> None:
    """Twenty persons whose ten faces err alike say as much as twenty faces."""
    alike = np.repeat(np.linspace(-0.3, 0.36, 20), 10)
    owners = Persons.of([str(i) for i in range(200)], [str(i // 10) for i in range(200)])
    by_face, by_person = gate(alike), gate(alike, owners)
    assert by_face.holds
    assert not by_person.holds
    assert by_person.persons == 20


def test_a_handful_of_persons_judges_nothing() -> None:
    assert too_few(Persons.each(10)) is None
    assert "9 persons" in str(too_few(Persons.each(9)))
    assert "2 persons" in str(too_few(Persons.of(["a", "b", "c"] * 5, ["x", "y", "y"] * 5)))


def test_the_last_layer_and_the_heads_arithmetic_stay_in_floats() -> None:
    """A last layer that is a convolution is a layer like others; of two heads each has its last layer."""

    def floats(*edges: str) -> list[str]:
        """Nodes as ``kind from to``."""
        words = [edge.split() for edge in edges]
        return in_floats(
            [SimpleNamespace(name=f"{k} {to}", op_type=k, input=[of], output=[to]) for k, of, to in words]
        )

    network = ("Conv in a", "MatMul a b", "Gemm b c", "Relu c d", "Gemm d e", "Softmax e f", "MatMul f g")
    assert floats(*network) == ["Gemm e", "MatMul g"]
    assert floats(*network, "Gemm d h", "Softmax h i") == ["Gemm e", "MatMul g", "Gemm h"]
    assert floats("Conv in a", "Conv a b", "Softmax b c", "MatMul c d") == ["MatMul d"]
    pooled = ("Conv in a", "Mul a b", "ReduceSum b c", "Conv c d", "Mul d e", "ReduceSum e f", "Gemm f g")
    assert floats(*pooled) == ["Mul e", "ReduceSum f", "Gemm g"], "a weighted pooling stays out, too"
    assert floats("MatMul in a", "Softmax a b") == [], "no layer is known: none stays out"


def timed(found: Gate, ms: float, hardware: str = "this") -> Gate:
    return found.with_values({"latency_ms_p50": ms, "threads": 1, "hardware": hardware})


def gates_found(hardware: str = "this", lost: float = 0.0) -> list[Gate]:
    usual = gate(0.0).with_values(DEFAULT._asdict())
    slow = closed(OV16, 0.1, "it loses too much")
    return [timed(one, ms, hardware) for one, ms in ((usual, 2.0), (gate(lost), 1.0), (slow, 0.5))]


def judged(**fields: Any) -> Any:
    known = {
        "precisions": [one.model_dump(mode="json") for one in gates_found()],
        "files": {ONNX: "0" * 64, INT8_ONNX: "1" * 64},
    }
    return manifest(**(known | fields))


def test_a_model_is_served_on_its_fastest_engine_that_answers_as_well() -> None:
    assert judged().allowed == {DEFAULT, OV8}
    assert judged().best_engine("this") == OV8
    assert judged(files={ONNX: "0" * 64}).best_engine("this") == DEFAULT, "it has no int8 file"
    assert judged().best_engine("another CPU") == DEFAULT
    assert judged().best_engine("this", threads=2) == DEFAULT
    assert judged(precisions=[]).best_engine("this") == DEFAULT


def test_what_was_found_on_this_machine_goes_before_what_the_version_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here, version = hardware_name(), judged()
    assert served_here.engine_here(version) == DEFAULT, "it was timed on another machine"
    served_here.keep(version, gates_found(here))
    assert served_here.engine_here(version) == OV8
    assert served_here.engine_here(judged(files={ONNX: "2" * 64, INT8_ONNX: "3" * 64})) == DEFAULT
    served_here.keep(version, gates_found(here, lost=0.4))
    assert served_here.engine_here(version) == DEFAULT
    for damaged in ("", "{}", '{"hardware": 1}'):
        next((tmp_path / "agesearch" / "engines").iterdir()).write_text(damaged)
        assert served_here.engine_here(version) == DEFAULT


def test_a_card_without_gates_is_as_before() -> None:
    assert "other precisions" not in render_card(manifest(), Evidence())


def test_a_gate_closed_by_hand_is_kept_as_it_is() -> None:
    shut = closed(OV8, 0.1, "it cannot be run.")
    assert Gate(**shut.model_dump(mode="json")) == shut
    assert (shut.holds, shut.reason, shut.drop_years) == (False, "it cannot be run", None)
