"""Odd labels: robust scores, subjects whose ages span too much, copies with two ages."""

from __future__ import annotations

import numpy as np
import pytest

from agesearch.data.audit.label_outliers import differing_copies, far_out, robust_z, wide_subjects


def test_robust_z_by_hand() -> None:
    # Median 3, absolute deviations 2 1 0 1 97: MAD 1.
    assert robust_z([1, 2, 3, 4, 100]) == pytest.approx(0.6745 * np.array([-2, -1, 0, 1, 97]))
    assert np.isnan(robust_z([1.0, np.nan])[1])
    assert robust_z([5, 5, 5, 9]).tolist() == [0, 0, 0, 0]
    assert np.isnan(robust_z([np.nan])).all()


def test_far_out_values_come_farthest_first_whatever_their_sign() -> None:
    values = [10.0, 11, 12, 13, 14, np.nan, 60, -90]
    assert [index for index, _ in far_out(values)] == [7, 6]
    assert far_out([1.0, 2, 3]) == []


def test_subjects_are_wide_within_one_source_only() -> None:
    subjects = ["a", "a", "b", "b", None, None, "c", "c"]
    sources = ["x", "x", "x", "y", "x", "x", "x", "x"]
    ages = [5, 70, 5, 70, 1, 99, 20, np.nan]
    assert wide_subjects(subjects, sources, ages) == [("a", 0, 1)]


def test_copies_differ_when_their_known_ages_do() -> None:
    ages = [20, 21, 30, 45, np.nan, 50]
    assert differing_copies([[0, 1], [2, 3], [4, 5], [0, 5]], ages) == [[0, 5], [2, 3]]
