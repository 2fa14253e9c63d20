"""Calibration by numbers alone: exact ranks and moves, coverage on others, corrections that must earn their
place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agesearch.ages import age_spread, expected_age, gaussian_pmf
from agesearch.errors import InputError
from agesearch.measure.calibration.conformal import conformal_offset, fit_intervals, least_faces, rank
from agesearch.measure.calibration.corrections import choose_correction, fit_affine, fit_isotonic
from agesearch.measure.calibration.coverage import coverage_of, inside
from agesearch.measure.calibration.engines import engine_coverage
from agesearch.measure.calibration.faces import AnsweredFaces
from agesearch.measure.calibration.folds import person_folds
from agesearch.measure.calibration.run import CalibrationSpec, learn
from agesearch.measure.intervals import Persons
from agesearch.models.calibration.correction import AgeCorrection, moved_to
from agesearch.models.calibration.record import IntervalCell, Intervals
from agesearch.models.runtimes.engines import OPENVINO, Engine


def test_the_rank_is_the_smallest_that_keeps_the_promise() -> None:
    assert [rank(n, 0.1) for n in (9, 10, 19, 20, 99)] == [9, 10, 18, 19, 90]
    assert conformal_offset(np.arange(19.0), 0.1) == 17.0
    assert (least_faces(0.8), least_faces(0.9), least_faces(0.95)) == (9, 19, 39)
    with pytest.raises(InputError, match="8 faces are too few"):
        conformal_offset(np.arange(8.0), 0.1)


def test_a_pmf_moves_as_it_is_and_loses_no_mass() -> None:
    one = np.zeros((1, 101), np.float32)
    one[0, 30] = 1.0
    moved = moved_to(one, [32.25])
    assert {int(age): float(moved[0, age]) for age in np.flatnonzero(moved[0])} == {32: 0.75, 33: 0.25}
    shapes = gaussian_pmf([40.0, 50.0], [6.0, 9.0])
    np.testing.assert_allclose(
        moved_to(shapes, [43.0, 45.0])[:, 20:80], np.stack([shapes[0, 17:77], shapes[1, 25:85]]), atol=1e-7
    )
    np.testing.assert_allclose(age_spread(moved_to(shapes, [43.0, 45.0])), [6.0, 9.0], atol=1e-3)


@pytest.mark.parametrize("mean", [0.0, 0.5, 3.0, 50.0, 98.0, 100.0])
def test_the_mean_is_right_at_the_ends_too(mean: float) -> None:
    rng = np.random.default_rng(0)
    moved = moved_to(rng.dirichlet(np.full(101, 0.2), 20).astype(np.float32), np.full(20, mean))
    np.testing.assert_allclose(expected_age(moved), mean, atol=2e-4)
    np.testing.assert_allclose(moved.sum(axis=1), 1.0, atol=1e-6)
    assert (moved >= 0).all()


def test_a_correction_is_a_rising_map() -> None:
    line = AgeCorrection(kind="affine", points=((0.0, 5.0), (100.0, 95.0)))
    np.testing.assert_allclose(line.ages([0, 50, 100, 200]), [5, 50, 95, 100])
    curve = AgeCorrection(kind="isotonic", points=((20.0, 24.0), (30.0, 30.0)))
    np.testing.assert_allclose(curve.ages([10, 20, 25, 30, 90]), [14, 24, 27, 30, 90])
    np.testing.assert_allclose(expected_age(curve.pmf(gaussian_pmf([25.0], [4.0]))), [27.0], atol=1e-3)
    for points in ([[20, 24], [30, 23]], [[30, 1], [20, 2]], [[0, float("nan")], [1, 1]]):
        with pytest.raises(ValueError, match="points must be finite"):
            AgeCorrection.model_validate({"kind": "isotonic", "points": points})


def test_lines_and_curves_are_found_again_in_spite_of_wild_labels() -> None:
    rng = np.random.default_rng(1)
    predicted = rng.uniform(15, 80, 400)
    age = 0.9 * predicted + 8 + rng.normal(0, 1, 400)
    age[:20] = 100.0
    np.testing.assert_allclose(fit_affine(predicted, age).ages([20, 60]), [26, 62], atol=1.0)
    bent = np.where(predicted < 40, predicted, 40 + 1.5 * (predicted - 40)).clip(0, 99)
    np.testing.assert_allclose(fit_isotonic(predicted, bent).ages([20, 39, 60]), [20, 39, 70], atol=1.0)


def persons(count: int, each: int = 1) -> Persons:
    return Persons.of([f"{i}" for i in range(count * each)], [f"p{i // each}" for i in range(count * each)])


def test_nobody_is_in_two_folds_and_the_order_of_faces_plays_no_part() -> None:
    who = persons(23, each=3)
    folds = person_folds(who)
    assert all(len(set(folds[who.codes == code])) == 1 for code in np.unique(who.codes))
    assert sorted(np.bincount(folds[::3])) == [4, 4, 5, 5, 5]
    shuffled = np.random.default_rng(0).permutation(69)
    np.testing.assert_array_equal(person_folds(who.take(shuffled)), folds[shuffled])


def test_a_correction_is_refused_where_it_does_not_help_others() -> None:
    rng = np.random.default_rng(2)
    age, who = rng.uniform(10, 80, 120), persons(120)
    folds = person_folds(who)
    right = choose_correction(age + rng.normal(0, 6, 120), age, who, folds)
    assert right.correction is None
    assert [trial.helps for trial in right.tried] == [False, False]
    young = choose_correction(age - 6 + rng.normal(0, 6, 120), age, who, folds)
    assert young.correction is not None
    assert young.correction.kind == "affine"
    assert young.tried[0].before_bias_years == pytest.approx(-6, abs=1.5)
    assert young.tried[0].after_bias_years == pytest.approx(0, abs=1.5)
    assert choose_correction(age - 6, age, who, folds, "off").tried == ()


def _faces(count: int, seed: int) -> tuple[Any, Any]:
    """PMFs that believe 2 years of themselves, and ages that are off by 3 to 9 years, more for the old."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(5, 90, count)
    predicted = np.clip(age + rng.normal(0, 1, count) * (3 + age / 15) + 2, 0, 100)
    return gaussian_pmf(predicted, np.full(count, 2.0)), age


def test_repeated_splits_cover_what_is_promised() -> None:
    held, own, by_cell = [], [], []
    for seed in range(40):
        pmf, age = _faces(400, seed)
        intervals = fit_intervals(pmf[:200], age[:200], 0.8)
        low, high = intervals.of(pmf[200:])
        found = inside(low, high, age[200:])
        held.append(found.mean())
        old = expected_age(pmf[200:]) >= 60
        by_cell.append((found[old].mean(), found[~old].mean()))
        own.append(inside(expected_age(pmf[200:]) - 2.6, expected_age(pmf[200:]) + 2.6, age[200:]).mean())
    assert np.mean(held) == pytest.approx(0.8, abs=0.02)
    np.testing.assert_allclose(np.mean(by_cell, axis=0), 0.8, atol=0.04)
    assert np.mean(own) < 0.5  # what the model believes of itself


def test_cells_are_joined_until_they_have_faces_enough() -> None:
    pmf, age = _faces(300, 0)
    cells = fit_intervals(pmf, age, 0.8).cells
    assert (cells[0].first, cells[-1].last) == (0.0, 101.0)
    assert all(cell.faces >= 50 for cell in cells)
    assert sum(cell.faces for cell in cells) == 300
    assert len(fit_intervals(pmf[:40], age[:40], 0.8).cells) == 1
    with pytest.raises(InputError, match="needs 9 calibration faces, but there are 8"):
        fit_intervals(pmf[:8], age[:8], 0.8)


def test_a_face_of_an_unknown_group_gets_what_every_group_needs() -> None:
    pmf = gaussian_pmf([30.0, 30.0, 30.0, 30.0], np.full(4, 3.0))
    cells = [(None, 1.0, 1.0), ("female", 0.0, 4.0), ("male", 6.0, -2.0)]
    intervals = Intervals(
        level=0.8,
        by="sex",
        cells=tuple(
            IntervalCell(first=0, last=101, below=below, above=above, faces=60, group=group)
            for group, below, above in cells
        ),
    )
    own_low, own_high = intervals.of(pmf)[0][0] + 6.0, intervals.of(pmf)[1][0] - 4.0
    groups = np.array(["female", "male", "other", None], dtype=object)
    low, high = intervals.of(pmf, groups)
    np.testing.assert_allclose(own_low - low, [0, 6, 1, 6], atol=1e-9)
    np.testing.assert_allclose(high - own_high, [4, -2, 1, 4], atol=1e-9)


def test_intervals_hold_their_estimate_and_stay_on_the_axis() -> None:
    cell = IntervalCell(first=0, last=101, below=-20.0, above=40.0, faces=60)
    low, high = Intervals(level=0.8, cells=(cell,)).of(gaussian_pmf([30.0, 95.0], [3.0, 3.0]))
    np.testing.assert_allclose(low, [30.0, 94.77], atol=0.01)
    assert high[1] == 100.0
    with pytest.raises(ValueError, match="follow each other"):
        Intervals(level=0.8, cells=(cell.model_copy(update={"last": 90.0}),))


def test_coverage_counts_ages_on_an_end_as_inside() -> None:
    age = np.array([10.0, 20.0, 21.0, 35.0])
    found = coverage_of(np.full(4, 10.0), np.full(4, 20.0), age, persons(4))
    assert found.coverage.value == 0.5
    assert [(row.first, row.coverage.faces, row.coverage.value) for row in found.decades] == [
        (10, 1, 1.0),
        (20, 2, 0.5),
        (30, 1, 0.0),
    ]


def test_an_engine_that_answers_the_same_differs_by_nothing_whatever_is_corrected() -> None:
    """Each face is judged by what others taught, on every engine alike."""
    pmf, age = _faces(60, 4)
    young = moved_to(pmf, np.clip(expected_age(pmf) - 8, 0, 100))
    engine = Engine(OPENVINO)
    learnt = learn(
        AnsweredFaces(young, age, persons(60)), {engine: young}, None, CalibrationSpec(), "isotonic"
    )
    assert learnt.correction is not None
    (same,) = learnt.evidence.engines
    assert same.engine == engine
    assert (same.difference.value, same.difference.low, same.difference.high) == (0.0, 0.0, 0.0)
    assert same.coverage == learnt.evidence.calibrated.coverage
    assert same.width_years == pytest.approx(learnt.evidence.calibrated.width_years)


def test_an_engine_is_set_against_fp32_face_by_face() -> None:
    wide, narrow = (np.zeros(4), np.full(4, 50.0)), (np.full(4, 1.0), np.full(4, 9.0))
    found = engine_coverage(Engine(OPENVINO), wide, narrow, np.array([5.0, 9, 10, 60]), persons(4))
    assert (found.coverage.value, found.difference.value, found.width_years) == (0.5, -0.25, 8.0)
