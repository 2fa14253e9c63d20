"""The rung decision: who is stopped, who never is, and what it does not depend on."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import geometric_mean

from hypothesis import given
from hypothesis import strategies as st

from agesearch.search.stopping.rungs import Keep, LearningCurve, Pause, Stop, decide, rung_epochs, rungs_of
from agesearch.search.store.records import State
from agesearch.specs import Choices, ModelSpec, RungSpec, StudySpec, TrainSpec

EPOCHS = 16
SPEC = RungSpec(eta=2, first_epoch=2, margin=0.9, evidence=3, pause_margin=None)
PAUSING = SPEC.model_copy(update={"pause_margin": 0.6})

errors = st.floats(1.0, 20.0).map(lambda value: round(value, 1))  # coarse, so that ties happen
latencies = st.sampled_from([0.5, 1.0, 1.5, 2.0, 4.0])
states = st.sampled_from(
    [State.COMPLETE, State.COMPLETE, State.RUNNING, State.PAUSED, State.PRUNED, State.FAIL]
)


@st.composite
def curves(draw: st.DrawFn, number: int, state: State | None = None) -> LearningCurve:
    state = state or draw(states)
    length = EPOCHS if state is State.COMPLETE else draw(st.integers(0, EPOCHS - 1))
    values = draw(st.lists(errors, min_size=length, max_size=length))
    return LearningCurve.of(number, draw(latencies), EPOCHS, values, state)


@st.composite
def studies(draw: st.DrawFn) -> list[LearningCurve]:
    return [draw(curves(number)) for number in range(1, 1 + draw(st.integers(0, 12)))]


@st.composite
def judged(draw: st.DrawFn) -> LearningCurve:
    """A running trial that stands at a rung."""
    epoch = draw(st.sampled_from(rung_epochs(EPOCHS, SPEC)))
    values = draw(st.lists(errors, min_size=epoch, max_size=epoch))
    return LearningCurve.of(0, draw(latencies), EPOCHS, values)


def finished(number: int, latency: float, start: float, end: float) -> LearningCurve:
    """A COMPLETE trial that falls evenly."""
    steps = [start + (end - start) * epoch / (EPOCHS - 1) for epoch in range(EPOCHS)]
    return LearningCurve.of(number, latency, EPOCHS, steps, State.COMPLETE)


def is_stopped(trial: LearningCurve, others: list[LearningCurve], spec: RungSpec = SPEC) -> bool:
    return isinstance(decide(trial, others, spec), Stop)


ALIKE = [finished(number, 1.0, 10.0 + number / 10, 6.0 + number / 10) for number in range(1, 7)]


def test_a_hopeless_trial_is_stopped_with_the_reason_and_the_epoch() -> None:
    verdict = decide(LearningCurve.of(0, 2.0, EPOCHS, [18.0] * 4), ALIKE, SPEC)
    assert isinstance(verdict, Stop)
    assert verdict.epoch == 4
    assert verdict.reason.startswith("out of reach of the front: 18.00 years after epoch 4 of 16 at 2.00 ms")
    assert verdict.reason.endswith("trial 1 has 6.10")


def test_the_same_curve_lives_where_only_slower_trials_beat_it() -> None:
    assert is_stopped(LearningCurve.of(0, 2.0, EPOCHS, [18.0] * 4), ALIKE)
    assert not is_stopped(LearningCurve.of(0, 0.9, EPOCHS, [18.0] * 4), ALIKE)


def test_late_bloomers_widen_the_margin() -> None:
    trial = LearningCurve.of(0, 2.0, EPOCHS, [14.0] * 4)
    assert is_stopped(trial, ALIKE)
    late = LearningCurve.of(7, 9.0, EPOCHS, [14.0] * 8 + [5.0] * 8, State.COMPLETE)
    assert not is_stopped(trial, [*ALIKE, late])


def test_a_wider_margin_stops_less_and_off_the_rungs_nobody_is_judged() -> None:
    trial = LearningCurve.of(0, 2.0, EPOCHS, [11.0] * 4)
    assert is_stopped(trial, ALIKE, SPEC.model_copy(update={"margin": 0.6}))
    uneven = [*ALIKE, finished(8, 5.0, 10.0, 8.0), finished(9, 5.0, 12.0, 6.0)]
    assert not is_stopped(trial, uneven, SPEC.model_copy(update={"margin": 0.999}))
    for epochs in (1, 3, 5, 15, 16):
        assert not is_stopped(LearningCurve.of(0, 2.0, EPOCHS, [18.0] * epochs), ALIKE)


def test_a_limit_on_the_error_is_a_bar_for_dominated_trials_only() -> None:
    trial = LearningCurve.of(0, 2.0, EPOCHS, [9.31] * 4)
    assert decide(trial, ALIKE, SPEC) == Keep()
    assert isinstance(decide(trial, ALIKE, SPEC, max_error=3.0), Stop)
    assert decide(replace(trial, latency_ms=0.5), ALIKE, SPEC, max_error=3.0) == Keep()


def test_budgets_that_differ_are_compared_at_the_same_share() -> None:
    short = [LearningCurve.of(c.number, c.latency_ms, 8, c.best[1::2], State.COMPLETE) for c in ALIKE]
    assert is_stopped(LearningCurve.of(0, 2.0, EPOCHS, [18.0] * 4), short)
    assert not is_stopped(LearningCurve.of(0, 2.0, EPOCHS, [short[0].best[1]] * 4), short)
    assert rung_epochs(16, SPEC) == [2, 4, 8]
    assert rung_epochs(2, SPEC) == []
    assert rung_epochs(5, RungSpec(eta=1.2, first_epoch=1)) == [1, 2, 3, 4]


@given(judged(), studies())
def test_who_is_beaten_by_nobody_at_most_as_slow_is_never_stopped(
    trial: LearningCurve, others: list[LearningCurve]
) -> None:
    epoch, mine = len(trial.best), trial.best[-1]
    rivals = [c for c in others if c.state is not State.FAIL and c.latency_ms <= trial.latency_ms]
    reached = [(c.best[epoch - 1], c.latency_ms) for c in rivals if len(c.best) >= epoch]
    if all(error > mine or (error, ms) == (mine, trial.latency_ms) for error, ms in reached):
        assert decide(trial, others, SPEC) == Keep()


@given(judged(), studies(), st.floats(0.0, 1.0))
def test_a_smaller_error_never_turns_keep_into_stop(
    trial: LearningCurve, others: list[LearningCurve], share: float
) -> None:
    better = replace(trial, best=(*trial.best[:-1], trial.best[-1] * share))
    if not is_stopped(trial, others):
        assert not is_stopped(better, others)


@given(judged(), studies(), latencies)
def test_a_faster_trial_with_the_same_curve_is_never_the_one_to_be_stopped(
    trial: LearningCurve, others: list[LearningCurve], latency: float
) -> None:
    faster = replace(trial, latency_ms=min(latency, trial.latency_ms))
    if not is_stopped(trial, others):
        assert not is_stopped(faster, others)


@given(judged(), studies(), curves(99, State.RUNNING) | curves(99, State.PRUNED))
def test_slower_trials_that_have_not_finished_have_no_say(
    trial: LearningCurve, others: list[LearningCurve], other: LearningCurve
) -> None:
    slower = replace(other, latency_ms=trial.latency_ms + 0.1)
    assert decide(trial, [*others, slower], SPEC) == decide(trial, others, SPEC)


@given(judged(), studies(), st.randoms(use_true_random=False))
def test_the_order_of_the_trials_does_not_matter(
    trial: LearningCurve, others: list[LearningCurve], rng: random.Random
) -> None:
    shuffled = rng.sample([*others, trial], len(others) + 1)  # and its own entry is ignored
    assert decide(trial, shuffled, SPEC) == decide(trial, others, SPEC)


@given(judged(), studies())
def test_nothing_is_stopped_before_enough_trials_have_finished(
    trial: LearningCurve, others: list[LearningCurve]
) -> None:
    complete = [other for other in others if other.state is State.COMPLETE][: SPEC.evidence - 1]
    rest = [other for other in others if other.state is not State.COMPLETE]
    assert decide(trial, [*complete, *rest], SPEC) == Keep()


@given(judged(), studies())
def test_failed_trials_have_no_say(trial: LearningCurve, others: list[LearningCurve]) -> None:
    alive = [other for other in others if other.state is not State.FAIL]
    assert decide(trial, others, SPEC) == decide(trial, alive, SPEC)


@given(judged(), studies())
def test_whoever_is_stopped_would_miss_the_front_with_the_usual_gain(
    trial: LearningCurve, others: list[LearningCurve]
) -> None:
    if is_stopped(trial, others):
        epoch = len(trial.best)
        ends = [other for other in others if other.state is State.COMPLETE]
        usual = geometric_mean(other.best[-1] / other.best[epoch - 1] for other in ends)
        lasting = [c for c in others if c.state not in (State.PRUNED, State.FAIL) and c.best]
        goal = min(c.best[-1] for c in lasting if c.latency_ms <= trial.latency_ms)
        assert trial.best[-1] * usual > goal


def test_an_unlikely_trial_is_paused_with_the_reason_and_the_epoch() -> None:
    trial = LearningCurve.of(0, 2.0, EPOCHS, [9.31] * 4)
    assert decide(trial, ALIKE, SPEC) == Keep()
    verdict = decide(trial, ALIKE, PAUSING)
    assert isinstance(verdict, Pause)
    assert verdict.epoch == 4
    assert verdict.reason.startswith("unlikely to reach the front: 9.31 years after epoch 4 of 16 at 2.00 ms")
    assert verdict.reason.endswith("trial 1 has 6.10")


@given(judged(), studies())
def test_pausing_takes_only_from_those_that_would_go_on(
    trial: LearningCurve, others: list[LearningCurve]
) -> None:
    plain, pausing = decide(trial, others, SPEC), decide(trial, others, PAUSING)
    assert pausing == plain or (plain == Keep() and isinstance(pausing, Pause))
    strict = decide(trial, others, SPEC.model_copy(update={"margin": 0.6}))
    assert isinstance(strict, Stop) == (pausing != Keep())


@given(judged(), studies(), st.floats(0.0, 1.0))
def test_a_smaller_error_never_pauses(
    trial: LearningCurve, others: list[LearningCurve], share: float
) -> None:
    better = replace(trial, best=(*trial.best[:-1], trial.best[-1] * share))
    if decide(trial, others, PAUSING) == Keep():
        assert decide(better, others, PAUSING) == Keep()


def test_only_the_sampler_that_weighs_paused_trials_pauses() -> None:
    space = {"optim.learning_rate": Choices(choices=(1e-3, 1e-2))}
    study = StudySpec(student=TrainSpec(model=ModelSpec(arch="lcnet_035")), space=space, rungs=PAUSING)
    assert rungs_of(study) == PAUSING
    assert rungs_of(study.model_copy(update={"sampler": "tpe"})) == SPEC
    assert rungs_of(study.model_copy(update={"rungs": None})) is None
