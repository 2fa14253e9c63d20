"""The sections of a report from made-up records: what is said, what is shown, and what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_study import write_measured, write_study
from foreign_graphs import write_teacher
from made_records import made_compared, made_model, made_records, made_robustness, made_strip

from agesearch.deploy.reported.models import foreign_models
from agesearch.deploy.reported.records import DECISIONS, ROBUSTNESS, SPEED, STRIP, TEST, Records, read_given
from agesearch.errors import InputError
from agesearch.reporting.findings import read_findings
from agesearch.reporting.report import build_models_report
from agesearch.reporting.sections import origin
from agesearch.reporting.sections.decisions import decisions_section
from agesearch.reporting.sections.front import front_of, front_section, pick_section
from agesearch.reporting.sections.headline import headline
from agesearch.reporting.sections.practice import practice_section
from agesearch.reporting.sections.robustness import strip_section
from agesearch.reporting.sections.told import Told
from agesearch.storage import Location

MODELS = [made_model("ages", "student"), made_model("teacher", "teacher"), made_model("theirs", "foreign")]
SECTIONS = ("front", "ages", "robustness", "strip", "decisions", "intervals", "counterfactual", "practice")


def told(records: Records | None = None, **options: object) -> Told:
    return Told(records or made_records(MODELS), None, ("ages",), "faces", **options)  # type: ignore[arg-type]


def test_the_headline_says_how_fast_how_far_and_what_corruption_costs() -> None:
    found = headline(told())
    assert found.sentence.startswith(
        "This student (ages, lcnet_050 at 64 px) is 6.0 times as fast as its teacher"
    )
    assert "−0.30 years from it (−0.80 to +0.20)" in found.sentence
    assert "years more under corruption" in found.sentence
    assert found.figures["times_as_fast"] == pytest.approx(6.0)
    whole = made_records(MODELS)
    untimed = Records(whole.reported, {name: one for name, one in whole.found.items() if name != SPEED})
    assert " is −0.30 years from its teacher (" in headline(told(untimed)).sentence
    assert found.lacking == ["how often its intervals hold the true age: agesearch calibrate"]


def test_a_model_stands_on_its_best_engine_of_those_that_answer_as_well() -> None:
    here = told()
    best = {model.name: here.best(model.name) for model in here.models}
    assert {name: str(row.engine) for name, row in best.items() if row} == {
        "ages": "openvino int8",  # its gate holds
        "teacher": "openvino fp32",
        "theirs": "openvino fp32",
    }
    chart = front_of(here)
    assert chart is not None
    assert {mark.kind for mark in chart.marks} == {"picked", "teacher", "foreign"}
    assert {mark.badge for mark in chart.marks} == {0, 1}
    engines = front_section(here).tables[0].table.rows[1][-1].text
    assert engines.split(", ")[0] == "openvino int8 4*"
    details = "\n".join(next(mark for mark in chart.marks if mark.kind == "teacher").details)
    assert "4 ms on openvino int8 (its answers are not known to be as good)" in details
    assert "8 ms on onnxruntime fp32" in details


def test_the_pick_is_set_against_its_neighbours_by_the_times_that_the_front_shows(tmp_path: Path) -> None:
    study = write_study(Location.of(tmp_path / "study"))
    write_measured(study)
    findings = read_findings(study)
    picked = findings.picked.number
    others = [trial.number for trial in findings.front if trial.number != picked]
    models = [made_model(f"trial {picked}", "student", picked)]
    models += [made_model(f"trial {number}", "front", number) for number in others]
    here = Told(made_records(models), findings, ("study",), "faces")
    section = pick_section(here)
    assert section is not None
    assert sum("× slower" in words for words in section.sentences) == len(section.sentences) - 1 > 0
    (left,) = [note for note in front_section(here).notes if note.startswith("On the front as the search")]
    assert left.endswith(f": {', '.join(sorted(f'trial {number}' for number in others))}.")


def test_bytes_and_memory_stand_beside_the_time_where_they_are_known() -> None:
    records = made_records(MODELS)
    here = told(records)
    assert "openvino int8, 3.61 MB; teacher" in headline(here).cards[0][2]
    assert "3.61 MB on disk" in "\n".join(front_of(here).marks[0].details)  # type: ignore[union-attr]
    table = front_section(here).tables[0].table
    at = list(table.columns).index("file, MB")
    assert {(row[at].text, row[at + 1].text) for row in table.rows} == {("3.61", "18.4")}
    speed = records.found[SPEED].model_copy(update={"footprints": ()})
    before = front_section(told(Records(records.reported, {**records.found, SPEED: speed})))
    assert {row[at].text for row in before.tables[0].table.rows} == {"–"}
    assert "agesearch measure speed" in before.notes[-1]


def test_a_ratio_of_engines_that_nobody_judged_is_not_told() -> None:
    records = made_records(MODELS)
    speed = records.found[SPEED]
    unknown = [one.model_copy(update={"answers": "unknown"}) for one in speed.best]  # type: ignore[attr-defined]
    weak = Records(
        records.reported, {**records.found, SPEED: speed.model_copy(update={"best": tuple(unknown)})}
    )
    assert told(weak).times("ages", "teacher") is None
    assert told().times("theirs", "ages").times == pytest.approx(1 / 24)  # type: ignore[union-attr]


def test_faces_of_sources_that_may_not_be_shown_are_not() -> None:
    for wanted, shown in ((("drawn",), ["drawn"]), ((), []), (("nowhere",), [])):
        section = strip_section(told(faces_from=wanted))
        assert [face.source for face in (section.strip.faces if section.strip else ())] == shown
        assert bool(section.missing) is not bool(shown)


def test_every_section_is_there_or_says_what_fills_it(tmp_path: Path) -> None:
    reasons = {ROBUSTNESS: "it was left out", STRIP: "no source", TEST: "no test faces"}
    bare = Records(made_records(MODELS, reasons=reasons).reported)
    report = build_models_report(bare, Location.of(tmp_path / "bare.html"), given=["ages"], data="faces")
    empty = {section.id: section for section in report.sections if section.missing}
    assert set(SECTIONS) - {"practice"} <= set(empty)
    assert all(section.fill.startswith("agesearch ") for section in empty.values())
    assert "it was left out" in empty["robustness"].missing
    assert "Filled by: <code>agesearch report ages --data faces</code>" in (
        tmp_path / "bare.html"
    ).read_text().replace("&#39;", "'")


def test_what_fills_a_section_is_the_same_report_without_what_left_it_out() -> None:
    skipped = ("--skip", "speed", "--skip", "decisions")
    asked = told(options=("--with", "theirs.yaml", *skipped, "--judge", "--legal-age", "5"))
    assert asked.filled_by(left_out={SPEED}) == (
        "agesearch report ages --data faces --with theirs.yaml --skip decisions --judge --legal-age 5"
    )
    assert asked.filled_by("--legal-age", 18, left_out={"decisions"}) == (
        "agesearch report ages --data faces --with theirs.yaml --skip speed --judge --legal-age 18"
    )


def test_an_age_limit_that_was_refused_is_not_suggested_again() -> None:
    one_sided = "'faces' has no face with an exact age below 18 years in split 'test'"
    for reason, age in (("it was left out", "18"), (one_sided, "YEARS")):
        fill = decisions_section(told(made_records(MODELS, reasons={DECISIONS: reason}))).fill
        assert fill.endswith(f"--legal-age {age}")


def test_a_command_to_paste_names_network_and_manifest_without_their_folders() -> None:
    assert origin.shown("/home/ada/nets/age.onnx:docs/age.yaml") == "age.onnx:docs/age.yaml"
    assert origin.shown("/home/ada/nets/age.yaml") == "age.yaml"


def test_page_markdown_and_json_tell_the_same(tmp_path: Path) -> None:
    out = Location.of(tmp_path / "models.html")
    report = build_models_report(
        made_records(MODELS), out, given=["ages"], data="faces", faces_from=["drawn"]
    )
    page = (tmp_path / "models.html").read_text()
    text = (tmp_path / "models.md").read_text()
    document = json.loads((tmp_path / "models.json").read_text())
    assert len(page) < 5_000_000
    assert document["headline"] == report.headline.sentence
    for section in report.sections:
        assert f'<h2 id="{section.id}">' in page
        assert f"## {section.title}" in text
        assert document["sections"][section.id]["title"] == section.title
    assert page.count("data:image/jpeg") == 6  # one face under six levels
    assert "glasses +1.50" in text
    assert document["sections"]["counterfactual"]["figures"]["ages"]["glasses"] == 1.5
    assert "private" not in page


def test_the_practice_statement_has_four_words_a_use_and_no_retention() -> None:
    facts = dict(practice_section(told()).facts)
    assert list(facts)[1:5] == ["accurate", "robust", "reliable", "fair"]
    assert facts["retention"].startswith("None")
    assert "Off by 5.00 years" in facts["accurate"]
    assert "sex female: off by 5.10 years, bias +0.40 (30 faces)" in facts["fair"]
    assert "whether its intervals hold" in facts["not tested"]


def test_a_record_of_a_verb_stands_in_for_what_was_not_measured(tmp_path: Path) -> None:
    file = Location.of(tmp_path / "robustness.json")
    file.write_json(made_robustness(["ages", "teacher"]).model_dump(mode="json"))
    assert read_given(file)[0] == ROBUSTNESS
    reasons = {ROBUSTNESS: "it was left out"}
    here = told(made_records(MODELS, reasons=reasons).with_given([str(file)]))
    assert here.resisting("ages") is not None
    other = Location.of(tmp_path / "other.json")
    other.write_json(made_compared(["ages"]).model_dump(mode="json"))
    for wrong, words in ((other, "is no record"), (Location.of(tmp_path / "absent.json"), "is not there")):
        with pytest.raises(InputError, match=words):
            read_given(wrong)


def test_a_network_may_lie_elsewhere_than_its_manifest_says(tmp_path: Path) -> None:
    document = write_teacher(tmp_path / "there", output={"kind": "scalar", "name": "means", "spread": 2.0})
    moved = tmp_path / "moved.onnx"
    (document.parent / "mean.onnx").rename(moved)
    (found,) = foreign_models([f"{moved}:{document}"], tmp_path)
    assert found.model.role == "foreign"
    assert found.place.parent != Location.of(document.parent)
    with pytest.raises(InputError, match="is not there: --with takes MODEL.onnx:MANIFEST"):
        foreign_models([f"{tmp_path}/absent.onnx:{document}"], tmp_path)


def test_pictures_of_a_strip_are_no_paths() -> None:
    strip = made_strip(["ages"])
    again = type(strip).model_validate(strip.model_dump(mode="json"))
    assert again.faces[0].cells[0].jpeg.startswith(b"\xff\xd8")
