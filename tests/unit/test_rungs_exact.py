"""The rung decision in numbers: the bound, the goal, who counts, and what is only just kept or stopped."""

from __future__ import annotations

import math
import re

import pytest
from scipy.stats import t as student_t

from agesearch.search.stopping.rungs import Keep, LearningCurve, Pause, Stop, decide, gains_from
from agesearch.search.store.records import State
from agesearch.specs import RungSpec

EPOCHS = 8
SPEC = RungSpec(eta=2, first_epoch=2, margin=0.9, evidence=3, pause_margin=None)

#: Errors after epoch 2 and in the end.
ENDS = [(10.0, 8.0), (12.0, 9.0), (11.0, 7.5), (9.0, 6.0)]


def complete(number: int, early: float, end: float, latency: float = 1.0) -> LearningCurve:
    errors = [20.0, early, *[early] * (EPOCHS - 3), end]
    return LearningCurve.of(number, latency, EPOCHS, errors, State.COMPLETE)


DONE = [complete(number, *ends) for number, ends in enumerate(ENDS, start=1)]


def bound(error: float, margin: float, ends: list[tuple[float, float]] | None = None) -> float:
    """The smallest error that a trial can end with, by Student's prediction interval."""
    gains = [math.log(early / end) for early, end in ends or ENDS]
    mean = sum(gains) / len(gains)
    spread = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1))
    width = student_t.ppf(margin, len(gains) - 1) * spread * math.sqrt(1 + 1 / len(gains))
    return error * math.exp(-max(0.0, mean + width))


def trial(error: float, latency: float = 1.0) -> LearningCurve:
    return LearningCurve.of(0, latency, EPOCHS, [error + 1, error])


def told(verdict: Keep | Pause | Stop) -> float:
    """The bound that a reason names."""
    assert isinstance(verdict, Pause | Stop)
    found = re.search(r"(?:at best|above) ([\d.]+) in the end", verdict.reason)
    assert found
    return float(found[1])


def test_the_bound_is_that_of_the_prediction_interval() -> None:
    for error in (15.0, 18.5):
        assert told(decide(trial(error), DONE, SPEC)) == pytest.approx(bound(error, 0.9), abs=0.006)
    pausing = SPEC.model_copy(update={"margin": 0.99, "pause_margin": 0.55})
    assert told(decide(trial(10.5), DONE, pausing)) == pytest.approx(bound(10.5, 0.55), abs=0.006)


def test_stopped_is_who_ends_above_the_best_even_then_and_nobody_else() -> None:
    factor = bound(1.0, 0.9)
    just = 6.0 / factor  # ends exactly at the best error, 6 years
    assert decide(trial(just * 0.999), DONE, SPEC) == Keep()
    assert isinstance(decide(trial(just * 1.001), DONE, SPEC), Stop)


def test_paused_is_who_passes_the_wide_margin_only() -> None:
    spec = SPEC.model_copy(update={"pause_margin": 0.6})
    just = 6.0 / bound(1.0, 0.6)
    others = [*DONE, LearningCurve.of(7, 1.0, EPOCHS, [9.0, 8.0])]  # ahead of it at this rung
    assert decide(trial(just * 0.999), others, spec) == Keep()
    assert isinstance(decide(trial(just * 1.001), others, spec), Pause)
    assert isinstance(decide(trial(6.0 / bound(1.0, 0.9) * 1.001), DONE, spec), Stop)


def test_curves_that_never_gain_grant_no_gain_and_no_loss() -> None:
    flat = [complete(number, 8.0 + number, 8.0 + number) for number in range(1, 5)]
    assert told(decide(trial(9.5), flat, SPEC)) == pytest.approx(9.5)
    assert decide(trial(8.9), flat, SPEC) == Keep()


def test_a_trial_is_not_its_own_rival() -> None:
    own = LearningCurve.of(0, 1.0, EPOCHS, [14.0] * 7 + [1.0], State.COMPLETE)
    assert decide(trial(13.0), [*DONE, own], SPEC) == decide(trial(13.0), DONE, SPEC)


def test_failed_trials_are_no_rivals_and_no_evidence() -> None:
    failed = [LearningCurve.of(9 + k, 1.0, EPOCHS, [20.0, 2.0], State.FAIL) for k in range(3)]
    assert decide(trial(13.0), [*DONE, *failed], SPEC) == decide(trial(13.0), DONE, SPEC)
    assert decide(trial(19.0), [*DONE[:2], *failed], SPEC) == Keep()


def test_stopped_rivals_hold_no_goal_but_running_and_paused_ones_do() -> None:
    error = 6.0 / bound(1.0, 0.9) * 0.99  # reaches 6 years, not 5
    for state, decision in ((State.PRUNED, Keep), (State.RUNNING, Stop), (State.PAUSED, Stop)):
        rival = LearningCurve.of(7, 1.0, EPOCHS, [9.0, 5.0], state)
        assert isinstance(decide(trial(error), [*DONE, rival], SPEC), decision), state


def test_evidence_counts_complete_trials_that_tell_of_this_epoch() -> None:
    assert decide(trial(19.0), DONE[:2], SPEC) == Keep()
    assert isinstance(decide(trial(19.0), DONE[:3], SPEC), Stop)
    assert gains_from(0.25, DONE) == pytest.approx([math.log(early / end) for early, end in ENDS])
    assert gains_from(0.05, DONE) == []  # no epoch is over at a twentieth of eight


def test_the_goal_names_the_first_of_the_best_and_its_error() -> None:
    twin = complete(9, 9.0, 6.0)
    verdict = decide(trial(19.0), [twin, *DONE], SPEC)
    assert isinstance(verdict, Stop)
    assert verdict.reason.endswith("trial 4 has 6.00")
    limited = decide(trial(19.0), DONE, SPEC, max_error=4.0)
    assert isinstance(limited, Stop)
    assert limited.reason.endswith("max_mae_years is 4.00")
    above = decide(trial(19.0), DONE, SPEC, max_error=7.0)
    assert above == decide(trial(19.0), DONE, SPEC)  # a limit above the goal says nothing


def test_tiny_errors_do_not_end_a_decision() -> None:
    exact = [complete(number, 1.0, 0.0) for number in range(1, 5)]
    assert isinstance(decide(trial(19.0), exact, SPEC), Stop)
    assert gains_from(0.25, exact)[0] == pytest.approx(math.log(1.0 / 1e-9))


def test_who_is_as_fast_counts_and_who_is_slower_does_not() -> None:
    assert isinstance(decide(trial(19.0, latency=1.0), DONE, SPEC), Stop)
    assert decide(trial(19.0, latency=0.999), DONE, SPEC) == Keep()
