"""Limits known before training: which networks fit, what is proposed, and what the front then holds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from agesearch.errors import InputError
from agesearch.metrics import VAL_MAE_YEARS
from agesearch.models.architectures import Network
from agesearch.search.run.suggester import Suggester
from agesearch.search.sampler.sampler import StudySampler
from agesearch.search.sampler.window import VISIBLE, TrialWindow
from agesearch.search.space.limits import Fitting, NetworkLimits
from agesearch.search.store.history import History, TrialCost
from agesearch.search.store.records import State, StudyFolder, StudyHeader, TrialRecord
from agesearch.specs import Choices, ModelSpec, Range, RungSpec, StudySpec, TrainSpec, parse_spec
from agesearch.storage import Location

SIZES = {"mobilenetv3_small_050": 600_000, "mobilenetv2_100": 2_300_000, "lcnet_050": 900_000}
LATENCIES: dict[Network, float | str] = {
    Network(arch, size): ms * size / 64
    for arch, ms in zip(SIZES, (0.5, 1.5, 0.3), strict=True)
    for size in (64, 96)
}


def spec(**changes: object) -> StudySpec:
    space = {
        "model.arch": Choices(choices=tuple(SIZES)),
        "model.input_size": Choices(choices=(64, 96)),
        "optim.learning_rate": Range(low=1e-4, high=1e-2, log=True),
    }
    student = TrainSpec(model=ModelSpec(arch="lcnet_050"))
    return StudySpec(student=student, space=space, startup_trials=4).model_copy(update=changes)


def fitting(study: StudySpec, known: dict[Network, float | str] = LATENCIES) -> Fitting:
    limits = NetworkLimits(study, known.__getitem__, lambda model: SIZES[model.arch])
    for network in known:
        limits.fits(network)
    return limits.fitting()


def test_only_networks_within_all_limits_fit() -> None:
    assert not fitting(spec()).left_out
    both = fitting(spec(max_latency_ms=0.7, max_params=800_000))
    assert both.networks == {Network("mobilenetv3_small_050", 64)}
    assert both.left_out[Network("mobilenetv2_100", 64)] == "2,300,000 parameters"
    assert both.left_out[Network("lcnet_050", 96)] == "900,000 parameters"


def weighed(study: StudySpec, asked: list[str]) -> NetworkLimits:
    """Files of four bytes a parameter; sessions of a megabyte for each pixel of the side."""

    def latency(network: Network) -> float | str:
        asked.append(str(network))
        return LATENCIES[network]

    limits = NetworkLimits(
        study,
        latency,
        lambda model: SIZES[model.arch],
        lambda model: 4 * SIZES[model.arch],
        lambda network: network.input_size * 1_000_000,
    )
    for network in LATENCIES:
        limits.fits(network)
    return limits


def test_files_and_sessions_that_are_too_large_are_never_trained() -> None:
    asked: list[str] = []
    found = weighed(spec(max_bytes=3_600_000, max_memory_mb=64.0), asked).fitting()
    assert found.networks == {Network("mobilenetv3_small_050", 64), Network("lcnet_050", 64)}
    assert found.left_out[Network("mobilenetv2_100", 64)] == "9,200,000 bytes"
    assert found.left_out[Network("lcnet_050", 96)] == "96.0 MB of memory"
    assert not [name for name in asked if name.startswith("mobilenetv2")], "a timing takes longer"
    with pytest.raises(
        InputError, match=r"within max_bytes 5: the smallest file, of mobilenetv3_small_050 at 64 px, has 2,4"
    ):
        weighed(spec(max_bytes=5), []).fitting()
    with pytest.raises(InputError, match=r"max_memory_mb 1: .*the most modest, .* takes 64.0 MB of memory"):
        weighed(spec(max_memory_mb=1.0), []).fitting()
    suggester = Suggester(History.in_memory(study := spec(max_bytes=2_400_000)), study, found)
    assert {record.arch for _ in range(6) if (record := suggester.suggest())} <= {
        "mobilenetv3_small_050", "lcnet_050"
    }  # fmt: skip


def test_a_file_that_cannot_be_made_leaves_its_network_to_fail() -> None:
    def broken(model: ModelSpec) -> int:
        raise RuntimeError("no exporter takes it")

    limits = NetworkLimits(spec(max_bytes=5), lambda _: "it cannot be exported", lambda _: 1, broken)
    assert limits.fits(Network("lcnet_050", 64))


def test_limits_that_came_later_change_no_older_document() -> None:
    assert not {"max_bytes", "max_memory_mb"} & set(spec().model_dump(mode="json"))
    assert spec(max_bytes=1).digest() != spec().digest()


def test_a_network_without_latency_is_left_to_fail_with_its_reason() -> None:
    broken = Network("lcnet_050", 64)
    found = fitting(spec(max_latency_ms=0.6), LATENCIES | {broken: "it cannot be exported"})
    assert broken in found.networks


def test_where_nothing_fits_the_message_says_what_comes_nearest() -> None:
    with pytest.raises(
        InputError, match=r"within max_latency_ms 0.1: the fastest, lcnet_050 at 64 px, takes 0.30"
    ):
        fitting(spec(max_latency_ms=0.1))
    with pytest.raises(InputError, match=r"max_params 5: the smallest, mobilenetv3_small_050, has 600,000"):
        fitting(spec(max_params=5))


def test_only_what_fits_is_proposed_before_and_after_tpe_has_learnt() -> None:
    study = spec(max_latency_ms=0.5)  # 2 of 6 networks
    history = History.in_memory(study)
    suggester = Suggester(history, study, fitting(study))
    for _ in range(16):
        record = suggester.suggest()
        assert record is not None
        key = Network(record.arch, record.input_size)
        assert float(LATENCIES[key]) <= 0.5
        history.knows_latency(record.number, float(LATENCIES[key]))
        # the more latency the better the error: TPE would go where it must not
        history.complete(record.number, {VAL_MAE_YEARS: 9.0 - float(LATENCIES[key])}, TrialCost(1, 1.0))


def test_a_space_that_hardly_fits_still_gets_a_proposal() -> None:
    study = spec()
    study = study.model_copy(
        update={"space": study.space | {"model.input_size": Range(low=32, high=431, integer=True)}}
    )
    only = Fitting(study, frozenset({Network("lcnet_050", 333)}), {Network("lcnet_050", 64): "slow"})
    proposal = StudySampler(study, only).propose(0, [])
    network = proposal.params["model.arch"], proposal.params["model.input_size"]
    assert (*network, proposal.redrawn) == ("lcnet_050", 333, 20)


def done(number: int, mae: float, state: State = State.COMPLETE) -> TrialRecord:
    params = {"model.arch": "lcnet_050", "model.input_size": 64, "optim.learning_rate": 1e-3 + 1e-6 * number}
    name = f"{number:04d}-lcnet_050-64px"
    return TrialRecord(number, state, name, params, val_mae_years=mae, latency_ms_p50=0.3 + number % 7)


def test_tpe_sees_the_front_the_newest_and_what_runs_but_no_more() -> None:
    records = [done(number, 5.0 + math.sin(number)) for number in range(3 * VISIBLE)]
    records.append(done(len(records), 0.0, State.RUNNING))
    shown = TrialWindow(records).shown()
    assert len(shown) == VISIBLE + 1
    assert [record.number for record in shown] == sorted(record.number for record in shown)
    assert shown[-1].state is State.RUNNING
    best = min(records[:-1], key=lambda record: float(record.val_mae_years or 0))
    assert best in shown
    assert records[-2] in shown
    assert TrialWindow(records[:50]).shown() == records[:50]


def seen(records: list[TrialRecord]) -> list[TrialRecord]:
    return TrialWindow(records).shown()


def test_a_proposal_depends_on_the_records_and_not_on_what_was_shown_before() -> None:
    records = [done(number, 5.0 + math.sin(number)) for number in range(VISIBLE + 40)]
    kept = StudySampler(spec(), Fitting())
    for number in (5, 40, VISIBLE - 1, VISIBLE + 20, VISIBLE + 40, 30):
        fresh = StudySampler(spec(), Fitting()).propose(number, seen(records[:number]))
        assert kept.propose(number, seen(records[:number])) == fresh
    running = [*records[:20], done(20, 0.0, State.RUNNING)]
    kept.propose(21, running)
    ended = [*records[:20], done(20, 1.0)]
    assert kept.propose(21, ended) == StudySampler(spec(), Fitting()).propose(21, ended)


def test_failed_configurations_are_avoided_and_errors_above_the_limit_too() -> None:
    def params(rate: float) -> dict[str, object]:
        return {"model.arch": "lcnet_050", "model.input_size": 64, "optim.learning_rate": rate}

    low = [done(number, 5.0) for number in range(20)]
    low = [TrialRecord(**{**vars(r), "params": params(2e-4 + r.number * 1e-5)}) for r in low]
    high = [done(20 + number, 4.0) for number in range(20)]
    high = [TrialRecord(**{**vars(r), "params": params(8e-3 + r.number * 1e-5)}) for r in high]
    failed = [TrialRecord(**{**vars(r), "state": State.FAIL, "val_mae_years": None}) for r in high]

    def rates(records: list[TrialRecord], study: StudySpec) -> list[float]:
        draws = [StudySampler(study, Fitting()).propose(40 + seed, records).params for seed in range(15)]
        return sorted(float(draw["optim.learning_rate"]) for draw in draws)

    assert rates([*low, *failed], spec())[10] < 2e-3
    assert rates([*low, *high], spec())[4] > 2e-3
    worse = [TrialRecord(**{**vars(r), "val_mae_years": 9.0, "latency_ms_p50": 0.01}) for r in high]
    assert rates([*low, *worse], spec(max_mae_years=6.0))[10] < 2e-3


def test_the_front_and_its_file_hold_only_what_is_within_the_limit(tmp_path: Path) -> None:
    folder = StudyFolder(Location.of(tmp_path))
    study = spec(max_mae_years=6.0)
    source = {"path": "/x", "content_digest": "0" * 16}
    header = {
        "spec": study.model_dump(),
        "dataset": source,
        "teacher": source,
        "crop": {},
        "spec_digest": "0",
    }
    folder.write_header(parse_spec(StudyHeader, {**header, "created": "now"}, "test"))
    folder.write_trials([done(0, 7.0), done(1, 5.0), done(2, 4.0)])
    assert [record.number for record in folder.front()] == [1, 2]


def test_yaml_off_turns_the_rungs_off() -> None:
    document = spec().model_dump() | {"stopping": "off"}
    assert spec().rungs is None  # by default trials are stopped by evidence
    assert parse_spec(StudySpec, document | {"rungs": "off"}, "test").rungs is None
    assert parse_spec(StudySpec, document | {"rungs": "on"}, "test").rungs == RungSpec()
    kept = parse_spec(StudySpec, document | {"rungs": {"margin": 0.8}}, "test").rungs
    assert kept is not None
    assert (kept.margin, kept.eta) == (0.8, 2.0)
    with pytest.raises(InputError, match=r"rungs.margin"):
        parse_spec(StudySpec, document | {"rungs": {"margin": 1.2}}, "test")


def test_a_suggestion_reads_no_trial_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suggester = Suggester(History.open(tmp_path / "s.db", spec()), spec())

    def read(*_: object, **__: object) -> list[object]:
        raise AssertionError("every trial was read, which takes seconds once there are thousands")

    monkeypatch.setattr("optuna.storages.RDBStorage.get_all_trials", read)
    begun = [suggester.suggest() for _ in range(3)]
    assert [record.number for record in begun if record] == [0, 1, 2]
