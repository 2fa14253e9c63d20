"""Which networks a study times before its first trial, and what it keeps of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from agesearch.errors import InputError
from agesearch.measure.speed.rows import SpeedRow
from agesearch.models.architectures import Network
from agesearch.progress import Progress
from agesearch.search.run.latencies import CHOICES_PER_TRIAL, fitting_trials, time_networks, timing_order
from agesearch.search.run.suggester import Suggester
from agesearch.search.sampler.sampler import StudySampler
from agesearch.search.space.limits import Fitting, Latencies
from agesearch.search.space.space import network_of, networks
from agesearch.search.store.events import Note
from agesearch.search.store.history import History
from agesearch.search.store.records import LATENCY_FILE, State, StudyFolder, TrialRecord
from agesearch.specs import Choices, ModelSpec, StudySpec, TrainSpec
from agesearch.storage import Location

ARCHS = ("lcnet_035", "lcnet_050", "mobilenetv3_small_050", "mobilenetv2_035", "resnet18", "tinynet_e")
SIZES = (48, 64, 80, 96)


def spec(**changes: object) -> StudySpec:
    space = {
        "model.arch": Choices(choices=ARCHS),
        "model.input_size": Choices(choices=SIZES),
        "optim.epochs": Choices(choices=(1, 2, 3)),
    }
    student = TrainSpec(model=ModelSpec(arch=ARCHS[0]))
    return StudySpec(student=student, space=space, startup_trials=4).model_copy(update=changes)


class Bench:
    """Times by formula: a tenth of a ms for each pixel of the side, a little more by architecture."""

    def __init__(self, root: Path) -> None:
        self.folder = StudyFolder(Location.of(root))
        self.timed: list[Network] = []
        self.events: list[object] = []

    def latency(self, model: ModelSpec) -> SpeedRow:
        network = Network.of(model)
        self.timed.append(network)
        if network.arch == "tinynet_e":
            raise RuntimeError("no exporter takes it")
        ms = model.input_size / 10 + ARCHS.index(model.arch) / 100
        return SpeedRow(
            arch=model.arch,
            input_size=model.input_size,
            threads=1,
            batch=1,
            calls=50,
            latency_ms_p50=ms,
            latency_ms_p95=ms,
            images_per_s=1000 / ms,
            hardware="test",
            versions={},
        )

    def run(self, study: StudySpec, begun: tuple[TrialRecord, ...] = ()) -> tuple[Latencies, Fitting]:
        self.timed.clear()
        self.events.clear()
        counted = {arch: 1000 * (index + 1) for index, arch in enumerate(ARCHS)}
        return time_networks(
            self.folder, study, self.latency, lambda model: counted[model.arch], begun, self.events.append
        )


@pytest.mark.parametrize("sampler", ["ehvi", "tpe", "random"])
def test_a_study_of_four_trials_times_what_its_trials_will_be(tmp_path: Path, sampler: str) -> None:
    bench, study = Bench(tmp_path), spec(trials=4, sampler=sampler)
    latencies, fitting = bench.run(study)
    assert len(bench.timed) == len(latencies) == 4
    history, free = History.in_memory(study), StudySampler(study, Fitting())
    history.latencies = latencies
    suggester = Suggester(history, study, fitting)
    for number in range(4):
        record = suggester.suggest()
        assert record is not None
        assert record.params == free.drawn(number)  # as if all 24 had been timed
        assert network_of(study, record.params) in bench.timed


def test_the_sampler_has_several_networks_for_each_trial_that_it_chooses(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    _, fitting = bench.run(spec(trials=6))
    assert len(fitting.networks) == len(bench.timed) == 4 + 2 * CHOICES_PER_TRIAL
    note = next(event.text for event in bench.events if isinstance(event, Note))
    assert note.startswith("12 of the space's 24 networks are searched")
    assert Bench(tmp_path / "large").run(spec(trials=40))[1].untimed == 0


def test_what_is_timed_follows_from_the_seed_alone() -> None:
    order = list(timing_order(spec(trials=6)))
    assert order == list(timing_order(spec(trials=6)))
    assert sorted(order) == sorted(networks(spec()))
    assert order != list(timing_order(spec(trials=6, seed=1)))


def test_a_study_that_goes_on_keeps_its_timings(tmp_path: Path) -> None:
    first = Bench(tmp_path).run(spec(trials=4))
    again = Bench(tmp_path)
    assert again.run(spec(trials=4)) == first
    assert not [network for network in again.timed if network.arch != "tinynet_e"]


def test_a_study_of_an_earlier_version_keeps_all_that_it_timed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    rows = [bench.latency(ModelSpec(arch=arch, input_size=size)) for arch in ARCHS[:5] for size in SIZES]
    (bench.folder.root / LATENCY_FILE).write_json([row.model_dump(mode="json") for row in rows])
    study = spec(trials=4)
    heads = {**study.space, "model.head": Choices(choices=("softmax", "coral"))}
    latencies, fitting = bench.run(study.model_copy(update={"space": heads}))
    assert not [network for network in bench.timed if network.arch != "tinynet_e"]
    assert {network.head for network in fitting.networks} == {"softmax", "coral"}
    own = [latencies[Network("resnet18", 48, head)] for head in ("softmax", "coral")]
    assert own == [pytest.approx(4.84)] * 2


def test_heads_are_networks_of_their_own(tmp_path: Path) -> None:
    bench, study = Bench(tmp_path), spec(trials=24, sampler="random")
    few = {"model.arch": Choices(choices=ARCHS[:1]), "model.head": Choices(choices=("softmax", "coral"))}
    bench.run(study.model_copy(update={"space": few}))
    assert sorted(bench.timed) == [Network(ARCHS[0], 96, "coral"), Network(ARCHS[0], 96, "softmax")]
    kept = (bench.folder.root / LATENCY_FILE).read_json()
    assert sorted(row["head"] for row in kept) == ["coral", "softmax"]


def test_limits_are_met_by_timing_more_and_parameters_come_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    _, fitting = bench.run(spec(trials=4, sampler="random", max_latency_ms=5.0))
    assert len(fitting.networks) == 4
    assert all(network.input_size == 48 or network.arch == "tinynet_e" for network in fitting.networks)
    _, fitting = Bench(tmp_path / "small").run(spec(trials=4, max_params=1500))
    assert fitting.networks == {Network(ARCHS[0], size) for size in SIZES}
    bench = Bench(tmp_path / "none")
    with pytest.raises(InputError, match=r"within max_params 5: the smallest, lcnet_035, has 1,000 param"):
        bench.run(spec(trials=4, max_params=5))
    assert not bench.timed


def test_a_grid_times_its_first_points_and_replaces_those_above_a_limit(tmp_path: Path) -> None:
    bench, study = Bench(tmp_path), spec(trials=4, sampler="grid")
    _, fitting = bench.run(study)
    assert bench.timed == [Network(ARCHS[0], 48), Network(ARCHS[0], 64)]
    assert not [event for event in bench.events if isinstance(event, Note)]
    limited = study.model_copy(update={"max_latency_ms": 5.0})
    _, fitting = Bench(tmp_path / "limited").run(limited)
    assert fitting_trials(limited, fitting).trials == 4
    every = spec(trials=72, sampler="grid", max_latency_ms=5.0)
    _, fitting = Bench(tmp_path / "every").run(every)
    assert fitting_trials(every, fitting).trials == 3 * 5 + 3 * 4  # tinynet_e has no latency at any size


def test_trials_that_have_begun_are_timed_whatever_they_are(tmp_path: Path) -> None:
    params: dict[str, object] = {"model.arch": "resnet18", "model.input_size": 96, "optim.epochs": 1}
    begun = TrialRecord(0, State.RUNNING, "0000-resnet18-96px", params)
    latencies, _ = Bench(tmp_path).run(spec(trials=1), (begun,))
    assert latencies[Network("resnet18", 96)] == pytest.approx(9.64)


def test_a_network_that_cannot_be_timed_says_why_and_counts_as_failed(tmp_path: Path) -> None:
    bench, study = Bench(tmp_path), spec(trials=24, sampler="random")
    latencies, _ = bench.run(study)
    assert latencies[Network("tinynet_e", 48)] == "no exporter takes it"
    progress = [event for event in bench.events if isinstance(event, Progress)]
    assert [event.done for event in progress] == list(range(len(progress)))
    assert (progress[-1].done, progress[-1].total, progress[-1].failed) == (24, 24, 4)
