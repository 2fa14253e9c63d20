"""The latency of a trial is one measurement, wherever it is shown, and no ratio is taken between two runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_study import write_measured, write_study
from typer import Typer
from typer.testing import CliRunner

from agesearch.cli import front as front_command
from agesearch.deploy import evidence
from agesearch.deploy.card import render_card
from agesearch.deploy.evidence import Evidence, is_measured
from agesearch.measure.speed.rows import SpeedRow
from agesearch.models.manifest import ModelManifest
from agesearch.reporting.figures import front_figure
from agesearch.reporting.findings import read_findings
from agesearch.reporting.fronts import front_table
from agesearch.reporting.report import build_report
from agesearch.reporting.summary import summary_figures
from agesearch.search.front.latencies import Run, picked, study_latencies
from agesearch.search.front.measurements import FOLDER, SPEED_FILE, TEACHER, read_measurements, spec_rows
from agesearch.search.store.records import LATENCY_FILE, State, StudyFolder, TrialRecord
from agesearch.search.view.status import study_status
from agesearch.search.view.trial_details import trial_details
from agesearch.specs import CropSpec, ModelSpec
from agesearch.storage import Location

TEACHER_MS = 1.76


def row(model: str, ms: float, spread: float = 1.02) -> SpeedRow:
    return SpeedRow(
        model=model,
        arch="fake",
        input_size=96,
        threads=1,
        batch=1,
        calls=50,
        latency_ms_p50=ms,
        latency_ms_p95=ms * spread,
        images_per_s=1000 / ms,
        hardware="test",
        versions={},
    )


def write_speeds(study: StudyFolder, times: dict[str, float]) -> None:
    rows = [row(name, ms) for name, ms in times.items()]
    (study.root / FOLDER / SPEED_FILE).write_table(spec_rows(rows, dict.fromkeys(times, "0")))


def complete(study: StudyFolder) -> list[TrialRecord]:
    return [trial for trial in study.trials() if trial.state is State.COMPLETE]


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return write_study(Location.of(tmp_path / "study"))


@pytest.fixture
def timed(study: StudyFolder) -> StudyFolder:
    """Measured on a machine that takes twice the time, and 40 times for the fastest trial of the front."""
    write_measured(study)
    fastest = study.front()[0]
    times = {trial.name: 2 * float(trial.latency_ms_p50 or 0) for trial in complete(study)}
    write_speeds(study, {TEACHER: TEACHER_MS, **times, fastest.name: 40 * float(fastest.latency_ms_p50 or 0)})
    write_measured_faces(study)
    return study


def write_measured_faces(study: StudyFolder) -> None:
    """Predictions and robustness of the front as it is now, its speeds left as they are."""
    speeds = (study.root / FOLDER / SPEED_FILE).read_table()
    write_measured(study)
    (study.root / FOLDER / SPEED_FILE).write_table(speeds)


def test_before_a_report_the_search_is_what_is_known(study: StudyFolder) -> None:
    latencies = study_latencies(study)
    assert (latencies.run, latencies.notes()) == (Run.SEARCH, [])
    assert latencies.front == study.front()
    assert [row.times_teacher for row in front_table(str(study.root)).rows] == [None] * len(study.front())
    shown = front_table(str(study.root)).rows[0].as_json()
    assert shown["latency_run"] == "search"
    assert shown["latency_ms_p50"] == shown["search_latency_ms_p50"] == study.front()[0].latency_ms_p50
    assert not is_measured(study, study.front()[0])


def test_after_one_every_place_shows_the_side_by_side_run(timed: StudyFolder, tmp_path: Path) -> None:
    before, latencies = timed.front(), study_latencies(timed)
    assert latencies.run is Run.SIDE_BY_SIDE
    slow = before[0].number
    assert slow not in [trial.number for trial in latencies.front]
    times = {trial.number: trial.latency_ms_p50 for trial in latencies.front}
    assert times == {n: pytest.approx(2 * float(timed.trial(n).latency_ms_p50 or 0)) for n in times}

    findings, table = read_findings(timed), front_table(str(timed.root))
    assert {row.trial.number: row.trial.latency_ms_p50 for row in table.rows} == times
    for found in table.rows:  # milliseconds times the ratio is the teacher, in every row
        assert found.times_teacher == pytest.approx(TEACHER_MS / float(found.trial.latency_ms_p50 or 0))
    assert {trial.number: trial.latency_ms_p50 for trial in findings.front} == times
    chart = front_figure(findings)
    marks = {mark.x for mark in chart.marks}
    assert set(times.values()) | {TEACHER_MS} <= marks
    assert picked(timed, "fastest").number == latencies.front[0].number != slow
    pick = findings.picked
    figures = summary_figures(findings)
    assert (figures["latency_ms_p50"], figures["teacher_latency_ms_p50"]) == (times[pick.number], TEACHER_MS)
    status = study_status(timed.root).as_json()
    assert {trial["number"]: trial["latency_ms_p50"] for trial in status["front"]} == times
    known = trial_details(timed.root, slow)
    assert known.record.latency_ms_p50 == known.latency.ms == 40 * float(before[0].latency_ms_p50 or 0)
    assert known.role.startswith("beaten by")
    build_report(timed, Location.of(tmp_path / "page.html"))
    assert f"trial {slow} is off it" in (tmp_path / "page.html").read_text()


def test_what_differs_is_said_and_what_it_changes(timed: StudyFolder) -> None:
    (note,) = study_latencies(timed).notes()
    slow = timed.front()[0].number
    assert note.startswith("Timed beside the teacher on onnxruntime fp32, ")
    assert "differ from the search's timing by more than noise" in note
    assert f"By these figures the front changes: trial {slow} is off it" in note
    app = Typer()
    front_command.add_to(app)
    result = CliRunner().invoke(app, [str(timed.root)], env={"COLUMNS": "200"})
    assert note in " ".join(result.stderr.split())
    rows = json.loads(CliRunner().invoke(app, [str(timed.root), "--json"]).stdout)
    assert {entry["latency_run"] for entry in rows} == {"side by side"}
    assert all(entry["latency_ms_p50"] != entry["search_latency_ms_p50"] for entry in rows)


@pytest.mark.parametrize(
    ("factor", "spread", "is_noise"), [(1.04, 1.0, True), (1.2, 1.0, False), (1.2, 1.3, True)]
)
def test_noise_is_what_single_calls_differ_by(
    study: StudyFolder, factor: float, spread: float, is_noise: bool
) -> None:
    rows = [row("", float(trial.latency_ms_p50 or 0), spread) for trial in study.front()]
    known = [
        made.with_values({"arch": trial.arch, "input_size": trial.input_size}).model_dump(mode="json")
        for made, trial in zip(rows, study.front(), strict=True)
    ]
    (study.root / LATENCY_FILE).write_json(known)
    times = {trial.name: factor * float(trial.latency_ms_p50 or 0) for trial in complete(study)}
    write_speeds(study, {TEACHER: TEACHER_MS, **times})
    assert bool(study_latencies(study).notes()) is not is_noise
    faster = {name: ms / factor**2 for name, ms in times.items()}
    write_speeds(study, {TEACHER: TEACHER_MS, **faster})
    if spread == 1.0:
        assert bool(study_latencies(study).notes()) is not is_noise


def test_trials_of_one_network_share_its_timing(study: StudyFolder) -> None:
    write_measured(study)
    times = {trial.name: 2 * float(trial.latency_ms_p50 or 0) for trial in complete(study)}
    write_speeds(study, {TEACHER: TEACHER_MS, **times})
    networks = {(trial.arch, trial.input_size) for trial in complete(study)}
    latencies = study_latencies(study)
    for trial in study.trials():
        is_timed = (trial.arch, trial.input_size) in networks
        assert (latencies.latency(trial).run is Run.SIDE_BY_SIDE) == is_timed
    alone = read_findings(study).searched
    assert alone == [t.number for t in study.trials() if (t.arch, t.input_size) not in networks]


def test_a_study_measured_by_an_earlier_version_keeps_its_front(study: StudyFolder) -> None:
    front = study.front()
    write_speeds(study, {TEACHER: TEACHER_MS, **{t.name: 3 * float(t.latency_ms_p50 or 0) for t in front}})
    latencies = study_latencies(study)
    assert latencies.run is Run.SIDE_BY_SIDE
    assert [trial.number for trial in latencies.front] == [trial.number for trial in front]
    assert latencies.notes()[0].endswith("No place on the front changes.")


def test_a_front_that_was_not_timed_whole_shows_no_ratio(study: StudyFolder) -> None:
    first, *others = study.front()
    write_speeds(study, {TEACHER: TEACHER_MS, **dict.fromkeys([trial.name for trial in others], 0.5)})
    latencies = study_latencies(study)
    assert (latencies.run, latencies.front) == (Run.SEARCH, study.front())
    assert {found.times_teacher for found in front_table(str(study.root)).rows} == {None}
    (note,) = latencies.notes()
    assert note.startswith(f"Not timed beside the teacher yet: trial {first.number}; ")
    assert "agesearch report" in note
    assert not is_measured(study, others[0])


def test_the_card_has_the_side_by_side_figures_and_the_teachers(timed: StudyFolder) -> None:
    trial = study_latencies(timed).front[0]
    rows = evidence._speed(read_measurements(timed), trial.name)
    manifest: dict[str, Any] = {
        "kind": "version",
        "model": ModelSpec(arch="lcnet_035"),
        "crop": CropSpec(),
        "name": "ages",
        "version": 1,
        "speed": rows,
        "provenance": {"parity": {"faces": 1, "age_max_difference_years": 0.0, "age_tolerance_years": 0.1}},
    }
    card = render_card(ModelManifest.model_validate(manifest), Evidence())
    ms = float(trial.latency_ms_p50 or 0)
    assert f"| 1 | 1 | {ms:.3g} |" in card
    assert f"| 1.76 | {TEACHER_MS / ms:.1f} |" in card
    del rows[0]["teacher_latency_ms_p50"]  # a version that was published before
    assert "| - | - | test |" in render_card(
        ModelManifest.model_validate(manifest | {"speed": rows}), Evidence()
    )
