"""A search begins with networks as different as there are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from agesearch.search.sampler.sampler import StudySampler
from agesearch.search.sampler.startup import StartupNetworks
from agesearch.search.space.limits import Fitting
from agesearch.search.space.space import load_space, network_of
from agesearch.specs import StudySpec

ARCHS = ("lcnet_035", "lcnet_050", "mobilenetv3_small_050", "tinynet_e")
SIZES = (32, 48, 64)


def space_of(folder: Path, head: str = "") -> StudySpec:
    text = f"""
        student: {{model: {{arch: lcnet_050}}}}
        space:
          model.arch: {{choices: [{", ".join(ARCHS)}]}}
          model.input_size: {{choices: [{", ".join(map(str, SIZES))}]}}
          optim.learning_rate: {{low: 0.0001, high: 0.01, log: true}}
          {head}
    """
    (folder / "space.yaml").write_text(text)
    return load_space(str(folder / "space.yaml"))


def test_each_choice_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    spec = space_of(tmp_path)
    orders = set()
    for seed in range(6):
        sampler = StudySampler(spec.model_copy(update={"seed": seed}), Fitting())
        drawn = [sampler.drawn(number) for number in range(12)]
        for turn in range(3):
            assert {params["model.arch"] for params in drawn[4 * turn : 4 * turn + 4]} == set(ARCHS)
        for turn in range(4):
            assert {params["model.input_size"] for params in drawn[3 * turn : 3 * turn + 3]} == set(SIZES)
        assert len({params["optim.learning_rate"] for params in drawn}) == 12
        orders.add(tuple(str(params["model.arch"]) for params in drawn))
    assert len(orders) == 6  # the seed decides


def test_what_the_sampler_proposes_first_is_what_is_timed_first(tmp_path: Path) -> None:
    spec = space_of(tmp_path).model_copy(update={"startup_trials": 8})
    sampler = StudySampler(spec, Fitting())
    latencies = {network_of(spec, sampler.drawn(number)): 1.0 for number in range(8)}
    for number in range(8):
        proposal = sampler.propose(number, [], latencies=latencies)
        assert proposal is not None
        assert network_of(spec, proposal.params) in latencies
        assert (proposal.params == sampler.drawn(number)) is (
            number < 4
        )  # the model has its say from half on


def test_a_condition_on_a_choice_of_the_network_is_kept(tmp_path: Path) -> None:
    head = "model.head: {choices: [softmax, coral], when: {model.arch: [lcnet_035, tinynet_e]}}"
    networks = StartupNetworks(space_of(tmp_path, head))
    drawn = [networks.of(number) for number in range(24)]
    for params in drawn:
        assert ("model.head" in params) == (params["model.arch"] in ("lcnet_035", "tinynet_e"))
    assert len(Counter(params["model.arch"] for params in drawn)) == len(ARCHS)


def test_a_random_search_draws_as_it_did(tmp_path: Path) -> None:
    spec = space_of(tmp_path).model_copy(update={"sampler": "random"})
    drawn = [StudySampler(spec, Fitting()).drawn(number)["model.arch"] for number in range(8)]
    assert len(set(drawn[:4])) < 4 or len(set(drawn[4:])) < 4
