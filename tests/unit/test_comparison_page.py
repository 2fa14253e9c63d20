"""The page and the drawing of a comparison: every figure printed, ties grey, failures told."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from agesearch.measure.intervals import Estimate
from agesearch.measure.repeated import Verdict
from agesearch.metrics import BIAS_YEARS, CS5, MAE_YEARS
from agesearch.reporting.charts.forest_plot import comparison_figure, p_words
from agesearch.reporting.comparisons import (
    comparison_rows,
    headlines,
    legend,
    resolution,
    write_comparison,
)
from agesearch.specs import ModelSpec, TrainSpec
from agesearch.training.comparison.records import (
    MethodComparison,
    MethodDifference,
    MethodRecord,
    RepeatedScore,
    TeacherRecord,
    TrainingRecord,
)

SVG = "{http://www.w3.org/2000/svg}"


def method(name: str, error: float, difference: tuple[float, float, Verdict] | None = None) -> MethodRecord:
    found = None
    if difference is not None:
        value, p, verdict = difference
        one = Estimate(value, value - 0.5, value + 0.5, 52)
        found = MethodDifference(seeds=(0, 1), difference=one, p=p, p_holm=p, verdict=verdict)
    runs = tuple(
        TrainingRecord(seed=seed, folder=f"runs/{seed}", seconds=40.0, scores={MAE_YEARS: error + seed})
        for seed in range(2)
    )
    scores = {
        name: RepeatedScore(value=value, sd=0.7, low=value - 1, high=value + 1)
        for name, value in ((MAE_YEARS, error + 0.5), (CS5, 0.5), (BIAS_YEARS, -0.25))
    }
    return MethodRecord(
        name=name,
        about="",
        head="softmax",
        teacher="large" if difference else None,
        order=None,
        values={},
        trainings=runs,
        scores=scores,
        difference=found,
    )


@pytest.fixture
def record() -> MethodComparison:
    failed = MethodRecord(
        name="<b>wild",
        about="",
        head="softmax",
        teacher=None,
        order=None,
        values={"optim.learning_rate": 10.0},
        trainings=(TrainingRecord(seed=0, folder="runs/w", failure="the loss is not a number"),),
    )
    return MethodComparison(
        description="",
        student=TrainSpec(model=ModelSpec(arch="lcnet_035")),
        reference="labels",
        methods=(
            method("labels", 6.0),
            method("kd", 4.5, (-1.5, 0.004, "better")),
            method("cdf", 6.1, (0.1, 0.6, "tie")),
            failed,
        ),
        teachers=(
            TeacherRecord(name="large", kind="age", about="a net", mae_years=Estimate(5.5, 4.5, 6.5, 52)),
        ),
        seeds=(0, 1),
        dataset="faces",
        dataset_name="faces",
        data_digest="d",
        label_kind="real",
        split="test",
        faces=52,
        train_faces=300,
        resampled="faces",
        median=Estimate(10.2, 9.0, 11.0, 52),
        notes=("2 seeds say little.",),
        seconds=1.0,
        hardware="a cpu",
        versions={},
        created="now",
    )


def test_the_drawing_prints_each_difference_and_colours_only_what_is_no_tie(record: MethodComparison) -> None:
    root = ElementTree.fromstring(comparison_figure(record))
    written = ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]
    assert [name for name in written if name in ("kd", "labels", "cdf")] == ["kd", "labels", "cdf"]
    for words in ("−1.50 (−2.00 to −1.00)", "better, p 0.004", "tie, p 0.60", "reference", "<b>wild"):
        assert words in written
    marks = [mark.get("class") for mark in root.iter(f"{SVG}rect") if "mark" in str(mark.get("class"))]
    assert marks == ["mark better", "mark tie"]
    dots = [dot for dot in root.iter(f"{SVG}circle") if dot.get("class") == "dot"]
    assert len(dots) == 6 + 1  # one a training, and the legend


def test_the_table_starts_with_the_smallest_error(record: MethodComparison) -> None:
    rows = comparison_rows(record)
    assert rows[0] == [
        "kd",
        "5.00 ± 0.70",
        "4.00–6.00",
        "−1.50",
        "−2.00 to −1.00",
        "0.004",
        "better",
        "50%",
        "−0.25",
        "40 s",
    ]
    assert rows[1][6] == "reference"
    assert rows[-1][:2] == ["<b>wild", "–"]
    assert {len(row) for row in rows} == {10}
    assert "10.20 years" in legend(record)
    assert resolution(record) == pytest.approx(0.5)


def test_the_page_is_whole_and_tells_failures_and_notes(record: MethodComparison, tmp_path: Path) -> None:
    svg, page, _ = write_comparison(record, str(tmp_path))
    text = page.read_text()
    assert comparison_figure(record, on_page=True).strip() in text
    assert "var(--" not in svg.read_text()  # few viewers of SVG know named colours
    for words in ("the loss is not a number", "2 seeds say little.", "4.50–6.50", "&lt;b&gt;wild"):
        assert words in text
    assert "<b>wild" not in text
    assert "src=" not in text


def test_the_headlines_name_what_differs_and_call_ties_ties(record: MethodComparison) -> None:
    assert headlines(record)[:2] == [
        "Better than labels: kd (−1.50 years, −2.00 to −1.00).",
        "Tied with labels: cdf.",
    ]
    assert "does not mean that the methods are equal" in headlines(record)[2]


def test_the_markdown_is_whole_tables_that_nothing_breaks(record: MethodComparison, tmp_path: Path) -> None:
    text = write_comparison(record, str(tmp_path))[2].read_text()
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in tables] == [11] * 6 + [7] * 3
    assert "| \\<b\\>wild | – |" in text
    assert "Tied with labels: cdf." in text


def test_small_p_values_are_bounded_and_large_ones_short() -> None:
    assert [p_words(p) for p in (0.00005, 0.0321, 0.5)] == ["p < 0.001", "p 0.032", "p 0.50"]
