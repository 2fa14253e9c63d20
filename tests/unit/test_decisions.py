"""Decisions at an age limit: who passes exactly, the smallest challenge age, cells, a whole measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_graphs import write_teacher
from hypothesis import given
from hypothesis import strategies as st
from published_sets import write_set
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.data.dataset.texts import Texts
from agesearch.errors import InputError
from agesearch.measure.decisions.accuracy import accuracy_of
from agesearch.measure.decisions.buffers import buffers, challenge_age_of
from agesearch.measure.decisions.faces import DecisionFaces, eye_distances
from agesearch.measure.decisions.rates import Counting, ages_of, cells, decades_of, named_cells
from agesearch.measure.decisions.records import Decisions
from agesearch.measure.decisions.rules import decide, decisions, passes
from agesearch.measure.decisions.run import DecisionSpec, measure_decisions
from agesearch.measure.intervals import Persons
from agesearch.measure.predictions import read_labels
from agesearch.reporting.charts.decision_chart import decision_chart
from agesearch.reporting.decisions.page import decisions_page
from agesearch.storage import Location

RUNNER = CliRunner()
ONE = Counting(1)


def judged(age: Any, predicted: Any, *, width: Any = 5.0, **known: Any) -> DecisionFaces:
    """Faces with these ages and estimates, and intervals of half a ``width`` to both sides."""
    count = len(age)
    estimates = np.round(100 * np.asarray(predicted, dtype=np.float64)).astype(np.int16)
    half = np.round(50 * np.broadcast_to(width, count)).astype(np.int16)
    names = known.get("persons", [f"p{index}" for index in range(count)])
    return DecisionFaces(
        age=np.asarray(age, dtype=np.float64),
        eyes=np.asarray(known.get("eyes", np.full(count, np.nan)), dtype=np.float32),
        sex=Texts.of(known.get("sex", ["unknown"] * count)),
        group=Texts.of(known.get("group", ["unknown"] * count)),
        persons=Persons.of([f"{index}" for index in range(count)], names),
        estimates=estimates,
        lows=estimates - half,
        highs=estimates + half,
    )


def test_a_face_passes_from_the_challenge_age_on_as_ages_are_told() -> None:
    assert passes([24.99, 25.0, 25.01, 24.996, 24.994], 25.0).tolist() == [False, True, True, True, False]
    assert passes(np.float32([25.1]), 25.1).tolist() == [True]
    assert [decide(low, high, 25.0) for low, high in ((25.0, 30.0), (24.99, 25.0), (20.0, 24.99))] == [
        "pass",
        "unsure",
        "refuse",
    ]
    three = decisions([25.0, 24.99, 20.0], [30.0, 25.0, 24.99], 25.0)
    assert {name: mask.tolist() for name, mask in three.items()} == {
        "pass": [True, False, False],
        "refuse": [False, False, True],
        "unsure": [False, True, False],
    }


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=40), st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.9]))
def test_the_challenge_age_is_the_smallest_that_keeps_the_rate(hundredths: list[int], most: float) -> None:
    estimates = np.array(hundredths) / 100
    found = challenge_age_of(estimates, most)
    if found is None:
        assert passes(estimates, 100.0).mean() > most
        return
    assert passes(estimates, found).mean() <= most + 1e-12
    if found > 0:
        assert passes(estimates, round(found - 0.01, 2)).mean() > most


def test_a_person_of_exactly_the_legal_age_is_an_adult() -> None:
    faces = judged([17.99, 18.0, 18.0], [30.0, 30.0, 10.0])
    whole = cells(faces, 18.0, 18.0, ONE)[0]
    assert (whole.fpr.faces, whole.fnr.faces) == (1, 2)
    assert whole.fpr.estimate is not None
    assert whole.fnr.estimate is not None
    assert (whole.fpr.estimate.value, whole.fnr.estimate.value) == (1.0, 0.5)


def test_no_cell_of_age_holds_both_sides_of_the_limit() -> None:
    names = [cell.name for cell in ages_of(np.array([3.0, 17.9, 18.0, 29.0, 30.0, 38.0, 40.0, 93.0]), 18.0)]
    assert names == ["3", "17", "18", "29", "30-39", "40-49", "90-99"]
    assert [cell.name for cell in decades_of(np.array([3.0, 12.0, 18.0, 21.0]), 18.0)] == [
        "0-9",
        "10-17",
        "18-19",
        "20-29",
    ]
    split = list(ages_of(np.array([18.2, 18.5, 18.9]), 18.5))
    assert [(cell.name, cell.faces.tolist()) for cell in split] == [
        ("18 to under 18.5", [True, False, False]),
        ("18.5 to under 19", [False, True, True]),
    ]


def test_cells_are_by_age_sex_group_and_all_of_them() -> None:
    sex, group = ["female", "female", "male", "male"], ["x", "y", "x", "x"]
    faces = judged([16, 20, 16, 16], [19, 17, 10, 30], sex=sex, group=group)
    found = {(cell.by, cell.name): cell for cell in cells(faces, 18.0, 18.0, ONE)}
    assert [by for by, _ in found] == (
        ["all"]
        + ["age"] * 2
        + ["decade"] * 2
        + ["sex"] * 2
        + ["group"] * 2
        + ["sex x group"] * 3
        + ["sex x group x age"] * 3
    )
    male = found["sex x group", "male, x"]
    assert (male.fpr.faces, male.fnr.faces, male.fnr.estimate) == (2, 0, None)
    assert male.fpr.estimate is not None
    assert male.fpr.estimate.value == 0.5
    assert male.bias_years.estimate is not None
    assert male.bias_years.estimate.value == pytest.approx((-6 + 14) / 2)
    few = cells(faces, 18.0, 18.0, Counting(3))
    assert [cell.fpr.estimate is not None for cell in few][:2] == [True, True]
    assert (few[5].name, few[5].fpr.faces, few[5].fpr.estimate) == ("female", 1, None)
    assert {cell.by for cell in named_cells(judged([16, 20], [1, 2], sex=["male"] * 2), 18.0)} == {
        "all",
        "age",
        "decade",
    }


def test_the_buffer_is_of_the_worst_cell_that_has_faces_enough() -> None:
    rng = np.random.default_rng(0)
    age = np.concatenate([rng.uniform(10, 18, 200), rng.uniform(18, 60, 100)])
    sex = np.array(["female", "male"] * 150, dtype=object)
    predicted = age + np.where(sex == "male", 4.0, 0.0) + rng.normal(0, 3, 300)
    faces = judged(age, predicted, sex=sex)
    one, hard = buffers(faces, 18.0, (0.1, 0.001), Counting(60))
    young = (age < 18) & (sex == "male")
    expected = challenge_age_of(faces.predicted[young], 0.1)
    assert (one.worst_cell, one.worst_faces, one.challenge_age) == ("sex: male", int(young.sum()), expected)
    assert one.years == pytest.approx(expected - 18.0)  # type: ignore[operator]
    assert one.low is not None
    assert one.high is not None
    assert one.low < expected < one.high  # type: ignore[operator]
    refused = (faces.predicted < expected)[age >= 18].mean()  # type: ignore[operator]
    assert one.adults_refused.estimate is not None
    assert one.adults_refused.estimate.value == pytest.approx(refused)
    assert hard.high is None  # a hundred faces cannot show one in a thousand
    assert buffers(faces, 18.0, (0.1,), Counting(500)) == []


def test_errors_are_balanced_by_sex_and_year_and_told_by_person_and_eyes() -> None:
    age = [20, 20, 20, 20, 25, 25, 40]
    error = np.array([1, 3, 2, 2, 12, -16, 20])
    faces = judged(
        age,
        np.add(age, error),
        width=[1, 2, 3, 4, 5, 6, 7],
        sex=["male", "male", "male", "male", "female", "female", "unknown"],
        persons=["a", "a", "b", "b", None, None, None],
        eyes=[10, 19, 20, 59, 60, 200, np.nan],
    )
    found = accuracy_of(faces, 18.0, 18.0, ONE)
    assert found.balanced_18_30.estimate is not None
    assert (found.balanced_18_30.cells, found.balanced_18_30.faces) == (2, 6)
    assert found.balanced_18_30.estimate.value == pytest.approx((2 + 14) / 2)
    assert found.mae_years.estimate is not None
    assert found.mae_years.estimate.value == pytest.approx(8.0)
    assert found.within_person_sd.estimate is not None
    assert found.within_person_sd.estimate.value == pytest.approx((np.std([1, 3], ddof=1) + 0) / 2)
    assert found.persons_seen_often == 2
    tails = {years: rate.estimate.value for years, rate in found.off_by_more.items() if rate.estimate}
    assert tails == {"10": pytest.approx(3 / 7), "15": pytest.approx(2 / 7)}
    assert [(row.first, row.mae_years.faces) for row in found.eyes] == [
        (0, 2),
        (20, 1),
        (40, 1),
        (60, 1),
        (120, 1),
    ]
    half = found.abstention[-1]
    assert (half.kept, half.width_years, half.mae_years.faces) == (0.5, 4.0, 4)


@pytest.fixture
def measured(tmp_path: Path) -> tuple[Path, Path]:
    """A teacher that reads brightness, and faces that look two years older than they are."""
    rows: list[dict[str, Any]] = []
    for index in range(120):
        age = 8.0 + 30 * index / 120
        eyes = {"landmarks": [10.0, 10.0, 40.0, 50.0, *[0.0] * 6]} if index % 2 else {}
        sex = "female" if index % 2 else "male"
        rows.append({"age": age, "shows": age + 2.0, "sex": sex, "subject_id": f"p{index // 2}", **eyes})
    rows.append({"age_low": 20.0, "age_high": 30.0})
    write_set(tmp_path / "faces", rows, "real")
    output = {"kind": "scalar", "name": "means", "scale": 0.5, "spread": 2.0}
    return write_teacher(tmp_path / "mean", output=output), tmp_path / "faces"


def test_a_measurement_is_whole(measured: tuple[Path, Path]) -> None:
    teacher, faces = measured
    result = RUNNER.invoke(
        app,
        ["measure", "decisions", str(teacher), "--data", str(faces), "--legal-age", "18"]
        + ["--challenge", "25", "--max-fpr", "0.1", "--min-faces", "5", "--json"],
    )
    assert result.exit_code == 0, result.output
    record = Decisions.model_validate(json.loads(result.stdout))
    assert (record.minors, record.adults, record.left_out) == (40, 80, {"without an exact age": 1})
    assert record.persons == 60
    (model,) = record.models
    assert (model.interval_kind, model.interval_level) == ("uncalibrated", None)
    assert any("nobody has checked" in note for note in model.notes)
    assert [at.why for at in model.at] == [
        "the legal age",
        "the worst cell passes at most 0.1",
        "the challenge age",
    ]
    legal = model.at[0].whole
    assert legal.fpr.estimate is not None
    assert legal.fpr.estimate.value == pytest.approx(9 / 40)  # of 15.75 and more, which look 18
    assert model.at[0].worst_pass_error_years == pytest.approx(2.0, abs=0.3)
    assert model.at[-1].whole.fpr.estimate.value == 0.0  # type: ignore[union-attr]
    shares = [rate.estimate.value for rate in vars(model.at[0].three.everyone).values()]
    assert sum(shares) == pytest.approx(1.0)
    assert [row.limit for row in model.false_adults] == [12.0, 15.0, 16.0, 18.0, 21.0]
    assert model.child_safety.right.estimate is not None
    assert model.child_safety.right.estimate.value == pytest.approx(0.5, abs=0.1)  # 15 and 16 look 17 and 18
    assert model.accuracy.eyes[0].first == 40
    assert model.accuracy.eyes[0].mae_years.faces == 60
    chart = decision_chart(model, 18.0, 0.1, 0)
    ages = {buffer.challenge_age for buffer in model.buffers}
    assert len(chart.marks) == len(model.buffers) > len(ages)  # few faces: several rates need one age
    labels = [mark.label for mark in chart.marks if mark.label]
    assert len(labels) == len(ages)  # and one label
    assert any(" to 1 %: +" in label for label in labels)
    page = decisions_page(record)
    assert page.count("<svg") == 2  # one chart, drawn for wide pages and for phones
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_eyes_are_measured_in_the_photograph(measured: tuple[Path, Path]) -> None:
    _, faces = measured
    found = eye_distances(str(faces), read_labels(str(faces)))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"legal_age": 0.0}, "--legal-age is 0"),
        ({"challenge_age": 101.0}, "--challenge is 101"),
        ({"legal_age": 21.0, "challenge_age": 20.0}, "--challenge is 20, below --legal-age 21"),
        ({"max_fpr": 1.0}, "--max-fpr is 1"),
        ({"legal_age": 5.0}, "no face with an exact age below 5 years in split 'test'"),
        ({"legal_age": 60.0}, "no face with an exact age of 60 or more years"),
    ],
)
def test_what_cannot_be_decided_is_told(
    measured: tuple[Path, Path], change: dict[str, Any], message: str
) -> None:
    teacher, faces = measured
    spec = DecisionSpec.model_validate({"legal_age": 18.0} | change)
    with pytest.raises(InputError, match=message):
        measure_decisions({"mean": Location.of(teacher)}, str(faces), spec)


def test_only_those_below_the_age_of_majority_are_minors(measured: tuple[Path, Path], tmp_path: Path) -> None:
    teacher, faces = measured
    words = ["measure", "decisions", str(teacher), "--data", str(faces), "--legal-age", "21", "--out"]
    told = RUNNER.invoke(app, [*words, str(tmp_path / "page.html")])
    assert told.exit_code == 0, told.output
    page = (tmp_path / "page.html").read_text()
    assert "21 or older refused" in page
    for text in (told.output, page):
        assert "under 21" in text
        assert "minors" not in text
        assert "adults" not in text.replace("false adults", "")


def test_the_page_is_written_where_it_may(measured: tuple[Path, Path], tmp_path: Path) -> None:
    teacher, faces = measured
    words = ["measure", "decisions", str(teacher), "--data", str(faces), "--legal-age", "18", "--out"]
    page = RUNNER.invoke(app, [*words, str(tmp_path / "page.html")])
    assert page.exit_code == 0, page.output
    assert "too few" in page.stdout
    written = (tmp_path / "page.html").read_text()
    assert written.startswith("<!doctype html>")
    assert "minors who pass" in written
    wrong = RUNNER.invoke(app, [*words, str(tmp_path / "page.txt")])
    assert isinstance(wrong.exception, InputError)
