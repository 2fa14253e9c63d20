"""Runtime and precision as axes of a search: latencies on the fastest engine, the front on the best one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_study import SPEC, write_study
from test_latency_cache import TINY
from test_precisions import OV8, gate
from test_speed_rows import tiny_onnx
from test_study_latencies import row

from agesearch.errors import AgeSearchError, InputError
from agesearch.measure.speed import latency_table
from agesearch.measure.speed.footprint import Footprint
from agesearch.measure.speed.gate import Gate
from agesearch.measure.speed.latency_table import LatencyTable
from agesearch.measure.speed.rows import EngineTime, Setting, SpeedRow, on_best_engine
from agesearch.measure.speed.timing import TimedModel
from agesearch.models.runtimes.engines import DEFAULT, OPENVINO, Engine
from agesearch.models.scorers import OnnxScorer
from agesearch.reporting.figures import _latency_words
from agesearch.reporting.fronts import front_table
from agesearch.search.front import engines as of_study
from agesearch.search.front import measure, speeds
from agesearch.search.front.latencies import study_latencies
from agesearch.search.front.measurements import TEACHER
from agesearch.search.front.speeds import SpeedRun, StudyModel
from agesearch.search.space.space import load_space
from agesearch.search.store.records import State, StudyFolder
from agesearch.specs import CropSpec, LatencySpec, StudySpec
from agesearch.storage import Location

OV = Engine(OPENVINO)
#: How fast each engine is beside the usual one.
SHARE = {DEFAULT: 1.0, OV: 0.8, OV8: 0.5}


def timed(model: TimedModel, ms: float, setting: Setting) -> SpeedRow:
    return row(model.name, ms * SHARE[model.engine]).with_values(
        {**model.engine._asdict(), "threads": setting.threads, "batch": setting.batch}
    )


def test_a_spec_that_names_no_engine_is_what_it_was() -> None:
    assert "latency" not in SPEC.model_dump(mode="json")
    named = SPEC.model_copy(update={"latency": LatencySpec(runtime="openvino", precision=["fp32", "int8"])})  # type: ignore[arg-type]
    assert named.model_dump(mode="json")["latency"] == {
        "runtime": ["openvino"],
        "precision": ["fp32", "int8"],
        "threads": 1,
    }
    assert StudySpec(**named.model_dump(mode="json")) == named
    assert named.digest() != SPEC.digest()


def test_an_unknown_precision_is_refused_with_its_line(tmp_path: Path) -> None:
    lines = ["student: {model: {arch: lcnet_035}}", "latency:", "  runtime: onnxruntime", "  precision: fp64"]
    space = ["space:", "  model.input_size: {choices: [32, 64]}"]
    (tmp_path / "space.yaml").write_text("\n".join([*lines, *space]))
    with pytest.raises(InputError, match=r"line 4: .latency.precision. must be .fp32., .bf16. or .int8."):
        load_space(tmp_path / "space.yaml")


def test_the_fastest_engine_that_is_not_closed_is_chosen_and_the_others_stand_beside_it() -> None:
    rows = [timed(TimedModel("a", b"", "a", 32, engine), 2.0, Setting()) for engine in SHARE]
    best = on_best_engine(rows)
    assert (best.engine, best.latency_ms_p50) == (OV8, 1.0)
    assert [(other.engine, other.latency_ms_p50) for other in best.others] == [(OV, 1.6), (DEFAULT, 2.0)]
    kept = on_best_engine(rows, {OV8})
    assert kept.engine == OV
    assert [other.engine for other in kept.others] == [OV8, DEFAULT]
    assert on_best_engine(rows[:1], {DEFAULT}).engine == DEFAULT, "there is no other"


def test_a_network_is_timed_on_every_engine_and_kept_by_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def pretended(models: Sequence[TimedModel], plan: Sequence[Setting], **_: Any) -> list[SpeedRow]:
        asked.append((len(models), plan[0].threads))
        return [timed(model, 2.0, plan[0]) for model in models]

    def odd(scorer: OnnxScorer) -> bytes:
        raise AgeSearchError("it cannot be quantised")

    monkeypatch.setattr(latency_table, "untrained_onnx", lambda model: tiny_onnx())
    monkeypatch.setattr(latency_table, "side_by_side", pretended)
    monkeypatch.setattr(latency_table, "int8_for_time_alone", lambda scorer: scorer.onnx)
    cache = Location.of(tmp_path)
    found = LatencyTable(cache, engines=list(SHARE)).latency(TINY)
    assert (found.engine, found.latency_ms_p50, len(found.others)) == (OV8, 1.0, 2)
    assert LatencyTable(cache, engines=list(SHARE)).latency(TINY) == found
    assert LatencyTable(cache, engines=[DEFAULT, OV], threads=2).latency(TINY).engine == OV
    assert asked == [(3, 1), (2, 2)]
    monkeypatch.setattr(latency_table, "int8_for_time_alone", odd)
    assert LatencyTable(None, engines=list(SHARE)).latency(TINY).engine == OV
    assert LatencyTable(None, engines=[OV8]).latency(TINY).engine == DEFAULT


class Run:
    """A study that names all engines, timed by a clock of ours; trials are judged by ``holds``."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.holds, self.judged, self.slow = True, list[str](), dict[Engine, float]()
        patch.setattr(of_study, "engines_here", lambda *_: list(SHARE))
        patch.setattr(of_study, "judge", self._judge)
        patch.setattr(of_study, "runnable", lambda scorer, engines: (scorer, engines))
        patch.setattr(speeds, "side_by_side", self._timed)
        patch.setattr(speeds, "_bytes_of", lambda model: 1000)
        patch.setattr(speeds, "weighed", lambda model: Footprint(file_bytes=1000, session_bytes=5_000_000))
        patch.setattr(StudyModel, "digest", property(lambda model: f"digest of {model.name}"))
        patch.setattr(StudyModel, "scorer", property(lambda model: OnnxScorer(model.name.encode(), 32)))
        self.study = write_study(Location.of(root / "study"), trials=10)
        spec = SPEC.model_copy(update={"latency": LatencySpec(precision=("fp32", "int8"))})
        self.study.write_header(self.study.header().model_copy(update={"spec": spec}))
        self.ms = {trial.name: trial.latency_ms_p50 or 0.0 for trial in self.study.trials()} | {TEACHER: 34.0}
        complete = [trial for trial in self.study.trials() if trial.state is State.COMPLETE]
        models = {each.number: self._model(each.name, self.study.trial_folder(each)) for each in complete}
        teacher = self._model(TEACHER, self.study.trial_folder(complete[0]))
        self.models, self.run = models, SpeedRun(self.study, teacher, list(models.values()))

    def bring_up_to_date(self) -> None:
        self.run.bring_up_to_date(lambda _: None)
        measure._judge_front(self.run, self.models, Location.of("/data"), lambda _: None)

    def _model(self, name: str, folder: Location) -> StudyModel:
        return StudyModel(name, folder, CropSpec())

    def _timed(self, models: Sequence[TimedModel], plan: Sequence[Setting], **_: Any) -> list[SpeedRow]:
        return [
            timed(model, self.ms[model.name] * self.slow.get(model.engine, 1.0), setting)
            for setting in plan
            for model in models
        ]

    def _judge(self, scorer: OnnxScorer, *_: Any) -> tuple[OnnxScorer, list[Gate]]:
        self.judged.append(scorer.onnx.decode())
        return scorer, [gate(0.0 if self.holds else 0.5)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch)


def engines_of(study: StudyFolder) -> set[Engine]:
    latencies = study_latencies(study)
    return {latencies.latency(trial).engine for trial in latencies.front}


def test_the_front_stands_on_the_best_engine_and_each_of_its_trials_is_judged_once(run: Run) -> None:
    run.bring_up_to_date()
    latencies = study_latencies(run.study)
    assert engines_of(run.study) == {OV8}
    assert sorted(run.judged) == sorted(trial.name for trial in latencies.front)
    first = latencies.latency(latencies.front[0])
    assert first.ms == pytest.approx(0.5 * run.ms[latencies.front[0].name])
    assert first.times_teacher == pytest.approx(17.0 / first.ms)  # type: ignore[operator]
    assert [other.engine for other in first.others] == [OV, DEFAULT]
    judged = list(run.judged)
    run.bring_up_to_date()
    assert run.judged == judged


def test_a_student_that_answers_worse_in_int8_stands_on_another_engine(run: Run) -> None:
    run.holds = False
    run.bring_up_to_date()
    latencies = study_latencies(run.study)
    assert engines_of(run.study) == {OV}
    assert {trial.name for trial in latencies.front} <= set(run.judged)
    assert latencies.teacher is not None
    assert latencies.teacher.engine == OV8, "the teacher stands on its fastest, judged or not"
    run.run.time_pick(run.models[latencies.front[0].number], lambda _: None)
    assert not run.run.lacks(latencies.front[0].name)
    assert engines_of(run.study) == {OV}


def test_only_engines_faster_than_fp32_are_judged(run: Run) -> None:
    run.slow = {OV8: 3.0}
    run.bring_up_to_date()
    assert engines_of(run.study) == {OV}
    assert run.judged == []


def test_programs_and_the_chart_see_the_engine_and_the_others(run: Run) -> None:
    run.bring_up_to_date()
    found = front_table(str(run.study.root)).rows[0].as_json()
    assert (found["runtime"], found["precision"]) == OV8
    assert [other["precision"] for other in found["other_engines"]] == ["fp32", "fp32"]
    json.dumps(found)
    latencies = study_latencies(run.study)

    class Findings:
        pass

    findings: Any = Findings()
    findings.latencies = latencies
    words = _latency_words(findings, latencies.front[0])
    assert "on openvino int8" in words[0]
    assert words[1].endswith("ms on openvino fp32")


def test_a_study_without_engines_has_no_new_key_and_no_gates(tmp_path: Path) -> None:
    plain = of_study.StudyEngines(write_study(Location.of(tmp_path / "plain")))
    assert plain.key == []
    assert plain.are_usual
    assert not plain.need_gates


def test_the_others_of_a_row_survive_its_record() -> None:
    kept = row("a", 1.0).model_copy(
        update={"others": (EngineTime(**OV._asdict(), latency_ms_p50=2.0, latency_ms_p95=3.0),)}
    )
    assert SpeedRow(**json.loads(json.dumps(kept.model_dump(mode="json")))) == kept
    assert "others" not in row("a", 1.0).model_dump(mode="json")
