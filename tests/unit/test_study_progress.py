"""What is told of a running study: counts and reasons, epochs saved, and an honest time left."""

from __future__ import annotations

import pytest

from agesearch.search.store.records import State, TrialRecord
from agesearch.search.view.progress import (
    Pace,
    RunningTrial,
    StudyProgress,
    TrialCounts,
    budget_of,
    reason_group,
)
from agesearch.specs import Choices, ModelSpec, Range, StudySpec, TrainSpec

SPEC = StudySpec(
    student=TrainSpec(model=ModelSpec(arch="lcnet_050")).with_values({"optim.epochs": 20}),
    space={"optim.learning_rate": Range(low=1e-4, high=1e-2)},
)
STOPPED = "out of reach of the front: 9.10 years after epoch 4 of 20 at 0.40 ms"


def trial(number: int, state: State, epochs: int, reason: str = "", **params: float) -> TrialRecord:
    return TrialRecord(number, state, f"{number:04d}-lcnet_050-96px", dict(params), reason, epochs=epochs)


def test_reasons_are_grouped_by_what_trials_share() -> None:
    assert reason_group(STOPPED) == "out of reach of the front"
    assert reason_group("val_mae_years is nan after epoch 3") == "val_mae_years is nan"
    assert reason_group("time is up after epoch 12") == "time is up"
    assert reason_group("MemoryError: no room for it") == "MemoryError: no room for it"


def test_the_tally_counts_states_reasons_and_what_rungs_saved() -> None:
    records = [
        trial(0, State.COMPLETE, 20),
        trial(1, State.PRUNED, 4, STOPPED),
        trial(2, State.PRUNED, 2, STOPPED),
        trial(3, State.PRUNED, 7, "time is up after epoch 7"),
        trial(4, State.FAIL, 1, "worker died again"),
        trial(5, State.RUNNING, 0),
    ]
    counts = TrialCounts.of(records, SPEC)
    assert (counts.finished, counts.epochs, counts.budget) == (5, 34, 100)
    assert counts.saved == 16 + 18  # neither the time that was up nor the death saved anything
    assert counts.reasons.most_common(1) == [((State.PRUNED, "out of reach of the front"), 2)]
    assert counts.as_json()["states"] == {"COMPLETE": 1, "PRUNED": 3, "FAIL": 1}


def test_a_trials_budget_is_its_own_where_epochs_are_searched() -> None:
    assert budget_of(SPEC, trial(0, State.COMPLETE, 3)) == 20
    searched = SPEC.model_copy(update={"space": {"optim.epochs": Choices(choices=(5, 10))}})
    assert budget_of(searched, trial(0, State.COMPLETE, 3, **{"optim.epochs": 5})) == 5


def test_the_time_left_follows_this_runs_pace_and_counts_begun_epochs() -> None:
    half = RunningTrial(trial(9, State.RUNNING, 0), epoch=10, epochs=20)
    assert Pace(4, 400.0).seconds_left(6, []) == pytest.approx(600.0)
    assert Pace(4, 400.0).seconds_left(6, [half, half]) == pytest.approx(400.0)
    assert Pace(4, 400.0).trials_per_hour == pytest.approx(36.0)


def test_nothing_is_guessed_before_a_trial_has_ended() -> None:
    pace = Pace(0, 300.0)
    assert pace.trials_per_hour is None
    assert pace.seconds_left(6, []) is None
    assert StudyProgress("s", 6, TrialCounts(), pace=pace).seconds_left is None


def test_epochs_of_trials_that_are_not_over_count_as_spent() -> None:
    running = RunningTrial(trial(1, State.RUNNING, 0), epoch=3, epochs=20)
    progress = StudyProgress("s", 6, TrialCounts(epochs=40), running=(running,), waiting=1, waiting_epochs=2)
    assert progress.epochs == 45
