"""Beliefs of the user: what may be said, how trials are drawn by it, and that a wrong one is overcome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_rows import made_record, study

from agesearch.errors import InputError
from agesearch.search.model.error_prior import TERMS, ErrorPrior
from agesearch.search.replay.engine import full_volume, replay
from agesearch.search.sampler.prior import Priors
from agesearch.search.sampler.sampler import StudySampler
from agesearch.search.space.limits import Fitting
from agesearch.search.space.scaling import scaled_study
from agesearch.search.space.space import load_space
from agesearch.specs import Prior, StudySpec, parse_spec

NOTHING_EXPECTED = ErrorPrior((0.0,) * len(TERMS))
RATE, STRENGTH, WEIGHT = "optim.learning_rate", "augment.strength", "distill.kd_weight"


def believed(spec: StudySpec, priors: dict[str, dict[str, Any]]) -> StudySpec:
    space = {
        name: dimension.model_copy(update={"prior": Prior(**priors[name])}) if name in priors else dimension
        for name, dimension in spec.space.items()
    }
    return spec.model_copy(update={"space": space})


def test_a_space_says_what_it_believes_and_older_digests_stay(tmp_path: Path) -> None:
    text = """
        student: {model: {arch: lcnet_050}}
        space:
          optim.learning_rate: {low: 0.0001, high: 0.01, log: true, prior: 0.002}
          model.input_size: {choices: [64, 96], prior: {value: 96, confidence: high}}
          model.head: {choices: [softmax, coral, corn], prior: {weights: {softmax: 3, corn: 0.5}}}
    """
    (tmp_path / "space.yaml").write_text(text)
    space = load_space(str(tmp_path / "space.yaml")).space
    assert space[RATE].prior == Prior(value=0.002)
    assert space["model.input_size"].prior.weigh([64, 96]) == [1 / 8, 1.0]  # type: ignore[union-attr]
    weights = space["model.head"].prior.weigh(["softmax", "coral", "corn"])  # type: ignore[union-attr]
    assert weights == pytest.approx([1.0, 1 / 3, 1 / 6])
    assert "prior" not in str(study().model_dump())


@pytest.mark.parametrize(
    ("dimension", "told"),
    [
        ({"low": 0.1, "high": 1.0, "prior": 2.0}, r"prior is 2, but must be from low to high .0\.1 to 1."),
        ({"low": 0.1, "high": 1.0, "prior": {"weights": {"a": 1}}}, "the prior of a range is a number"),
        ({"low": 0.1, "high": 1.0, "prior": "high"}, "the prior of a range is a number"),
        ({"choices": [1, 2], "prior": 3}, "prior names 3, but the choices are 1, 2"),
        (
            {"choices": ["a", "b"], "prior": {"weights": {"c": 1.0}}},
            "names c, but the choices are a, b",
        ),
        ({"choices": ["a", "b"], "prior": {"weights": {"a": 0}}}, "must be greater than 0"),
        ({"choices": ["a"], "prior": {}}, "either a value or weights"),
        ({"choices": ["a"], "prior": {"value": "a", "confidence": "sure"}}, "confidence"),
    ],
)
def test_what_is_no_prior_is_told(dimension: dict[str, Any], told: str) -> None:
    document = {"student": {"model": {"arch": "lcnet_050"}}, "space": {"distill.kd_weight": dimension}}
    with pytest.raises(InputError, match=told):
        parse_spec(StudySpec, document, "'space.yaml'")


def test_trials_begin_at_the_likeliest_and_every_second_one_is_drawn_from_the_prior() -> None:
    spec = believed(
        study(), {RATE: {"value": 2e-3, "confidence": "high"}, "model.arch": {"value": "lcnet_050"}}
    )
    sampler, plain = StudySampler(spec, Fitting()), StudySampler(study(), Fitting())
    first = sampler.drawn(0)
    assert first[RATE] == pytest.approx(2e-3)
    assert first["model.arch"] == "lcnet_050"
    assert [sampler.drawn(number) for number in (1, 3)] == [plain.drawn(number) for number in (1, 3)]
    near = np.log([float(sampler.drawn(2 * number)[RATE]) for number in range(40)])
    far = np.log([float(plain.drawn(2 * number)[RATE]) for number in range(40)])
    assert np.abs(near - np.log(2e-3)).mean() < 0.6 * np.abs(far - np.log(2e-3)).mean()
    proposed = sampler.propose(0, [])
    assert proposed is not None
    assert proposed.params == first, "the networks that are timed are those of the first trials"


def test_a_belief_fades_and_excludes_nothing() -> None:
    spec = believed(study(), {RATE: {"value": 3e-4, "confidence": "high"}})
    priors, column = Priors(spec), sorted(spec.space).index(RATE)
    places = np.full((3, len(spec.space)), np.nan)
    places[:2, column] = (0.0, 1.0)  # the third has no rate: nothing is believed of it
    early, late = priors.weights(places, spec.startup_trials), priors.weights(places, 100)
    assert early[0] == late[0] == early[2] == 1.0
    assert 0.0 < early[1] < 1e-9 < 0.7 < late[1] < 1.0


def test_a_belief_shrinks_with_the_epochs() -> None:
    spec = study().with_values({"trials": 5})
    space = {**spec.space, "optim.epochs": {"choices": [10, 20], "prior": {"weights": {"20": 3.0}}}}
    shrunk = scaled_study(parse_spec(StudySpec, spec.model_dump() | {"space": space}, "it"), 0.5)
    assert shrunk.space["optim.epochs"].prior == Prior(weights={"10": 3.0})


def test_a_good_belief_finds_the_front_earlier_and_a_wrong_one_costs_little() -> None:
    record = replace(made_record(count=60, epochs=4), error_prior=NOTHING_EXPECTED)
    goal, spec = 0.95 * full_volume(record.rows), record.spec

    def epochs(beliefs: dict[str, dict[str, Any]]) -> float:
        told = replace(record, spec=believed(spec.with_values({"startup_trials": 8}), beliefs))
        runs = [replay(told, "ehvi", seed).spent_to(goal) for seed in range(3)]
        return sum(epoch for epoch in runs if epoch is not None)

    usual = epochs({})
    best = {RATE: {"value": 2e-3}, STRENGTH: {"value": 0.8}, WEIGHT: {"value": 2.0}}
    wrong = {RATE: {"value": 1e-2}, STRENGTH: {"value": 2.0}, WEIGHT: {"value": 0.1}}
    assert epochs(best) < 0.8 * usual
    assert epochs(wrong) < 1.5 * usual
