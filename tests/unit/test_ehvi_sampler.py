"""Expected hypervolume improvement, the model behind it, and proposals made by it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from replay_rows import NETWORKS, SIZES, study

from agesearch.metrics import VAL_MAE_YEARS
from agesearch.models.architectures import Network
from agesearch.search.model.acquisition import expected_improvement, staircase
from agesearch.search.model.encoding import Encoding
from agesearch.search.model.error_prior import TERMS, ErrorPrior
from agesearch.search.model.gaussian_process import GaussianProcess, Lengths
from agesearch.search.model.trial_model import Fit, TrialModel
from agesearch.search.run.suggester import Suggester
from agesearch.search.sampler.ehvi import EhviSampler
from agesearch.search.space.limits import Fitting
from agesearch.search.space.space import Params, network_of
from agesearch.search.store.history import History, TrialCost
from agesearch.search.store.pareto import hypervolume
from agesearch.search.store.records import State, TrialRecord
from agesearch.specs import Choices, Range, StudySpec

LATENCIES = {
    Network(arch, size): ms * (size / 64) ** 2 for arch, (ms, _, _) in NETWORKS.items() for size in SIZES
}
POINTS = [(9.0, 0.4), (7.5, 0.9), (6.0, 2.0), (8.0, 1.5), (30.0, 0.1)]
REFERENCE = (10.0, 3.0)


@pytest.mark.parametrize(
    ("error", "spread", "latency"), [(7.0, 0.2, 0.5), (6.2, 0.05, 2.5), (12.0, 0.4, 0.2)]
)
def test_the_expected_gain_is_that_of_many_draws(error: float, spread: float, latency: float) -> None:
    draws = np.exp(np.random.default_rng(0).normal(math.log(error), spread, 1500))
    before = hypervolume(POINTS, REFERENCE)
    gains = [hypervolume([*POINTS, (draw, latency)], REFERENCE) - before for draw in draws]
    exact = expected_improvement(np.log([error]), np.array([spread]), np.array([latency]), POINTS, REFERENCE)
    assert exact[0] == pytest.approx(np.mean(gains), rel=0.08, abs=0.004)


def test_a_sure_error_gains_its_area_and_one_beyond_the_reference_nothing() -> None:
    sure = expected_improvement(
        np.log([5.0, 5.0, 9.5]), np.zeros(3), np.array([1.0, 3.5, 0.5]), POINTS, REFERENCE
    )
    gained = hypervolume([*POINTS, (5.0, 1.0)], REFERENCE) - hypervolume(POINTS, REFERENCE)
    assert sure == pytest.approx([gained, 0.0, 0.0])
    edges, levels = staircase(POINTS, REFERENCE)
    assert (edges.tolist(), levels.tolist()) == ([0.0, 0.4, 0.9, 2.0, 3.0], [10.0, 9.0, 7.5, 6.0])


def test_the_model_learns_a_curve_and_trusts_uncertain_targets_less() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((40, 2))
    targets = np.sin(4 * rows[:, 0])  # the second column says nothing
    groups = [slice(0, 1), slice(1, 2)]
    model = GaussianProcess(rows, targets, np.zeros(40), groups)
    asked = rng.random((50, 2))
    mean, deviation = model.predict(asked)
    assert np.abs(mean - np.sin(4 * asked[:, 0])).mean() < 0.1
    assert model.lengths.lengths[0] < model.lengths.lengths[1]
    targets[0] += 3.0
    off = GaussianProcess(rows, targets, np.zeros(40), groups, model.lengths).predict(rows[:1])[0]
    loose = np.where(np.arange(40) == 0, 100.0, 0.0)
    held = GaussianProcess(rows, targets, loose, groups, model.lengths).predict(rows[:1])[0]
    truth = math.sin(4 * rows[0, 0])
    assert abs(held[0] - truth) < abs(off[0] - truth)
    assert (deviation > 0).all()


def _proposed(suggester: Suggester, offered: list[Params] | None = None) -> Params:
    proposal = suggester.propose(offered)
    assert proposal is not None
    return proposal.params


def _filled(spec: StudySpec, count: int = 14, fitting: Fitting | None = None) -> tuple[History, Suggester]:
    """A study of finished trials whose error falls with the latency and rises away from a learning rate."""
    history = History.in_memory(spec)
    history.latencies = LATENCIES
    suggester = Suggester(history, spec, fitting)
    for number in range(count):
        params = _proposed(suggester)
        history.begin(params)
        latency = LATENCIES[network_of(spec, params)]
        history.knows_latency(number, latency)
        error = 8.0 - math.log(latency) + abs(math.log(float(params["optim.learning_rate"]) / 2e-3))
        curve = tuple(error + 4.0 / (epoch + 1) for epoch in range(16))
        if number % 4 == 3:
            history.prune(number, "stopped", TrialCost(4, 1.0, curve[:4]), curve[3])
        elif number % 7 == 6:
            history.fail(number, "diverged")
        else:
            history.complete(number, {VAL_MAE_YEARS: curve[-1]}, TrialCost(16, 4.0, curve))
    return history, suggester


def _sampler(spec: StudySpec, fit: Fit | None = None) -> EhviSampler:
    return EhviSampler(spec, TrialModel(spec, Fitting(), LATENCIES, fit))


def test_proposals_are_a_pure_function_of_the_seed_and_the_trials() -> None:
    (first, more), (again, more_again) = _filled(study()), _filled(study())
    assert [record.params for record in first.records] == [record.params for record in again.records]
    assert more.propose() == more_again.propose()
    _, other = _filled(study().model_copy(update={"seed": 1}))
    assert other.propose() != more.propose()


def test_proposals_turn_to_the_learning_rates_that_paid() -> None:
    history, _ = _filled(study().model_copy(update={"seed": 5}), 24)
    rates = [float(record.params["optim.learning_rate"]) for record in history.records]

    def away(some: list[float]) -> float:
        return float(np.mean([abs(math.log(rate / 2e-3)) for rate in some]))

    assert away(rates[12:]) < 0.7 * away(rates[:8])


def test_only_networks_within_the_limits_are_proposed() -> None:
    spec = study().model_copy(update={"max_latency_ms": 0.5})
    allowed = frozenset(network for network, ms in LATENCIES.items() if ms <= 0.5)
    fitting = Fitting(spec, allowed, {network: "slow" for network in LATENCIES.keys() - allowed})
    _, suggester = _filled(spec, fitting=fitting)
    assert network_of(spec, _proposed(suggester)) in allowed


def test_offered_configurations_are_the_only_ones_chosen_from() -> None:
    history, suggester = _filled(study())
    offered = [dict(record.params, **{"augment.strength": 0.123}) for record in history.records[:3]]
    assert _proposed(suggester, offered)["augment.strength"] == pytest.approx(0.123)


def test_a_place_leads_back_to_its_parameters_and_conditions_leave_gaps() -> None:
    spec = study()
    space = {
        **spec.space,
        "distill.temperature": Range(low=1.0, high=5.0, step=0.5, when={"distill.kd_weight": {"above": 1.0}}),
        "optim.batch_size": Choices(choices=(16, 32, 64)),
    }
    spec = StudySpec.model_validate(
        spec.model_dump() | {"space": {n: d.model_dump() for n, d in space.items()}}
    )
    encoding = Encoding(spec, Fitting(), LATENCIES)
    places, latencies = encoding.drawn(60, np.random.default_rng(0))
    for place, latency in zip(places, latencies, strict=True):
        params = encoding.params(place)
        assert ("distill.temperature" in params) == (float(params["distill.kd_weight"]) > 1.0)
        assert LATENCIES[network_of(spec, params)] == latency
        again = encoding.params(encoding.place(params))
        assert again == {name: pytest.approx(value) for name, value in params.items()}
    features = encoding.features(places, latencies)
    assert np.isfinite(features).all()
    assert features.shape == (60, encoding.groups[-1].stop + 1)  # and what is expected of the error


def _ran(number: int, state: State, curve: tuple[float, ...]) -> TrialRecord:
    """A trial of one network, with numbers of its own."""
    params: Params = {
        "model.arch": "mobilenetv3_small_100",
        "model.input_size": 64,
        "optim.learning_rate": 1e-3 + 1e-4 * number,
        "augment.strength": 0.1 * number,
        "distill.kd_weight": 1.0 + number / 10,
    }
    network = network_of(study(), params)
    error = min(curve) if state is State.COMPLETE else None
    return TrialRecord(
        number,
        state,
        f"{number:04d}-{network.arch}-64px",
        params,
        "",
        error,
        None,
        LATENCIES[network],
        len(curve),
        curve=curve,
    )


FLAT = [_ran(number, State.COMPLETE, (12.0, *[8.0 + number % 3] * 15)) for number in range(12)]


def test_nothing_is_modelled_before_the_startup_trials_or_of_two_that_finished() -> None:
    spec = study()
    sampler = EhviSampler(
        spec, TrialModel(spec, Fitting(), LATENCIES, error_prior=ErrorPrior((0.0,) * len(TERMS)))
    )
    assert sampler.propose(spec.startup_trials - 1, FLAT, 0) is None
    assert sampler.propose(spec.startup_trials, FLAT, 0) is not None
    assert sampler.propose(spec.startup_trials + 3, FLAT, 0) is not None
    assert sampler.propose(40, FLAT[:2], 0) is None
    assert sampler.propose(40, FLAT[:3], 0) is not None
    expecting = _sampler(spec)  # what earlier studies let expect is a model of its own
    assert expecting.propose(spec.startup_trials // 2 - 1, FLAT, 0) is None
    assert expecting.propose(spec.startup_trials // 2, [], 0) is not None


def test_what_was_tried_is_passed_over_for_the_next_best() -> None:
    sampler = _sampler(study())
    refused: list[Params] = []

    def is_tried(params: Params) -> bool:
        refused.append(params)
        return len(refused) < 4

    best = sampler.propose(20, FLAT, 7)
    fourth = sampler.propose(20, FLAT, 7, is_tried=is_tried)
    assert best is not None
    assert fourth is not None
    assert refused[0] == best.params
    assert fourth.params == refused[3] != best.params
    assert sampler.propose(20, FLAT, 7, is_tried=lambda _: True) is None


def test_of_two_paused_trials_that_promise_the_same_the_one_with_less_left_goes_on() -> None:
    early, late = (_ran(number, State.PAUSED, (12.0, *[5.0] * more)) for number, more in ((20, 2), (21, 11)))
    proposal = _sampler(study()).propose(22, FLAT, 0, offered=(), paused=[early, late])
    assert proposal is not None
    assert proposal.paused == 21


def test_a_fit_of_another_space_is_not_taken() -> None:
    sampler = _sampler(study())
    sampler.propose(20, FLAT, 0)
    fit = sampler.fit
    assert fit is not None
    assert _sampler(study(), fit).fit == fit
    for lengths in (fit.lengths.lengths[:-1], (*fit.lengths.lengths, 1.0)):
        other = Fit(fit.moment, Lengths(lengths, 0.1))
        assert _sampler(study(), other).fit is None


def test_what_an_epoch_costs_is_learnt_where_a_study_is_charged_by_the_second() -> None:
    def ran(number: int, arch: str, seconds: float) -> TrialRecord:
        record = _ran(number, State.COMPLETE, (12.0, *[8.0] * 15))
        params = record.params | {"model.arch": arch, "model.input_size": SIZES[number % 2]}
        latency = LATENCIES[network_of(study(), params)]
        return replace(record, params=params, latency_ms_p50=latency, seconds=seconds)

    known = [ran(number, "lcnet_050", 16.0) for number in range(4)]
    known += [ran(number, "efficientnet_lite0", 160.0) for number in range(4, 8)]
    asked = [ran(10, "lcnet_050", 0.0), ran(11, "efficientnet_lite0", 0.0)]

    def prices(spec: StudySpec, known: list[TrialRecord]) -> list[float]:
        model = TrialModel(spec, Fitting(), LATENCIES)
        features = model.features([model.view(record) for record in asked])
        return model.prices([model.view(record) for record in known], features).tolist()

    by_second = study().model_copy(update={"charge": "seconds"})
    cheap, dear = prices(by_second, known)
    assert (cheap, dear) == (pytest.approx(2 / 11, rel=0.3), pytest.approx(20 / 11, rel=0.3))
    assert prices(by_second, known[:2]) == prices(study(), known) == [1.0, 1.0]


@pytest.mark.parametrize(("rising", "goes_on"), [(1.0, 20), (-1.0, 21)])
def test_of_two_paused_trials_that_promise_the_same_the_cheaper_one_goes_on(
    rising: float, goes_on: int
) -> None:
    timed = [replace(record, seconds=16.0 * 2.0 ** (rising * record.number)) for record in FLAT]
    waiting = [_ran(number, State.PAUSED, (12.0, *[5.0] * 4)) for number in (20, 21)]
    spec = study().model_copy(update={"charge": "seconds"})
    proposal = _sampler(spec).propose(22, timed, 0, offered=(), paused=waiting)
    assert proposal is not None
    assert proposal.paused == goes_on


def test_a_study_of_failed_and_paused_trials_alone_goes_on() -> None:
    waiting = [_ran(number, State.PAUSED, (12.0, 9.0)) for number in (10, 11)]
    failed = [_ran(number, State.FAIL, ()) for number in (0, 1)]
    for known in (waiting, failed, [*failed, *waiting], [_ran(0, State.RUNNING, ())]):
        assert (
            _sampler(study()).propose(12, known, 0, paused=[r for r in known if r.state is State.PAUSED])
            is not None
        )
