"""What COMPLETE curves tell of others, and that nothing is stopped where they tell nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from replay_rows import NETWORKS, SIZES, study

from agesearch.errors import InputError
from agesearch.models.architectures import Network
from agesearch.search.model.trial_model import TrialModel
from agesearch.search.sampler.judge import Judge, Standing, Verdict, is_control, is_judged
from agesearch.search.space.limits import Fitting
from agesearch.search.stopping.budget import LossBudget
from agesearch.search.stopping.forecast import CurveForecaster
from agesearch.search.stopping.rungs import Keep, LearningCurve, Pause, Stop
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import StoppingSpec, StudySpec, parse_spec

EPOCHS = 10
LATENCIES = {
    Network(arch, size): ms * (size / 64) ** 2 for arch, (ms, _, _) in NETWORKS.items() for size in SIZES
}
SPEC = study(EPOCHS).model_copy(
    update={"trials": 60, "startup_trials": 4, "rungs": None, "stopping": StoppingSpec(controls=0.0)}
)
STANDING = Standing(trials=60, begun=40, finished=30, spent=0.0)


def _trial(number: int, errors: tuple[float, ...], state: State = State.COMPLETE) -> TrialRecord:
    arch, size = list(NETWORKS)[number % len(NETWORKS)], SIZES[number % len(SIZES)]
    rng = np.random.default_rng(number)
    params = {
        "model.arch": arch,
        "model.input_size": size,
        "optim.learning_rate": math.exp(rng.uniform(math.log(3e-4), math.log(1e-2))),
        "augment.strength": rng.uniform(0, 2),
        "distill.kd_weight": 1.0,
    }
    error = min(errors) if state is State.COMPLETE else None
    ms = LATENCIES[Network(arch, size)]
    name = f"{number:04d}-{arch}-{size}px"
    return TrialRecord(number, state, name, params, "", error, None, ms, len(errors), curve=errors)


def _falling(number: int) -> tuple[float, ...]:
    """A curve that tells its end from its first epochs."""
    end = 6.0 + 5.0 * ((number * 7) % 11) / 11
    return tuple(end + 3.0 * math.exp(-epoch / 3) for epoch in range(1, EPOCHS + 1))


def _late(number: int) -> tuple[float, ...]:
    """A curve that stays at the error of always the median for half of its epochs, whatever its end; every
    third one stays there.
    """
    end = 5.0 + 5.0 * ((number * 7) % 11) / 11 if number % 3 else 10.14
    return tuple(10.14 + 0.001 * (number % 3) if epoch <= 5 else end for epoch in range(1, EPOCHS + 1))


def _verdict(
    trial: TrialRecord,
    complete: list[TrialRecord],
    spec: StudySpec = SPEC,
    standing: Standing = STANDING,
) -> Verdict:
    judge = Judge(spec, TrialModel(spec, Fitting(), LATENCIES))
    assert trial.latency_ms_p50 is not None
    curve = LearningCurve.of(trial.number, trial.latency_ms_p50, EPOCHS, trial.curve)
    return judge.verdict(trial, curve, complete, standing)


FALLING = [_trial(number, _falling(number)) for number in range(24)]
LATE = [_trial(number, _late(number)) for number in range(24)]


def test_a_hopeless_curve_is_stopped_and_says_what_is_at_stake() -> None:
    free = SPEC.model_copy(update={"stopping": StoppingSpec(controls=0.0, max_loss=0.4)})
    hopeless = _trial(44, (30.0, 29.0, 28.0, 28.0), State.RUNNING)
    verdict = _verdict(hopeless, FALLING, free, replace(STANDING, trials=40))
    assert isinstance(verdict, Stop)
    assert verdict.epoch == 4
    assert 0.0 <= verdict.loss <= 0.4 / 40
    assert "out of reach" in verdict.reason


def test_one_that_may_join_the_front_goes_on() -> None:
    assert isinstance(_verdict(_trial(44, (6.0, 5.5, 5.0, 5.0), State.RUNNING), FALLING), Keep)


@pytest.mark.parametrize("epochs", [1, 3, 5])
def test_nothing_is_stopped_on_a_plateau_that_tells_nothing(epochs: int) -> None:
    for number in range(40, 55):
        trial = _trial(number, _late(number)[:epochs], State.RUNNING)
        verdict = _verdict(trial, LATE)
        assert isinstance(verdict, Keep)
        assert "tell nothing" in verdict.why


def test_who_left_the_plateau_for_little_is_stopped_and_who_is_still_on_it_may_fall_as_others_did() -> None:
    free = SPEC.model_copy(update={"stopping": StoppingSpec(controls=0.0, max_loss=0.1)})
    left = _trial(44, (10.14,) * 5 + (9.5,) * 3, State.RUNNING)
    assert isinstance(_verdict(left, LATE, free), Stop)
    still = _trial(44, (10.14,) * 8, State.RUNNING)
    verdict = _verdict(still, LATE, free)
    assert isinstance(verdict, Pause)  # others fell to the front's error within an epoch
    assert "10.12 expected" in verdict.reason


def test_without_evidence_nothing_is_stopped_and_it_says_so() -> None:
    hopeless = _trial(44, (30.0, 29.0, 28.0), State.RUNNING)
    verdict = _verdict(hopeless, FALLING[:5])
    assert verdict == Keep("5 of 6 trials are COMPLETE that the evidence needs")


def test_startup_trials_and_controls_train_to_their_end() -> None:
    hopeless = _trial(44, (30.0, 29.0, 28.0, 28.0), State.RUNNING)
    everyone = SPEC.model_copy(update={"stopping": StoppingSpec(controls=1.0)})
    assert isinstance(_verdict(hopeless, FALLING, everyone), Keep)
    assert isinstance(_verdict(hopeless, FALLING, SPEC.model_copy(update={"startup_trials": 45})), Keep)
    drawn = [is_control(3, number, 0.05) for number in range(4000)]
    assert 120 < sum(drawn) < 280
    assert drawn == [is_control(3, number, 0.05) for number in range(4000)]
    assert drawn != [is_control(4, number, 0.05) for number in range(4000)]


def test_what_may_be_lost_is_spent_like_a_budget() -> None:
    trial = _trial(44, (11.5, 11.0, 10.5, 10.4), State.RUNNING)
    free = SPEC.model_copy(update={"stopping": StoppingSpec(controls=0.0, max_loss=0.5)})
    verdict = _verdict(trial, FALLING, free)
    assert isinstance(verdict, Stop)
    assert verdict.loss > 0
    spent = replace(STANDING, spent=0.5)
    assert isinstance(_verdict(trial, FALLING, free, spent), Pause)
    assert isinstance(_verdict(trial, FALLING, free, replace(spent, begun=60)), Keep)  # for nobody else
    random = free.model_copy(update={"sampler": "random"})  # which cannot tell when it should go on
    assert isinstance(_verdict(trial, FALLING, random, spent), Keep)


def test_a_trial_is_judged_at_most_a_dozen_times_and_not_at_its_end() -> None:
    for epochs in (1, 2, 3, 10, 12, 30, 100):
        judged = [
            epoch
            for epoch in range(1, epochs + 1)
            if is_judged(LearningCurve(0, 1.0, epochs, (9.0,) * epoch))
        ]
        assert len(judged) <= 12
        assert epochs not in judged
        assert epochs < 3 or len(judged) >= min(epochs - 1, 11)


def test_curves_that_tell_nothing_leave_the_configurations_forecast_and_its_doubt() -> None:
    rng = np.random.default_rng(0)
    priors = rng.normal(2.0, 0.2, 40)
    ends = priors + rng.normal(0.0, 0.1, 40)
    flat, still = np.full(40, math.log(10.0)), np.zeros(40)
    told = CurveForecaster(flat, still, ends, priors).forecast(flat[:3], still[:3], np.array([1.8, 2.0, 2.2]))
    assert told.mean == pytest.approx([1.8, 2.0, 2.2], abs=0.06)
    assert (told.deviation > 0.07).all()
    assert (told.told < 0.1).all()


def test_curves_that_tell_their_end_overrule_the_configuration() -> None:
    rng = np.random.default_rng(0)
    ends, priors = rng.normal(2.0, 0.2, 40), np.full(40, 2.0)
    levels = ends + 0.3
    told = CurveForecaster(levels, np.zeros(40), ends, priors).forecast(
        np.array([1.9, 2.3]), np.zeros(2), np.array([2.0, 2.0])
    )
    assert told.mean == pytest.approx([1.6, 2.0], abs=0.05)
    assert (told.told > 0.9).all()


def test_a_curve_unlike_all_others_is_as_unsure_as_they_are_on_the_whole() -> None:
    rng = np.random.default_rng(1)
    ends, priors = rng.normal(2.0, 0.2, 40), np.full(40, 2.0)
    levels = ends + 0.3 + rng.normal(0.0, 0.05, 40)
    forecaster = CurveForecaster(levels, np.zeros(40), ends, priors)
    near, far = forecaster.forecast(np.array([2.3, 9.0]), np.zeros(2), np.array([2.0, 2.0])).deviation
    assert far > near


def test_a_study_says_how_trials_are_stopped() -> None:
    document = study().model_dump(mode="json")
    del document["rungs"]
    document.pop("stopping", None)
    spec = parse_spec(StudySpec, document, "test")
    assert spec.stopping == StoppingSpec()  # the default
    assert parse_spec(StudySpec, spec.model_dump(mode="json"), "test") == spec
    old = document | {"rungs": None}  # as studies of before were written
    assert parse_spec(StudySpec, old, "test").stopping is None
    assert "stopping" not in parse_spec(StudySpec, old, "test").model_dump(mode="json")
    assert parse_spec(StudySpec, document | {"stopping": "off"}, "test").stopping is None
    fixed = parse_spec(StudySpec, document | {"rungs": "on"}, "test")
    assert (fixed.rungs is None, fixed.stopping) == (False, None)
    with pytest.raises(InputError, match="one of them"):
        parse_spec(StudySpec, document | {"rungs": "on", "stopping": "on"}, "test")


def test_the_budget_says_what_is_spent_and_why_nothing_is() -> None:
    early = LossBudget.of(SPEC, complete=3, stopped=0, spent=0.0)
    assert early is not None
    assert early.words == "none stopped early yet: 3 of 6 are complete"
    later = LossBudget.of(SPEC, complete=9, stopped=12, spent=0.0025)
    assert later is not None
    assert later.left == pytest.approx(0.0075)
    assert later.words == "12 stopped early at 0.25% of hypervolume, 0.75% left"
    assert later.as_json()["spent"] == 0.0025
    assert LossBudget.of(SPEC.model_copy(update={"stopping": None}), complete=9, stopped=0, spent=0) is None
