"""Every kind of page as a browser shows it, on a desk and on a phone, light and dark: nothing is cut without
a word, no letter too small, no label on a mark, no complaint, no network; details come by mouse, touch and
keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, browser_here, chromium
from fake_study import write_measured, write_study
from foreign_graphs import write_teacher
from made_records import made_model, made_records
from published_sets import write_set

from agesearch.data.reading.demo_pack import demo_pack
from agesearch.deploy.reported.records import DECISIONS, Records, Role
from agesearch.measure.decisions.records import Decisions
from agesearch.measure.decisions.run import DecisionSpec, measure_decisions
from agesearch.measure.intervals import Estimate
from agesearch.measure.scores import KindScores
from agesearch.metrics import BIAS_YEARS, CS5, MAE_YEARS
from agesearch.reporting.comparisons import write_comparison
from agesearch.reporting.datacard import write_datacard
from agesearch.reporting.decisions.page import write_decisions
from agesearch.reporting.matrices import write_matrix
from agesearch.reporting.replays import write_replay_page
from agesearch.reporting.report import build_models_report, build_report
from agesearch.search.front.latencies import study_latencies
from agesearch.search.front.measurements import read_summary
from agesearch.search.replay.curve_table import read_record
from agesearch.search.replay.summary import compare
from agesearch.search.store.records import StudyFolder
from agesearch.specs import parse_spec
from agesearch.storage import Location
from agesearch.training.comparison.records import MethodComparison
from agesearch.training.protocols.matrix import Matrix, MatrixDataset, MatrixRow

TESTS = Path(__file__).resolve().parents[1]
REPORTS = TESTS.parent / "reports"
FAULTS = (TESTS / "page_faults.js").read_text(encoding="utf-8")
PAGES = ("report", "study", "models", "datacard", "decisions", "comparison", "matrix", "replay")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of each kind."""
    browser_here()
    folder = tmp_path_factory.mktemp("pages")
    place = Location.of(folder)
    study = write_study(place / "a-study")
    write_measured(study)
    build_report(study, place / "report.html")
    _write_reports(study, folder)
    write_datacard(demo_pack(), place / "datacard.html", faces=4)
    found = parse_spec(MethodComparison, Location.of(REPORTS / "distillation/result.json").read_json(), "it")
    write_comparison(found, folder)
    write_matrix(_matrix(), folder)
    record = read_record(str(REPORTS / "search/recorded.parquet"))
    write_replay_page([compare(record, ["random"], seeds=1, table="recorded.parquet")], place / "replay.html")
    return folder


def _write_reports(study: StudyFolder, folder: Path) -> None:
    """With all records: of a study with its trials, and of models with long names."""
    decisions = _write_decisions(folder)
    front = study_latencies(study).front
    picked = read_summary(study).pick
    roles: list[tuple[str, Role, int | None]] = [
        (f"trial {picked}", "student", picked),
        ("teacher", "teacher", None),
    ]
    roles += [(f"trial {one.number}", "front", one.number) for one in front if one.number != picked]
    roles += [("a-foreign-model-with-a-long-name", "foreign", None)]
    records = made_records([made_model(name, role, trial) for name, role, trial in roles])
    told = {DECISIONS: decisions}
    whole = Records(records.reported, {**records.found, **told})
    build_report(study, Location.of(folder / "study.html"), faces_from=["drawn"], records=whole)
    named = made_records(
        [made_model("faces-of-the-north@champion", "student"), made_model("mean", "foreign")]
    )
    build_models_report(
        Records(named.reported, {**named.found, **told}),
        Location.of(folder / "models.html"),
        given=["faces-of-the-north@champion"],
        data="faces",
        faces_from=["drawn"],
    )


def _write_decisions(folder: Path) -> Decisions:
    rows = [
        {"age": 8.0 + index / 4, "shows": 10.0 + index / 4, "subject_id": f"p{index}"} for index in range(120)
    ]
    write_set(folder / "faces", rows, "real")
    output = {"kind": "scalar", "name": "means", "scale": 0.5, "spread": 2.0}
    teacher = Location.of(write_teacher(folder / "mean", output=output))
    spec = DecisionSpec(legal_age=18.0, challenge_age=25.0, max_fpr=0.1, min_faces=5)
    found = measure_decisions({"mean": teacher}, folder / "faces", spec)
    write_decisions(found, Location.of(folder / "decisions.html"))
    return found


def _matrix() -> Matrix:
    names = [f"a-dataset-of-faces-{number}" for number in range(5)]
    scores = {MAE_YEARS: Estimate(6.0, 5.0, 7.0, 100), CS5: Estimate(0.5, 0.4, 0.6, 100)}
    scores[BIAS_YEARS] = Estimate(0.1, 0.0, 0.2, 100)
    test = KindScores(kind="real", headline=MAE_YEARS, resampled="faces", scores=scores)
    return Matrix(
        spec=None,
        columns=tuple(names),
        seconds=1.0,
        datasets=tuple(
            MatrixDataset(
                name=name,
                path=name,
                content_digest="d" * 16,
                label_kind="real",
                train_faces=900,
                test_faces=100,
            )
            for name in names
        ),
        rows=tuple(
            MatrixRow(trained_on=name, model=name, tests=dict.fromkeys(names, test)) for name in names
        ),
        hardware="a machine",
        versions={},
        created="2026-01-01",
    )


@pytest.fixture(scope="module")
def tab(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (1280, True), (390, True)])
def test_nothing_is_cut_small_pale_or_asked_for(
    pages: Path, tab: Page, name: str, width: int, dark: bool
) -> None:
    tab.open(pages / f"{name}.html", width, dark=dark, touch=width < 600)
    assert tab.evaluate(FAULTS) == []
    assert tab.complaints == []
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark


def _middle(tab: Page, query: str) -> tuple[float, float]:
    """The middle of the first shown element, scrolled into sight."""
    script = f"""(() => {{
      const item = [...document.querySelectorAll("{query}")].find((one) => one.getClientRects().length);
      item.scrollIntoView({{block: "center"}});
      const box = item.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    }})()"""
    x, y = tab.evaluate(script)
    return x, y


def _tip(tab: Page) -> str:
    return str(tab.evaluate("(tip => tip.hidden ? '' : tip.textContent)(document.getElementById('tip'))"))


def test_details_come_by_mouse_and_by_keys(pages: Path, tab: Page) -> None:
    tab.open(pages / "report.html", 1280)
    x, y = _middle(tab, ".item .mark-picked")
    tab.hover(x, y)
    assert "MAE" in _tip(tab)
    tab.hover(2, 2)
    assert _tip(tab) == ""
    tab.evaluate("document.querySelector('.chart [data-tip]').focus()")
    first = _tip(tab)
    assert first
    tab.press("ArrowRight")
    assert _tip(tab) not in ("", first)
    tab.press("Escape")
    assert _tip(tab) == ""


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("report", ".item .mark-front"),
        ("report", ".item .mark-teacher"),
        ("study", ".item .mark-foreign"),
        ("models", ".item .line-curve-3"),
        ("decisions", ".item .line-curve-3"),
        ("datacard", ".item rect"),
        ("comparison", ".item .mark"),
        ("matrix", ".item rect"),
        ("replay", ".item .line-curve-1"),
    ],
)
def test_a_tap_shows_details_inside_the_window_and_another_hides_them(
    pages: Path, tab: Page, name: str, query: str
) -> None:
    tab.open(pages / f"{name}.html", 390, touch=True)
    _middle(tab, query)
    x, y = _touchable(tab, query)
    tab.tap(x, y)
    assert _tip(tab)
    left, right = tab.evaluate(
        "(b => [b.left, b.right])(document.getElementById('tip').getBoundingClientRect())"
    )
    assert left >= 0
    assert right <= 390
    tab.tap(3, 3)
    assert _tip(tab) == ""


def _touchable(tab: Page, query: str) -> tuple[float, float]:
    """A place inside the window at which what belongs to the element is hit, and beside it, too."""
    script = f"""(() => {{
      const item = [...document.querySelectorAll("{query}")].find((one) => one.getClientRects().length);
      const group = item.closest(".item"), box = item.getBoundingClientRect();
      const hit = (x, y) => document.elementFromPoint(x, y)?.closest(".item") === group;
      for (let x = Math.max(8, Math.ceil(box.left)); x <= Math.min(380, box.right); x += 1)
        for (let y = Math.ceil(box.top); y <= box.bottom; y += 1)
          if (hit(x, y) && hit(x + 2, y) && hit(x - 2, y) && hit(x, y + 2) && hit(x, y - 2)) return [x, y];
      return null;
    }})()"""
    found = tab.evaluate(script)
    assert found, f"{query} is nowhere to be touched"
    x, y = found
    return x, y
