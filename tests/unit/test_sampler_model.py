"""What the model of a search is told of trials, and how sure it says it is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agesearch.search.model.acquisition import expected_improvement, reference_beyond
from agesearch.search.model.gaussian_process import GaussianProcess, Lengths, _distances, _loss
from agesearch.search.model.length_priors import LengthPriors
from agesearch.search.model.trial_model import Seen, drawn_in, final_errors, scheduled
from agesearch.search.sampler.ehvi import _mean_epochs
from agesearch.search.stopping.rungs import LearningCurve
from agesearch.search.store.records import State

PLACE = np.zeros(2)


def seen(number: int, state: State, *errors: float, epochs: int = 4) -> Seen:
    curve = LearningCurve.of(number, 1.0, epochs, errors, state)
    return Seen(number, PLACE, curve, min(errors) if state is State.COMPLETE else None)


COMPLETE = [seen(number, State.COMPLETE, 12.0, 10.0, 9.0, 6.0 + number) for number in range(4)]


def test_failed_trials_are_told_as_the_worst_not_as_the_usual() -> None:
    targets = drawn_in(final_errors([*COMPLETE, seen(4, State.FAIL)]))
    assert targets[4] == targets.max()
    assert targets[4] >= math.log(9.0)  # the worst that finished
    assert targets[4] > np.median(targets[:4]) + 0.05


def test_an_error_far_above_the_median_counts_as_the_worst_at_most() -> None:
    targets = drawn_in(final_errors([*COMPLETE, seen(4, State.COMPLETE, 5000.0)]))
    middle, lowest = math.log(8.0), math.log(6.0)
    assert targets[4] == pytest.approx(middle + (middle - lowest) + 0.05)


def test_what_a_trial_takes_counts_those_that_were_stopped() -> None:
    assert _mean_epochs([*COMPLETE, seen(4, State.PRUNED, 9.0, 8.0)]) == (4 * 4 + 2) / 5
    assert _mean_epochs([COMPLETE[0], seen(4, State.FAIL, 9.0), seen(5, State.PAUSED, 9.0)]) == 4.0


def test_the_schedule_of_fits_grows_by_shares() -> None:
    assert [scheduled(count) for count in (3, 4, 5, 6, 7)] == [3, 3, 3, 5, 6]
    steps = sorted({scheduled(count) for count in range(200)})
    assert all(later / earlier <= 1.7 for earlier, later in zip(steps, steps[1:], strict=False))


LENGTHS = Lengths((0.5,), 0.04)


def _model(targets: np.ndarray, variance: np.ndarray | None = None) -> GaussianProcess:
    rows = np.linspace(0.0, 1.0, len(targets))[:, None]
    return GaussianProcess(
        rows, targets, np.zeros(len(targets)) if variance is None else variance, [slice(0, 1)], LENGTHS
    )


def test_a_prediction_is_that_of_the_formula_with_the_noise_of_one_more_training() -> None:
    rows = np.array([[0.0], [0.3], [1.0]])
    targets, variance = np.array([1.0, 3.0, 2.0]), np.array([0.0, 0.2, 0.0])
    model = GaussianProcess(rows, targets, variance, [slice(0, 1)], LENGTHS)
    asked = np.array([[0.3], [0.5], [40.0]])

    def kernel(some: np.ndarray, others: np.ndarray) -> np.ndarray:
        r = np.abs(some - others.T) / 0.5
        return (1 + math.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-math.sqrt(5) * r)

    scale = targets.std()
    inverse = np.linalg.inv(kernel(rows, rows) + np.diag(0.04 + variance / scale**2))
    across = kernel(asked, rows)
    mean = targets.mean() + across @ inverse @ (targets - targets.mean())
    spread = scale * np.sqrt(1.0 + 0.04 - np.einsum("ij,jk,ik->i", across, inverse, across))
    found, deviation = model.predict(asked)
    assert found == pytest.approx(mean, rel=1e-4)
    assert deviation == pytest.approx(spread, rel=1e-4)
    assert deviation[2] == pytest.approx(scale * math.sqrt(1.04))  # far away nothing is known but the spread


def test_a_training_again_at_a_known_place_is_as_noisy_as_the_noise() -> None:
    targets = np.sin(np.linspace(0.0, 3.0, 60))
    _, deviation = _model(targets).predict(np.array([[0.5]]))
    assert deviation[0] >= targets.std() * math.sqrt(LENGTHS.noise)


def test_trials_that_run_change_nothing_but_how_sure_is_what_is_near_them() -> None:
    model, running, asked = _model(np.array([1.0, 3.0, 2.0])), np.array([[0.3]]), np.array([[0.3], [0.9]])
    believing = model.believing(running)
    assert believing.predict(asked)[0] == pytest.approx(model.predict(asked)[0], rel=1e-4)
    before, after = model.predict(asked, noisy=False)[1], believing.predict(asked, noisy=False)[1]
    assert after[0] < 0.6 * before[0]
    assert after[1] > 0.9 * before[1]
    assert model.predict(asked, noisy=False)[1] == pytest.approx(before)  # it is another model


def test_the_expectation_of_a_place_is_surer_than_one_more_training_of_it() -> None:
    targets = np.sin(np.linspace(0.0, 3.0, 60))
    model, asked = _model(targets), np.array([[0.5]])
    noise = targets.std() ** 2 * LENGTHS.noise
    (noisy,), (sure,) = model.predict(asked)[1], model.predict(asked, noisy=False)[1]
    assert noisy**2 - sure**2 == pytest.approx(noise, rel=0.01)


def test_what_is_left_out_is_expected_as_by_a_model_that_never_saw_it() -> None:
    targets = np.sin(np.linspace(0.0, 3.0, 8))
    rows = np.linspace(0.0, 1.0, 8)[:, None]
    model = _model(targets)
    expected = model.left_out()
    others = np.delete(np.arange(8), 3)
    known = (targets - targets.mean()) / targets.std()  # standardised alike
    fresh = GaussianProcess(rows[others], known[others], np.zeros(7), [slice(0, 1)], LENGTHS)
    mean, _ = fresh.predict(rows[3:4])
    assert expected[3] == pytest.approx(targets.mean() + targets.std() * mean[0], abs=0.03)


def test_more_certain_targets_weigh_more() -> None:
    targets = np.array([0.0, 1.0, 0.0])
    sure, _ = _model(targets).predict(np.array([[0.5]]))
    unsure, _ = _model(targets, np.array([0.0, 5.0, 0.0])).predict(np.array([[0.5]]))
    assert sure[0] > unsure[0] + 0.2


def test_the_gain_grows_with_hope_and_falls_with_latency() -> None:
    points, reference = [(9.0, 1.0)], (10.0, 3.0)
    means, spreads = np.log([8.0, 8.0, 8.0, 9.9]), np.array([0.1, 0.3, 0.1, 0.1])
    better, unsure, slower, worse = expected_improvement(
        means, spreads, np.array([1.0, 1.0, 2.5, 1.0]), points, reference
    )
    assert unsure > better > slower > 0
    assert better > worse > 0


def test_the_reference_lies_a_tenth_of_the_fronts_extent_beyond_it() -> None:
    assert reference_beyond([(5.0, 3.0), (10.0, 1.0), (12.0, 5.0)]) == pytest.approx((10.5, 3.2))
    assert reference_beyond([(5.0, 2.0)]) == pytest.approx((5.5, 2.2))  # a front of one point: of its size


def test_the_posterior_falls_where_its_gradient_says() -> None:
    rng = np.random.default_rng(1)
    rows, targets, variance = rng.random((12, 3)), rng.normal(size=12), rng.random(12) * 0.3
    flat = _distances(rows, rows, [slice(0, 2), slice(2, 3)]).reshape(2, -1)
    priors, theta = LengthPriors((0.1, 0.2, -3.0), (0.5, 1.0, 0.7)), np.array([-0.4, 0.5, -2.0])
    value, gradient = _loss(theta, priors, flat, targets, variance)
    for index in range(3):
        step = np.eye(3)[index] * 1e-5
        above, below = (_loss(theta + sign * step, priors, flat, targets, variance)[0] for sign in (1, -1))
        assert gradient[index] == pytest.approx((above - below) / 2e-5, rel=1e-4)
    squared = (rows[:, None, :] - rows[None]) ** 2 * np.exp(-2 * theta[[0, 0, 1]])
    r = np.sqrt(squared.sum(axis=-1))
    kernel = (1 + math.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-math.sqrt(5) * r)
    kernel += np.diag(math.exp(theta[2]) + variance)
    density = -0.5 * targets @ np.linalg.solve(kernel, targets) - 0.5 * np.linalg.slogdet(kernel)[1]
    away = (theta - np.array(priors.middles)) / np.array(priors.deviations)
    assert value == pytest.approx(0.5 * (away**2).sum() - density, rel=1e-4)


def test_a_few_trials_move_what_is_expected_of_a_dimension_and_many_overrule_it() -> None:
    names = ["optim.learning_rate", "distill.kd_weight"]
    priors, groups = LengthPriors.of(names), [slice(0, 1), slice(1, 2)]
    expected = np.exp(priors.middles)
    assert expected[0] < 1.0 < expected[1]
    rows = np.random.default_rng(0).random((80, 2))
    targets = np.sin(8 * rows[:, 1])  # against all that is expected
    few, many = (
        GaussianProcess(rows[:n], targets[:n], np.zeros(n), groups, priors=priors).lengths.lengths
        for n in (4, 80)
    )
    assert few[0] < few[1]
    assert many[0] > many[1]


def test_a_dimension_that_nothing_is_known_of_is_as_open_as_ever() -> None:
    priors = LengthPriors.of(["optim.momentum", "optim.learning_rate"])
    assert priors.middles[0] == pytest.approx(math.log(0.6 * math.sqrt(2)))
    assert priors.deviations[0] > priors.deviations[1]
