"""What a study takes on paper: the arithmetic, and what is said of it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from agesearch.cli.main import app
from agesearch.search.space.cost import DRIVER_S, START_S, TRIAL_BYTES, cost_of

SPACE = "search_spaces/quick.yaml"


def test_time_is_that_of_the_slots_until_something_shared_is_full() -> None:
    small = cost_of(1000, 600.0, nodes=10, slots_per_node=8)
    assert (small.slots, small.slot_hours) == (80, pytest.approx(1000 * 600 / 3600))
    assert small.hours == pytest.approx((START_S + 13 * 600) / 3600)  # 13 turns of 80
    assert small.limit.use < 1
    busy = cost_of(10_000, 10.0, nodes=100, slots_per_node=8)
    driver = next(one for one in busy.shared if one.name.startswith("driver"))
    assert driver.use == pytest.approx(800 / 10 * DRIVER_S)
    assert busy.limit.use > 1
    assert busy.hours == pytest.approx((START_S + 13 * 10 * busy.limit.use) / 3600)


def test_a_study_that_keeps_its_front_takes_a_fraction_of_the_bytes() -> None:
    all_kept, front = (
        cost_of(10_000, 600.0, nodes=10, slots_per_node=8, keep=keep).result_bytes
        for keep in ("all", "front")
    )
    assert all_kept == 10_000 * TRIAL_BYTES
    assert front < all_kept / 100
    few = [cost_of(20, 600.0, nodes=1, slots_per_node=8, keep=keep).result_bytes for keep in ("all", "front")]
    assert few[0] == few[1]


def test_more_trials_at_once_than_trials_ask_for_no_more() -> None:
    few, many = (cost_of(20, 600.0, nodes=nodes, slots_per_node=8) for nodes in (10, 1000))
    assert few.hours == many.hours
    assert many.node_hours > few.node_hours


def _plan(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["plan", SPACE, "--nodes", "10", *words])
    return done.exit_code, done.stdout, str(done.exception or "")


def test_the_verb_says_it_and_wants_to_know_how_long_a_trial_takes() -> None:
    code, printed, _ = _plan(
        "--trial-s", "600", "--gpus", "4", "--gpus-per-trial", "0.5", "--price", "2", "--json"
    )
    assert code == 0
    found = json.loads(printed)
    assert (found["slots"], found["trials"]) == (8, 24)
    assert found["price"] == pytest.approx(2 * found["node_hours"])
    assert found["limit"] == found["shared"][0]["name"]
    assert "How long does a trial take?" in _plan()[2]
    assert "--trial-s 0" in _plan("--trial-s", "0")[2]
    assert "--gpus-per-trial 2" in _plan("--trial-s", "9", "--gpus", "4", "--gpus-per-trial", "2")[2]
