"""Conditions and variants: what is sampled, what is refused and where, and which networks come of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agesearch.errors import InputError
from agesearch.models.architectures import Network
from agesearch.search.replay.engine import place_of
from agesearch.search.run.latencies import fitting_trials
from agesearch.search.run.suggester import Suggester
from agesearch.search.sampler.sampler import StudySampler
from agesearch.search.space.conditions import active, holds, stages
from agesearch.search.space.limits import Fitting, NetworkLimits
from agesearch.search.space.space import load_space, network_of, networks, trial_spec
from agesearch.search.space.validation import random_params
from agesearch.search.store.history import History, TrialCost
from agesearch.specs import StudySpec
from agesearch.storage import Location

TEXT = """\
trials: 40
startup_trials: 4
student:
  model: {arch: lcnet_035, input_size: 64}
  distill: {kd_weight: 0}
space:
  net:
    variants:
      small: {model.arch: mobilenetv2_035, model.input_size: 48}
      large: {model.arch: resnet18}
      own: {}
  distill.kd_weight: {low: 0.0, high: 2.0, step: 0.5}
  distill.temperature: {low: 1, high: 8, when: {distill.kd_weight: {above: 0}}}
  distill.standardise: {choices: [true, false], when: {distill.temperature: {above: 2}}}
  model.dropout: {low: 0.0, high: 0.5, when: {model.arch: resnet18, net: [large]}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def study(tmp_path: Path) -> StudySpec:
    return load_space(write(tmp_path, TEXT))


def check(study: StudySpec, params: dict[str, object]) -> None:
    for name, dimension in study.space.items():
        assert (name in params) == holds(study, dimension, params)
    spec = trial_spec(study, params)
    assert Network.of(spec.model) == network_of(study, params)


def fitting(study: StudySpec, milliseconds: tuple[float, ...]) -> Fitting:
    """What fits where the three networks take so long."""
    times = dict(zip(networks(study), milliseconds, strict=True))
    limits = NetworkLimits(study, times.__getitem__, lambda _: 0)
    for network in times:
        limits.fits(network)
    return limits.fitting()


@settings(max_examples=5)
@given(seed=st.integers(0, 2**31), outcomes=st.lists(st.sampled_from("cpf"), min_size=8, max_size=10))
def test_suggestions_keep_the_conditions_and_repeat_with_the_seed(
    tmp_path_factory: pytest.TempPathFactory, seed: int, outcomes: list[str]
) -> None:
    study = load_space(write(tmp_path_factory.mktemp("space"), TEXT)).model_copy(update={"seed": seed})

    def run() -> list[dict[str, object]]:
        history = History.in_memory(study)
        suggester = Suggester(history, study)
        for number, outcome in enumerate(outcomes):
            record = suggester.suggest()
            assert record is not None
            check(study, record.params)
            history.knows_latency(number, 1.0 + number)
            if outcome == "c":
                history.complete(number, {"val_mae_years": 5.0 + number % 3}, TrialCost(1))
            elif outcome == "p":
                history.prune(number, "no", TrialCost(1))
            else:
                history.fail(number, "no")
        return [record.params for record in history.records]

    assert run() == run()


def test_what_a_condition_excludes_the_student_has_of_its_own(study: StudySpec) -> None:
    spec = trial_spec(study, {"net": "own", "distill.kd_weight": 0.0})
    assert spec == study.student
    params = {"net": "large", "distill.kd_weight": 1.0, "distill.temperature": 1.5}
    assert set(active(study, params)) == {*params, "model.dropout"}  # the chain ends at the temperature


def test_dimensions_of_one_condition_are_sampled_together_after_their_parents(study: StudySpec) -> None:
    order = stages(study.space)
    assert order[0] == ["distill.kd_weight", "net"]
    place = {name: index for index, names in enumerate(order) for name in names}
    assert place["distill.kd_weight"] < place["distill.temperature"] < place["distill.standardise"]


def test_any_optuna_tool_reads_a_trials_own_distributions(study: StudySpec, tmp_path: Path) -> None:
    import optuna

    history = History.open(tmp_path / "optuna.db", study)
    suggester = Suggester(history, study)
    for _ in range(6):
        suggester.suggest()
    trials = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/optuna.db").trials
    assert [trial.params for trial in trials] == [record.params for record in history.records]
    assert all(trial.params.keys() == trial.distributions.keys() for trial in trials)
    assert len({tuple(sorted(trial.params)) for trial in trials}) > 1
    assert History.open(tmp_path / "optuna.db", study).records == history.records


def test_only_networks_that_can_be_suggested_are_timed(study: StudySpec, tmp_path: Path) -> None:
    found = set(networks(study))
    assert found == {Network("mobilenetv2_035", 48), Network("resnet18", 64), Network("lcnet_035", 64)}
    sized = """\
student: {model: {arch: lcnet_035, input_size: 64}}
space:
  model.arch: {choices: [lcnet_035, vgg16]}
  model.input_size: {choices: [224, 256], when: {model.arch: vgg16}}
"""
    found = set(networks(load_space(write(tmp_path, sized))))
    assert found == {Network("lcnet_035", 64), Network("vgg16", 224), Network("vgg16", 256)}


def test_variants_above_a_limit_are_not_suggested(study: StudySpec) -> None:
    limited = study.model_copy(update={"max_latency_ms": 1.0})
    proposer = StudySampler(limited, fitting(limited, (0.5, 3.0, 2.0)))
    for number in range(6):
        params = proposer.propose(number, []).params
        assert params["net"] == "small"
        check(study, params)


def test_a_grid_tries_every_variant_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = TEXT.replace("trials: 40", "trials: 6\nsampler: grid").split("  distill.kd_weight: {low")[0]
    text += "  model.dropout: {choices: [0.0, 0.1], when: {net: [large, own]}}\n"
    with pytest.raises(InputError, match=r"line 1: 'trials' is 6, but the grid has 5 points"):
        load_space(write(tmp_path, text))
    proposer = StudySampler(load_space(write(tmp_path, text.replace("6", "5", 1))), Fitting())
    points = [proposer.propose(number, []).params for number in range(5)]
    assert [(point["net"], point.get("model.dropout")) for point in points] == [
        ("small", None),
        ("large", 0.0),
        ("large", 0.1),
        ("own", 0.0),
        ("own", 0.1),
    ]


def test_a_parameter_that_is_not_there_has_a_place(study: StudySpec) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    places = {len(place_of(random_params(study, rng), study.space)) for _ in range(20)}
    assert len(places) == 1


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("{above: 0}", "{over: 0}", 13, "over"),
        ("when: {distill.kd_weight", "when: {distill.kd_wait", 13, "Unknown parent 'distill.kd_wait'"),
        ("{above: 0}", "{above: 2}", 13, "is never there: its condition wants 'distill.kd_weight' above 2"),
        ("{above: 0}", "{above: 1, below: 1}", 13, "must be < below"),
        ("{above: 0}", "{}", 13, "give 'above', 'below' or both"),
        ("resnet18, net: [large]", "resnet19", 15, "to be resnet19, but it is lcnet_035, mobilenetv2_035"),
        (
            "step: 0.5}",
            "step: 0.5, when: {distill.standardise: true}}",
            12,
            "lead back to where they began: 'distill.kd_weight' -> ",
        ),
        ("input_size: 48", "input_size: 8", 9, "greater than or equal to 32"),
        ("model.input_size: 48", "model.inputs: 48", 9, "Unknown field of TrainSpec 'model.inputs'"),
        ("own: {}", "own: {model.arch: vgg16}", 11, "at least 224 px"),
        ("model.arch: resnet18}", "model.arch: vgg17}", 10, "Did you mean 'vgg16'?"),
        ("model.dropout:", "model.arch: {choices: [resnet18]}\n  model.dropout:", 15, "set by 'net' already"),
        ("net:\n", "model.head:\n", 7, "Variants need a name of their own"),
        ("own: {}", "own: 3", 11, "mapping of names to values"),
        ("own: {}", "small: {}", 11, "names 'small' a second time"),
        ("model.dropout:", "model.dropout: {choices: [0, 1]}\n  model.dropout:", 16, "a second time"),
        ("[true, false]", "!choice [true]", 14, "tag"),
        ("trials: 40", "trials: many", 1, "'trials' must be a whole number, but is 'many'"),
        ("kd_weight: 0}", "kd_weight: .nan}", 5, "distill.kd_weight"),
        ("trials: 40", "sampler: grid", 13, "A grid has no end with 'distill.temperature'"),
        ("student:\n", "teachers: {age: {model: {arch: vgg11}}}\nstudent:\n", 3, "'vgg11'"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(InputError) as caught:
        load_space(write(tmp_path, TEXT.replace(old, new)))
    assert f"space.yaml' line {line}" in str(caught.value).replace("is not valid YAML: ", "")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_that_exclude_each_other_are_found_before_a_trial_is(tmp_path: Path) -> None:
    text = "student: {model: {arch: lcnet_035}}\nspace:\n  model.arch: {choices: [lcnet_035]}\n"
    text += "  how:\n    variants:\n      file: {model.init: file, model.weights: x.pth}\n      no: {}\n"
    assert load_space(write(tmp_path, text))
    with pytest.raises(InputError, match=r"line 6: 'file': .*weights must be given"):
        load_space(write(tmp_path, text.replace(", model.weights: x.pth", "")))


def test_augmentation_is_not_searched_with_fixed_views(tmp_path: Path) -> None:
    text = "student: {model: {arch: lcnet_035}, augment: {views: 4}}\nspace:\n"
    text += "  augment.strength: {low: 0, high: 1}\n"
    with pytest.raises(InputError, match=r"line 3: 'augment.strength' cannot be searched with fixed views"):
        load_space(write(tmp_path, text))


def test_a_trial_that_inherits_starts_from_the_best_of_its_architecture(tmp_path: Path) -> None:
    text = """\
trials: 20
startup_trials: 20
student: {model: {arch: lcnet_035}}
space:
  model.arch: {choices: [lcnet_035, lcnet_050]}
  model.inherit: {choices: [none, best]}
  augment.strength: {low: 0, high: 1}
"""
    study = load_space(write(tmp_path, text))
    history = History.open(tmp_path / "optuna.db", study)
    suggester = Suggester(history, study)
    best: dict[str, tuple[float, int]] = {}
    inherited = 0
    for number in range(12):
        record = suggester.suggest()
        assert record is not None
        asked = record.params["model.inherit"] == "best"
        parent = best.get(record.arch, (0.0, None))[1]
        assert record.inherited == (parent if asked else None)
        inherited += record.inherited is not None
        history.knows_latency(number, 1.0)
        error = 5.0 + (number * 7) % 5
        history.complete(number, {"val_mae_years": error}, TrialCost(1))
        best[record.arch] = min(best.get(record.arch, (99.0, 0)), (error, number))
    assert inherited
    assert History.open(tmp_path / "optuna.db", study).records == history.records
    spec = trial_spec(
        study, {"model.arch": "lcnet_050", "model.inherit": "best"}, Location.of("/s/trials/0003")
    )
    assert (spec.model.init, spec.model.weights) == ("model", "/s/trials/0003")


def test_a_grid_ends_when_every_point_that_fits_was_tried(study: StudySpec) -> None:
    nets = study.model_copy(update={"space": {"net": study.space["net"]}, "sampler": "grid", "trials": 3})
    limited = nets.model_copy(update={"max_latency_ms": 1.0})
    assert fitting_trials(limited, fitting(limited, (0.5, 3.0, 0.6))).trials == 2
    assert fitting_trials(nets, Fitting()).trials == 3
    assert fitting_trials(study, Fitting()) == study
