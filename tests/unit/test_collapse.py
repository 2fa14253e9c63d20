"""A teacher that learnt nothing is said to be one, by what its manifest measured."""

from __future__ import annotations

import pytest

from agesearch.training.collapse import collapse


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            {"val_mae_years": 9.0, "val_mae_median_years": 11.0, "val_spread_years": 0.02},
            "nearly the same age of all validation faces (standard deviation 0.02 years)",
        ),
        (
            {"val_mae_years": 11.3, "val_mae_median_years": 11.1, "val_spread_years": 6.0},
            "11.30 years off, and always answering the median age 11.10",
        ),
        ({"val_top1": 0.3, "val_top1_majority": 0.3}, "right for 30.0%"),
        ({"val_kendall_tau": -0.01}, "no better than chance"),
    ],
)
def test_a_collapsed_teacher_is_told(found: dict[str, float], why: str) -> None:
    said = collapse(found)
    assert said is not None
    assert why in said
    assert "--learning-rate" in said


@pytest.mark.parametrize(
    "found",
    [
        {"val_mae_years": 6.0, "val_mae_median_years": 11.0, "val_spread_years": 12.0},
        {"val_top1": 0.5, "val_top1_majority": 0.3},
        {"val_kendall_tau": 0.4},
        {},  # another's model, of which nothing was measured
    ],
)
def test_a_teacher_that_learnt_is_not(found: dict[str, float]) -> None:
    assert collapse(found) is None
