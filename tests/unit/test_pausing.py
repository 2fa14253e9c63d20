"""Trials that wait at a rung: what Optuna is told, when they go on, and that no epoch is trained twice."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from replay_rows import NETWORKS, SIZES, made_record, study

from agesearch.metrics import EPOCH, VAL_MAE_YEARS
from agesearch.models.architectures import Network
from agesearch.search.replay.engine import replay
from agesearch.search.run.reports import COMPLETED, OUTCOME
from agesearch.search.run.suggester import FIT, Suggester
from agesearch.search.run.trial_manager import TrialManager
from agesearch.search.sampler.ehvi import Proposal
from agesearch.search.sampler.sampler import StudySampler
from agesearch.search.space.limits import Fitting
from agesearch.search.store.events import Note, StudyEvent, TrialFinished, TrialPaused, TrialStarted
from agesearch.search.store.history import STUDY_NAME, History, TrialCost
from agesearch.search.store.records import State, StudyFolder, TrialRecord
from agesearch.specs import RungSpec, StoppingSpec, StudySpec
from agesearch.storage import Location

EPOCHS = 12
LATENCIES = {
    Network(arch, size): ms * (size / 64) ** 2 for arch, (ms, _, _) in NETWORKS.items() for size in SIZES
}
SPEC = study(EPOCHS).model_copy(
    update={"trials": 24, "startup_trials": 8, "seed": 2, "rungs": RungSpec(), "stopping": None}
)


def error_of(record: TrialRecord, epoch: int) -> float:
    """A curve by the trial's parameters; its noise is its number's own."""
    _, floor, _ = NETWORKS[record.arch]
    off = abs(math.log(record.params["optim.learning_rate"] / 2e-3)) + 0.5 * record.params["augment.strength"]
    rng = np.random.default_rng([record.number, epoch])
    return float(floor + off + 6.0 * math.exp(-3.0 * epoch / EPOCHS) + rng.normal(0.0, 0.15))


class Driver:
    """Trains nothing: it drives a manager as Ray Tune does, an epoch of each slot by turns."""

    def __init__(self, folder: Path, spec: StudySpec = SPEC) -> None:
        self.folder = StudyFolder(Location.of(folder))
        self.spec = spec
        self.events: list[StudyEvent] = []
        self.trained: Counter[int] = Counter()  # epochs of each trial, whoever kept the books
        self.live: list[TrialRecord] = []
        self.open()

    def open(self) -> None:
        """A new process takes the books over; what ran is taken up again."""
        self.live = []
        self.history = History.open(self.folder.database, self.spec)
        self.manager = TrialManager(
            self.folder, self.history, self.spec, latencies=LATENCIES, on_event=self.events.append
        )

    def fill(self, slots: int) -> None:
        while len(self.live) < slots and (record := self.manager.next_trial()) is not None:
            self.manager.began(record.number)
            self.live.append(record)

    def step(self, record: TrialRecord) -> None:
        """One epoch of a trial."""
        number = record.number
        self.trained[number] += 1
        epoch = self.trained[number]
        report: dict[str, Any] = {EPOCH: epoch, VAL_MAE_YEARS: error_of(record, epoch)}
        if self.manager.report(number, report):
            self.manager.ended(number, report)
            self.live.remove(record)
            return
        if epoch == EPOCHS:
            best = min(error_of(record, at) for at in range(1, EPOCHS + 1))
            self.manager.ended(number, {EPOCH: epoch, VAL_MAE_YEARS: best, OUTCOME: COMPLETED})
            self.live.remove(record)

    def run(self, slots: int, *, reopen: bool = False) -> list[TrialRecord]:
        """To the end; with ``reopen`` another process goes on at every third trial that begins."""
        turn = 0
        while not self.manager.exhausted:
            turn += not self.live
            if reopen and not self.live and turn % 3 == 0:
                self.open()
            self.fill(slots)
            for record in list(self.live):
                self.step(record)
        return self.manager.records


def paused(events: list[StudyEvent]) -> list[int]:
    return [event.record.number for event in events if isinstance(event, TrialPaused)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Driver, list[TrialRecord]]:
    driver = Driver(tmp_path_factory.mktemp("whole"))
    return driver, driver.run(1)


def test_every_trial_ends_once_and_no_epoch_is_trained_twice(
    whole: tuple[Driver, list[TrialRecord]],
) -> None:
    driver, records = whole
    waited = paused(driver.events)
    assert len(set(waited)) >= 3
    ends = [event.record.number for event in driver.events if isinstance(event, TrialFinished)]
    assert sorted(ends) == list(range(SPEC.trials))
    assert {record.state for record in records} == {State.COMPLETE, State.PRUNED}
    assert {record.number: record.epochs for record in records} == dict(driver.trained)
    for record in records:
        known = tuple(error_of(record, epoch) for epoch in range(1, record.epochs + 1))
        assert record.curve == pytest.approx(known)
        assert (record.reason == "") == (record.state is State.COMPLETE)
    begun = Counter(event.record.number for event in driver.events if isinstance(event, TrialStarted))
    went_on = [number for number in set(waited) if begun[number] > 1]
    assert went_on
    assert all(begun[number] <= waited.count(number) + 1 for number in begun)


def test_optuna_knows_of_no_trial_that_is_still_paused(whole: tuple[Driver, list[TrialRecord]]) -> None:
    driver, records = whole
    told = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{driver.folder.database}").trials
    assert [trial.state.name for trial in told] == [record.state.value for record in records]
    assert not any(trial.user_attrs.get("paused") for trial in told)


def test_a_study_that_is_cut_between_trials_goes_on_as_it_would_have(
    whole: tuple[Driver, list[TrialRecord]], tmp_path: Path
) -> None:
    cut = Driver(tmp_path)
    records = cut.run(1, reopen=True)
    before = [(record.params, record.state, record.curve) for record in whole[1]]
    assert [(record.params, record.state, record.curve) for record in records] == before
    assert paused(cut.events) == paused(whole[0].events)


def test_what_the_model_was_fitted_to_is_kept_with_the_study(
    whole: tuple[Driver, list[TrialRecord]], tmp_path: Path
) -> None:
    shutil.copy(whole[0].folder.database, tmp_path / "optuna.db")
    kept = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path}/optuna.db")
    fit = kept.user_attrs[FIT]

    def proposed() -> Proposal | None:
        history = History.open(tmp_path / "optuna.db", SPEC)
        history.latencies = LATENCIES
        return Suggester(history, SPEC).propose()

    assert proposed() == whole[0].manager.suggester.propose()
    kept.set_user_attr(FIT, fit | {"lengths": [100.0] * len(fit["lengths"])})
    other = proposed()
    assert other != whole[0].manager.suggester.propose()
    kept.set_user_attr(FIT, {"lengths": "none"})
    assert proposed() != other  # fitted anew


def test_several_at_once_finish_too_and_nothing_waits_for_nothing(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    records = driver.run(4)
    assert all(record.state.ended for record in records)
    assert driver.history.paused == []
    order = [event for event in driver.events if isinstance(event, TrialStarted | TrialPaused)]
    last = max(at for at, event in enumerate(order) if isinstance(event, TrialPaused))
    assert any(isinstance(event, TrialStarted) for event in order[last:])  # another trial took its slot


def test_without_a_pause_margin_or_with_another_sampler_nothing_is_paused(tmp_path: Path) -> None:
    off = SPEC.with_values({"rungs.pause_margin": None})
    for name, spec in (("off", off), ("tpe", SPEC.model_copy(update={"sampler": "tpe"}))):
        (tmp_path / name).mkdir()
        driver = Driver(tmp_path / name, spec)
        driver.run(1)
        assert paused(driver.events) == []


def test_a_kill_between_an_epoch_and_its_verdict_does_not_spare_the_trial(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    report_to, verdicts = driver.manager.report, list[int]()

    def killed(number: int, report: Mapping[str, Any]) -> bool:
        if report_to(number, report):
            verdicts.append(number)
        return False

    driver.manager.report = killed  # type: ignore[method-assign]
    while not verdicts:
        driver.fill(1)
        driver.step(driver.live[0])
    (number,) = verdicts
    (driver.folder.trial_folder(number) / "curve.jsonl").write_text(
        "".join(
            json.dumps({EPOCH: epoch, VAL_MAE_YEARS: error_of(driver.live[0], epoch), "epoch_s": 2.0}) + "\n"
            for epoch in range(1, driver.trained[number] + 1)
        )
    )
    driver.open()
    driver.fill(1)
    record = driver.manager.records[number]
    assert record.state in (State.PAUSED, State.PRUNED)
    assert (record.epochs, record.seconds) == (driver.trained[number], 2.0 * driver.trained[number])
    assert driver.live[0].number != number


def test_time_that_is_up_leaves_paused_trials_for_a_later_run(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    while not driver.history.paused:
        assert not driver.manager.exhausted
        driver.fill(2)
        for record in list(driver.live):
            driver.step(record)
    waiting = [record for record in driver.manager.records if record.state is State.PAUSED]
    driver.manager.stop_reason = "time is up"
    for record in list(driver.live):
        driver.manager.ended(record.number, {EPOCH: driver.trained[record.number], VAL_MAE_YEARS: 9.0})
    assert driver.manager.exhausted
    assert not driver.manager.complete
    driver.manager.close()
    assert [record for record in driver.folder.trials() if record.state is State.PAUSED] == waiting
    driver.open()
    assert [record for record in driver.manager.records if record.state is State.PAUSED] == waiting
    assert all(record.state.ended for record in driver.run(2))


def test_optuna_sees_a_paused_trial_running_with_its_reason(tmp_path: Path) -> None:
    history = History.open(tmp_path / "optuna.db", SPEC)
    record = Suggester(history, SPEC).suggest()
    assert record is not None
    number = record.number
    history.pause(number, "unlikely to reach the front", TrialCost(3, 1.5, (9.0, 8.0, 7.0)))
    again = History.open(tmp_path / "optuna.db", SPEC)
    assert again.records == history.records
    assert (len(again.paused), again.finished, again.running) == (1, 0, [])
    (trial,) = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path}/optuna.db").trials
    assert (trial.state.name, trial.user_attrs["paused"]) == ("RUNNING", True)
    again.unpause(number)
    (record,) = History.open(tmp_path / "optuna.db", SPEC).running
    assert (record.state, record.reason, record.curve) == (State.RUNNING, "", ())


def _weighed(error: float, *, new: bool = True) -> int | None:
    """The number of the paused trial that is proposed where its error was ``error`` after half its epochs."""
    network = Network("mobilenetv3_small_100", 64)
    records = []
    for number in range(12):
        final = 7.0 + number % 3
        curve = tuple(final + 3.0 - 0.25 * epoch - 0.01 * number * epoch for epoch in range(1, EPOCHS + 1))
        records.append(_record(number, State.COMPLETE, network, curve))
    waiting = _record(12, State.PAUSED, network, tuple(error + 1.0 / epoch for epoch in range(1, 7)))
    proposer = StudySampler(SPEC, Fitting())
    offered = None if new else ()
    proposal = proposer.propose(
        13, [*records, waiting], latencies=LATENCIES, offered=offered, paused=[waiting]
    )
    assert proposal is not None
    return proposal.paused


def _record(number: int, state: State, network: Network, curve: tuple[float, ...]) -> TrialRecord:
    params = {
        "model.arch": network.arch,
        "model.input_size": network.input_size,
        "optim.learning_rate": 1e-3 * (1 + number % 5),
        "augment.strength": 0.1 * number,
        "distill.kd_weight": 1.0,
    }
    done = min(curve) if state is State.COMPLETE else None
    name = f"{number:04d}-{network.arch}-{network.input_size}px"
    return TrialRecord(
        number, state, name, params, "", done, None, LATENCIES[network], len(curve), curve=curve
    )


def test_a_paused_trial_goes_on_where_it_promises_more_than_a_new_one() -> None:
    assert _weighed(5.0) == 12
    assert _weighed(30.0) is None
    assert _weighed(30.0, new=False) == 12  # and at the latest where nothing else is left


def test_a_replay_pauses_and_uses_every_row_once() -> None:
    record = made_record(count=24, epochs=EPOCHS)
    stopping, pausing = replay(record, "ehvi-rungs", 1), replay(record, "ehvi-pausing", 1)
    assert pausing.complete + pausing.stopped == 24
    assert pausing.complete >= 1
    assert pausing.spent <= 24 * EPOCHS
    assert (pausing.epochs, pausing.volumes) != (stopping.epochs, stopping.volumes)
    assert pausing == replay(record, "ehvi-pausing", 1)


EVIDENCE = SPEC.model_copy(
    update={
        "seed": 1,
        "trials": 22,
        "startup_trials": 6,
        "rungs": None,
        "stopping": StoppingSpec(evidence=4, max_loss=0.1),
    }
)


def test_trials_are_stopped_by_evidence_within_the_loss_that_is_stated_and_cut_studies_go_on_alike(
    tmp_path: Path,
) -> None:
    records = []
    for name, reopen in (("whole", False), ("cut", True)):
        (tmp_path / name).mkdir()
        driver = Driver(tmp_path / name, EVIDENCE)
        records.append(driver.run(1, reopen=reopen))
    whole, cut = records
    stopped = [record for record in whole if record.state is State.PRUNED]
    assert len(stopped) >= 3
    assert all(record.number >= EVIDENCE.startup_trials for record in stopped)
    assert 0.0 < sum(record.expected_loss or 0.0 for record in stopped) <= 0.1
    assert [(r.params, r.state, r.curve, r.expected_loss) for r in cut] == [
        (r.params, r.state, r.curve, r.expected_loss) for r in whole
    ]
    notes = [event.text for event in driver.events if isinstance(event, Note)]
    assert all(note.startswith("Nothing is stopped early: ") for note in notes)
    driver.manager.close()
    assert driver.folder.trials() == cut
