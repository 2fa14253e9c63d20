"""What earlier studies let expect of errors: where it comes from, what it says, that trials overrule it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from replay_rows import NETWORKS, SIZES, made_record, study

from agesearch.errors import InputError
from agesearch.models.architectures import Network
from agesearch.search.model.encoding import Encoding
from agesearch.search.model.error_prior import TABLES, TERMS, ErrorPrior, terms_of
from agesearch.search.model.gaussian_process import GaussianProcess, Lengths
from agesearch.search.model.trial_model import TrialModel
from agesearch.search.replay.curve_table import read_record
from agesearch.search.replay.engine import full_volume, replay
from agesearch.search.replay.tables import left_out_priors, terms_and_errors
from agesearch.search.sampler.ehvi import EhviSampler
from agesearch.search.space.limits import Fitting
from agesearch.search.space.space import Params
from agesearch.specs import Choices, StudySpec

RECORDS = Path(__file__).parents[2] / "reports" / "search"
LATENCIES = {
    Network(arch, size): ms * (size / 64) ** 2 for arch, (ms, _, _) in NETWORKS.items() for size in SIZES
}
REVERSED = ErrorPrior(tuple(-weight for weight in TABLES.weights))
NONE = ErrorPrior((0.0,) * len(TERMS))
PARAMS: Params = {
    "model.arch": "mobilenetv3_small_100",
    "model.input_size": 64,
    "optim.learning_rate": 3e-3,
    "augment.strength": 0.5,
    "distill.kd_weight": 1.0,
}


def _expected(changes: Params, spec: StudySpec | None = None) -> float:
    encoding = Encoding(spec or study(), Fitting(), LATENCIES)
    params = PARAMS | changes
    place = encoding.place(params)[None, :]
    return float(encoding.features(place, np.array([encoding.latency(params)]))[0, -1])


def test_the_weights_are_those_that_the_tables_of_the_report_give() -> None:
    tables = [terms_and_errors(read_record(str(place))) for place in sorted(RECORDS.glob("*.parquet"))]
    assert len(tables) == 4
    assert ErrorPrior.learnt(tables) == TABLES


def test_slower_networks_and_trained_weights_and_usual_rates_let_expect_less_error() -> None:
    assert _expected({"model.arch": "efficientnet_lite0"}) < _expected({"model.arch": "lcnet_050"})
    assert _expected({"model.input_size": 96}) < _expected({"model.input_size": 64})
    assert _expected({}) < _expected({"optim.learning_rate": 3e-4})
    assert _expected({}) < _expected({"augment.strength": 2.0})
    started = study().model_copy(update={"weights": {"lcnet_050": "weights.pth"}})
    assert _expected({"model.arch": "lcnet_050"}, started) < _expected({"model.arch": "lcnet_050"})
    one = np.ones(2)
    far = TABLES.expected(terms_of(np.array([0.1, 10.0]), 3.0 * one, 9.0 * one, one))
    assert far[0] == far[1], "beyond what was seen it stays as it is"


def test_where_nothing_is_known_nothing_is_expected_and_all_first_trials_are_drawn() -> None:
    space = {
        "distill.kd_weight": study().space["distill.kd_weight"],
        "model.arch": Choices(choices=("lcnet_050",)),
    }
    spec = StudySpec.model_validate(
        study().model_dump() | {"space": {n: d.model_dump() for n, d in space.items()}}
    )
    assert Encoding(study(), Fitting(), LATENCIES).expects
    assert not Encoding(spec, Fitting(), LATENCIES).expects
    assert not Encoding(study(), Fitting(), LATENCIES, NONE).expects
    assert EhviSampler(spec, TrialModel(spec, Fitting(), LATENCIES)).propose(9, [], 0) is None


def test_a_model_without_targets_says_what_is_expected_and_with_them_what_they_tell() -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.random((30, 2)), np.linspace(-2, 2, 30)])
    groups, lengths = [slice(0, 1), slice(1, 2)], Lengths((1.0, 1.0), 0.1)
    untold = GaussianProcess(rows[:0], np.empty(0), np.empty(0), groups)
    mean, deviation = untold.predict(rows)
    assert (np.diff(mean) > 0.0).all()
    assert (deviation > 0.05).all()
    assert untold.left_out().shape == (0,)
    contrary = GaussianProcess(rows, -0.1 * rows[:, 2], np.zeros(30), groups, lengths)
    assert np.corrcoef(contrary.predict(rows)[0], rows[:, 2])[0, 1] < -0.9
    left_out = contrary.left_out()
    one_less = GaussianProcess(rows[1:], -0.1 * rows[1:, 2], np.zeros(29), groups, lengths)
    assert left_out[0] == pytest.approx(one_less.predict(rows[:1])[0][0], abs=0.02)


def test_what_is_expected_finds_the_front_earlier_and_the_contrary_is_overruled() -> None:
    record = made_record(count=60, epochs=4)
    record = replace(record, spec=record.spec.with_values({"startup_trials": 8}))
    goal = 0.95 * full_volume(record.rows)

    def epochs(prior: ErrorPrior) -> float:
        told = replace(record, error_prior=prior)
        return math.fsum(replay(told, "ehvi", seed).spent_to(goal) or math.inf for seed in range(3))

    nothing = epochs(NONE)
    assert epochs(TABLES) < nothing
    assert epochs(REVERSED) < 1.3 * nothing


def test_left_out_a_table_tells_nothing_of_itself() -> None:
    few, more = made_record(count=30), made_record(count=40, seed=1)
    first, second = left_out_priors([few, more])
    assert first.error_prior == ErrorPrior.learnt([terms_and_errors(more)])
    assert second.error_prior == ErrorPrior.learnt([terms_and_errors(few)])
    with pytest.raises(InputError, match="two tables at least"):
        left_out_priors([few])
