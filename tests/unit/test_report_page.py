"""The report of a made-up study: what it says, what it must not load, and what it refuses."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fake_study import write_measured, write_study
from typer import Typer
from typer.testing import CliRunner

from agesearch.api.report import _to_paste, report
from agesearch.artefacts import own_page
from agesearch.cli import front as front_command
from agesearch.cli import report as report_command
from agesearch.errors import ConflictError, InputError
from agesearch.measure.intervals import Estimate
from agesearch.reporting import tables
from agesearch.reporting.figures import write_figures
from agesearch.reporting.findings import read_findings
from agesearch.reporting.fronts import front_table
from agesearch.reporting.importance import importances
from agesearch.reporting.report import build_report
from agesearch.reporting.sections import study as study_sections
from agesearch.reporting.summary import summary, summary_figures, verdict
from agesearch.search.front.latencies import picked
from agesearch.search.front.measurements import TEACHER
from agesearch.search.store.records import State, StudyFolder
from agesearch.storage import Location
from agesearch.training.curve import epoch_errors


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    made = write_study(Location.of(tmp_path_factory.mktemp("studies") / "first"))
    write_measured(made)
    return made


@pytest.fixture(scope="module")
def written(study: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    build_report(study, Location.of(folder / "first.html"))
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    return (written / "first.html").read_text()


@pytest.fixture(scope="module")
def document(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written / "first.json").read_text())
    return found


class Loads(HTMLParser):
    """Collects every address that a browser would load, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "img", "br", "link", "path", "circle", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_wellformed_and_loads_nothing_from_a_network(page: str) -> None:
    parser = Loads()
    parser.feed(page)
    assert parser.open == []
    assert parser.addresses
    assert all(address.startswith(("data:image/", "#")) for address in parser.addresses)
    assert not re.search(r"@import|url\((?!#)", page)
    assert set(re.findall(r"https?://[^\"' )<]+", page)) == {"http://www.w3.org/2000/svg"}
    assert len(page) < 400_000


def test_the_page_has_every_part_that_the_study_has(page: str, study: StudyFolder) -> None:
    for part in ("front", "ages", "faces", "robustness", "speed", "curves", "importance", "trials"):
        assert f'id="{part}"' in page
    findings = read_findings(study)
    assert page.count('class="mark mark-teacher"') == 4  # the point and its legend entry, at both widths
    assert f"trial {findings.picked.number}, picked (knee)" in page
    assert "the loss is not finite" in page
    assert page.count("<img ") == 24
    for corruption in ("gaussian noise", "jpeg compression"):
        assert corruption in page
    assert "optim.learning_rate" in page
    assert f"--pick {findings.picked.number}" in page


def test_a_study_says_why_not_its_neighbours_and_how_the_search_went(
    page: str, document: dict[str, Any], study: StudyFolder
) -> None:
    words = " ".join(document["sections"]["pick"]["sentences"])
    assert read_findings(study).latencies.choice.rule in words  # type: ignore[union-attr]
    assert "× faster; it is" in words
    assert "× slower; it is" in words
    assert words in re.sub(r"</p>\s*<p>", " ", unescape(page))
    figures = document["sections"]["search"]["figures"]
    for path in (figures["epochs"], figures["seconds"]):
        assert [at for at, _ in path] == sorted(at for at, _ in path)
        assert [volume for _, volume in path] == sorted(volume for _, volume in path)
    assert figures["epochs"][-1][0] == sum(record.epochs for record in study.trials())
    assert document["sections"]["decisions"]["filled_by"].startswith("agesearch report")


def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    study = write_study(Location.of(tmp_path / "<script>alert(1)<"), trials=6)
    write_measured(study, test=False)
    build_report(study, Location.of(tmp_path / "page.html"))
    assert "<script>alert" not in (tmp_path / "page.html").read_text()


def test_faces_can_be_limited_to_sources(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_sections, "importances", lambda spec, records: [])  # the slow part
    for wanted, count in ((["drawn"], 18), ([], 0)):
        build_report(study, Location.of(tmp_path / "page.html"), faces_from=wanted)
        assert (tmp_path / "page.html").read_text().count("<img ") == count


def test_figures_stand_alone(study: StudyFolder, tmp_path: Path) -> None:
    written = write_figures(study, Location.of(tmp_path / "figures"))
    assert [file.name for file in written] == ["front.svg", "curves.svg"]
    assert all("<style>" in file.read_text() and "data-tip" not in file.read_text() for file in written)


def test_the_summary_states_what_the_records_hold(study: StudyFolder) -> None:
    findings = read_findings(study)
    text, figures = " ".join(summary(findings)), summary_figures(findings)
    student = findings.mae(findings.picked.name)
    assert f"{student.value:.2f} years (95\u00a0% interval {student.low:.2f} to {student.high:.2f})" in text
    assert "On the 160 test faces of 40 persons" in text
    assert figures["val_mae_years"] == student.value
    assert figures["teacher_latency_ms_p50"] == 34.0
    gap = student.value - findings.mae(TEACHER).value
    assert figures["difference_to_teacher_years"]["value"] == pytest.approx(gap)


@pytest.mark.parametrize(
    ("low", "high", "word"), [(-0.5, 0.2, "tied"), (0.1, 0.9, "worse"), (-0.9, -0.1, "better")]
)
def test_a_difference_inside_the_noise_is_called_a_tie(low: float, high: float, word: str) -> None:
    assert word in verdict(Estimate((low + high) / 2, low, high, 100))


def test_failures_are_counted_by_reason(study: StudyFolder) -> None:
    rows = tables.failures(study.trials())
    assert [(row.state, row.trials) for row in rows] == [("FAIL", [7, 15, 23]), ("PRUNED", [5, 12, 19])]


def test_robustness_shows_what_a_corruption_added(study: StudyFolder) -> None:
    findings = read_findings(study)
    table = tables.robustness_table(findings.measured.robustness, TEACHER, findings.picked.name)
    assert len(table.rows) == 6
    assert len(table.columns) == len(table.rows[1]) == sum(count for _, count in table.groups) == 7
    rows = {(r.model, r.corruption, r.severity): r.mae_years for r in findings.measured.robustness}
    clean, noisy = rows[TEACHER, "clean", 0], rows[TEACHER, "gaussian_noise", 5]
    assert table.rows[1][3].text == f"{noisy:.2f} (+{noisy - clean:.2f})"
    assert max(cell.shade or 0 for row in table.rows for cell in row) == 1.0


def test_a_repeated_epoch_counts_once_and_a_torn_line_not_at_all(tmp_path: Path) -> None:
    lines = ['{"epoch": 1, "val_mae_years": 9}', '{"epoch": 2, "val_mae_years": 8}']
    lines += ['{"epoch": 2, "val_mae_years": 7.5}', '{"epoch": 3, "val']
    (tmp_path / "curve.jsonl").write_text("\n".join(lines))
    assert epoch_errors(Location.of(tmp_path)) == {1: 9.0, 2: 7.5}


def test_importances_sum_to_one_and_stay_silent_on_few_trials(study: StudyFolder) -> None:
    rows = importances(study.header().spec, study.trials())
    assert sum(row.share for row in rows) == pytest.approx(1.0)
    assert [row.share for row in rows] == sorted((row.share for row in rows), reverse=True)
    assert all(0 <= row.low <= row.high <= 1 for row in rows)
    assert importances(study.header().spec, study.trials()[:8]) == []


@pytest.mark.parametrize(
    ("pick", "words"),
    [("kneee", "must be knee, best, fastest or the number"), ("99", "no trial 99"), ("7", "is FAIL")],
)
def test_a_wrong_pick_is_named(study: StudyFolder, pick: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        picked(study, pick)


def test_picks_follow_the_front(study: StudyFolder) -> None:
    front = study.front()
    assert picked(study, "fastest") == front[0]
    assert picked(study, "best") == min(front, key=lambda record: record.val_mae_years or 99)
    assert picked(study, "0").state is State.COMPLETE


def test_front_rows_know_roles_sizes_and_ratios(study: StudyFolder) -> None:
    rows = front_table(str(study.root)).rows
    assert [row.trial for row in rows] == study.front()
    assert "fastest" in rows[0].role
    assert "best" in rows[-1].role
    assert sum("knee" in row.role for row in rows) == 1
    assert all(row.parameters for row in rows)
    assert rows[0].times_teacher == pytest.approx(34.0 / float(rows[0].trial.latency_ms_p50 or 1))
    assert len(front_table(str(study.root), every=True).rows) == 24


def test_the_front_command_prints_a_table_and_json(study: StudyFolder) -> None:
    app = Typer()
    front_command.add_to(app)
    shown = CliRunner().invoke(app, [str(study.root)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert re.search(r"picked,\s+knee", shown.output)
    listed = CliRunner().invoke(app, [str(study.root), "--all", "--json"])
    assert '"reason": "the loss is not finite at epoch 3"' in listed.output


def test_a_study_without_a_complete_trial_has_no_report(tmp_path: Path) -> None:
    study = write_study(Location.of(tmp_path / "study"), trials=4, complete=False)
    app = Typer()
    report_command.add_to(app)
    result = CliRunner().invoke(app, [str(study.root), "--out", str(tmp_path / "page.html")])
    assert isinstance(result.exception, InputError)
    assert "has no COMPLETE trial" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert len(front_table(str(study.root), every=True).rows) == 4


def test_reading_before_measuring_says_what_to_do(tmp_path: Path) -> None:
    study = write_study(Location.of(tmp_path / "study"), trials=4)
    with pytest.raises(InputError, match="agesearch report"):
        build_report(study, Location.of(tmp_path / "page.html"))


def test_a_challenge_below_the_legal_age_is_told_before_the_work() -> None:
    with pytest.raises(InputError, match="--challenge is 18, below --legal-age 21"):
        report("nothing-yet", legal_age=21, challenge=18)


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a folder"):
        own_page(str(tmp_path))
    with pytest.raises(InputError, match="cannot be written"):
        own_page(str(tmp_path / "file" / "page.html"))
    (tmp_path / "notes.txt").write_text("years of work")
    with pytest.raises(ConflictError, match="is no page"):
        own_page(str(tmp_path / "notes.txt"))
    (tmp_path / "page.html").write_text("\n<!DOCTYPE html><p>an earlier report")
    assert own_page(str(tmp_path / "page.html")).name == "page.html"


def test_a_command_that_the_terminal_suggests_names_the_places_as_they_were_said() -> None:
    """The page names no folder of this machine; what a person is to paste must find its files."""
    fill = "agesearch report ages faces other.yaml --data faces --counterfactual-persons 120"
    said = ["ages", "/data/my faces", "/sets/faces", "/old/faces", "/teachers/other.yaml"]
    assert _to_paste(fill, said) == (
        "agesearch report ages faces /teachers/other.yaml --data faces --counterfactual-persons 120"
    )
    assert _to_paste("agesearch report ages --data 'my faces'", said) == (
        "agesearch report ages --data '/data/my faces'"
    )
