"""The history tells Optuna the truth, and its suggestions follow from the seed and what was told."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest

from agesearch.errors import InputError
from agesearch.metrics import VAL_CS5, VAL_MAE_YEARS
from agesearch.search.run.trial_manager import COMPLETED, CUT, FAILED, OUTCOME, REASON, SECONDS, Keeper
from agesearch.search.run.watchdog import Death
from agesearch.search.store.events import StudyEvent, TrialFinished, TrialRetried
from agesearch.search.store.history import STUDY_NAME, History, Spent
from agesearch.search.store.records import State, StudyFolder, TrialRecord
from agesearch.specs import Choices, ModelSpec, Range, StudySpec, TrainSpec
from agesearch.storage import Location

SMALL, LARGE = "mobilenetv3_small_050", "mobilenetv2_100"
LATENCIES: dict[tuple[str, int], float | str] = {(SMALL, 96): 0.5, (LARGE, 96): 1.5}


def study_spec(seed: int = 0, trials: int = 5) -> StudySpec:
    space = {
        "model.arch": Choices(choices=(SMALL, LARGE)),
        "optim.learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "optim.epochs": Range(low=2, high=4, integer=True),
    }
    student = TrainSpec(model=ModelSpec(arch=SMALL))
    return StudySpec(student=student, space=space, seed=seed, trials=trials, startup_trials=2)


def finish(history: History, record: TrialRecord) -> TrialRecord:
    history.knows_latency(record.number, float(LATENCIES[record.arch, 96]))
    mae = 5 + 100 * record.params["optim.learning_rate"] + (record.arch == SMALL)
    return history.complete(record.number, {VAL_MAE_YEARS: mae, VAL_CS5: 0.5}, Spent(3, 1.5))


def suggestions(history: History, count: int) -> list[dict[str, object]]:
    return [finish(history, history.suggest()).params for _ in range(count)]


def optuna_states(database: Path) -> list[str]:
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{database}")
    return [trial.state.name for trial in study.trials]


def test_the_same_seed_suggests_the_same_even_when_the_study_is_cut(tmp_path: Path) -> None:
    whole = suggestions(History.open(tmp_path / "a.db", study_spec()), 4)
    cut = suggestions(History.open(tmp_path / "b.db", study_spec()), 3)
    cut += suggestions(History.open(tmp_path / "b.db", study_spec()), 1)
    assert whole == cut
    assert len({str(params) for params in whole}) == 4


def test_another_seed_suggests_something_else(tmp_path: Path) -> None:
    first = History.open(tmp_path / "a.db", study_spec(seed=0)).suggest()
    other = History.open(tmp_path / "b.db", study_spec(seed=1)).suggest()
    assert first.params != other.params


def test_states_and_reasons_reach_optuna_and_come_back(tmp_path: Path) -> None:
    database = tmp_path / "s.db"
    history = History.open(database, study_spec())
    numbers = [history.suggest().number for _ in range(5)]
    for number in numbers:
        history.knows_latency(number, 0.5)
    history.complete(0, {VAL_MAE_YEARS: 6.0, VAL_CS5: 0.4}, Spent(3, 2.0))
    history.prune(1, "time is up after epoch 2", Spent(2, 1.0), mae=7.0)
    history.fail(2, "ValueError: no")
    history.complete(3, {VAL_MAE_YEARS: math.nan}, Spent(3, 2.0))
    assert optuna_states(database) == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "RUNNING"]
    again = History.open(database, study_spec())
    assert again.records == history.records
    assert [record.reason for record in again.records] == [
        "",
        "time is up after epoch 2",
        "ValueError: no",
        "val_mae_years is nan",
        "",
    ]
    pruned = again.record(1)
    assert (pruned.val_mae_years, pruned.epochs, pruned.seconds) == (7.0, 2, 1.0)
    assert [record.number for record in again.front()] == [0]
    assert (again.finished, [record.number for record in again.running]) == (4, [4])


def test_a_missing_error_or_latency_is_a_failure(tmp_path: Path) -> None:
    history = History.open(tmp_path / "s.db", study_spec())
    first, second = history.suggest().number, history.suggest().number
    history.knows_latency(first, 0.5)
    assert history.complete(first, {}, Spent()).reason == "val_mae_years is missing"
    assert history.complete(second, {VAL_MAE_YEARS: 5.0}, Spent()).reason == "latency_ms_p50 is None"
    assert history.finished == 2


def test_a_trial_cut_while_it_was_suggested_gets_the_parameters_it_would_have_had(tmp_path: Path) -> None:
    whole = History.open(tmp_path / "a.db", study_spec()).suggest()
    History.open(tmp_path / "b.db", study_spec())
    torn = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path / 'b.db'}")
    torn.ask()  # as a driver leaves it that is killed before the first parameter is stored
    history = History.open(tmp_path / "b.db", study_spec())
    assert history.take_up(history.running[0].number).params == whole.params


def test_a_damaged_database_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="is not a study that Optuna can open") as caught:
        History.open(tmp_path / "s.db", study_spec())
    assert "\n" not in str(caught.value)


class Books:
    """A keeper on a fresh folder, with the events it sent."""

    def __init__(self, folder: Path, latencies: dict[tuple[str, int], float | str] | None = None) -> None:
        self.folder = StudyFolder(Location.of(folder))
        self.events: list[StudyEvent] = []
        spec = study_spec()
        history = History.open(self.folder.database, spec)
        self.keeper = Keeper(
            self.folder, history, spec, latencies=latencies or LATENCIES, on_event=self.events.append
        )

    def states(self) -> list[str]:
        return [record.state.value for record in self.keeper.records]


def report(mae: float, epoch: int, **more: object) -> dict[str, object]:
    return {"epoch": epoch, VAL_MAE_YEARS: mae, SECONDS: 1.0, **more}


def test_the_keeper_hands_out_exactly_the_trials_that_are_wanted(tmp_path: Path) -> None:
    books = Books(tmp_path)
    keeper = books.keeper
    handed = [keeper.next_trial() for _ in range(5)]
    assert [record.number for record in handed if record] == [0, 1, 2, 3, 4]
    assert keeper.next_trial() is None
    assert not keeper.exhausted
    for record in handed:
        assert record is not None
        keeper.began(record.number)
        keeper.ended(record.number, report(6.0, 3, **{OUTCOME: COMPLETED, VAL_CS5: 0.4}))
    assert keeper.exhausted
    keeper.close()
    assert books.folder.trials() == keeper.records
    assert [record.number for record in books.folder.front()] == [record.number for record in keeper.front]
    ends = [event for event in books.events if isinstance(event, TrialFinished)]
    assert [event.finished for event in ends] == [1, 2, 3, 4, 5]


def test_failures_are_told_and_counted(tmp_path: Path) -> None:
    books = Books(tmp_path)
    for end in (
        report(6.0, 3, **{OUTCOME: FAILED, REASON: "MemoryError: no room"}),
        report(math.nan, 3, **{OUTCOME: COMPLETED}),
        report(6.0, 1),
    ):
        record = books.keeper.next_trial()
        assert record is not None
        books.keeper.ended(record.number, end)
    assert books.states() == ["FAIL", "FAIL", "FAIL"]
    reasons = [record.reason for record in books.keeper.records]
    assert reasons == ["MemoryError: no room", "val_mae_years is nan", "it ended without a result"]


def test_a_trial_whose_worker_dies_is_taken_up_again_as_long_as_it_gets_on(tmp_path: Path) -> None:
    books = Books(tmp_path)
    first = books.keeper.next_trial()
    assert first is not None
    for turn in (1, 2):
        books.keeper.progressed(first.number, report(7.0, turn))
        books.keeper.died(first.number, Death("worker died"))
        assert isinstance(books.events[-1], TrialRetried)
        again = books.keeper.next_trial()
        assert again is not None
        assert (again.number, again.params, again.retries) == (first.number, first.params, turn)
    books.keeper.died(first.number, Death("worker died"))
    failed = books.keeper.records[0]
    assert (failed.state, failed.reason) == (State.FAIL, "worker died, twice before its first epoch")
    assert failed.retries == 2


@pytest.mark.parametrize(
    ("mae", "reason"),
    [
        (math.inf, "val_mae_years is inf"),
        (-1.0, "val_mae_years is -1.0, but an error is not negative"),
        ("low", "val_mae_years is 'low', no number"),
    ],
)
def test_errors_in_years_that_cannot_be_fail_their_trial(tmp_path: Path, mae: object, reason: str) -> None:
    keeper = Books(tmp_path).keeper
    whole, early = keeper.next_trial(), keeper.next_trial()
    assert whole is not None
    assert early is not None
    last = {"epoch": math.nan, VAL_MAE_YEARS: mae, VAL_CS5: None, SECONDS: "soon", OUTCOME: COMPLETED}
    keeper.ended(whole.number, last)
    assert keeper.judged(early.number, report(mae, 1))  # type: ignore[arg-type]
    keeper.progressed(early.number, report(mae, 1))  # type: ignore[arg-type]
    keeper.ended(early.number, report(mae, 1))  # type: ignore[arg-type]
    assert [record.reason for record in keeper.records] == [reason, f"{reason} after epoch 1"]
    assert {record.state for record in keeper.records} == {State.FAIL}


def test_a_trial_cut_for_want_of_room_waits_for_a_later_run(tmp_path: Path) -> None:
    books = Books(tmp_path)
    record = books.keeper.next_trial()
    assert record is not None
    books.keeper.ended(record.number, {OUTCOME: CUT, REASON: "'state.pt' could not be written: no room."})
    assert books.states() == ["RUNNING"]
    assert books.keeper.halted == "'state.pt' could not be written: no room."
    assert books.keeper.live == 0


def test_time_that_is_up_prunes_and_starts_nothing(tmp_path: Path) -> None:
    books = Books(tmp_path)
    record = books.keeper.next_trial()
    assert record is not None
    books.keeper.stop_reason = "time is up"
    assert books.keeper.next_trial() is None
    epochs = books.keeper.spec_of(record).optim.epochs
    assert books.keeper.may_stop(record.number, report(7.0, 1))
    assert not books.keeper.may_stop(record.number, report(7.0, epochs))
    books.keeper.ended(record.number, report(7.0, 1))
    pruned = books.keeper.records[0]
    assert (pruned.state, pruned.reason) == (State.PRUNED, "time is up after epoch 1")
    assert books.keeper.exhausted
    assert books.keeper.front == []


def test_a_network_without_latency_fails_its_trials_and_no_others(tmp_path: Path) -> None:
    books = Books(tmp_path, LATENCIES | {(SMALL, 96): "it cannot be exported"})
    while (record := books.keeper.next_trial()) is not None:
        assert record.arch == LARGE
        books.keeper.ended(record.number, report(6.0, 3, **{OUTCOME: COMPLETED}))
    failed = [record for record in books.keeper.records if record.state is State.FAIL]
    assert len(books.keeper.records) == 5
    assert failed
    assert {record.arch for record in failed} == {SMALL}
    assert failed[0].reason == "its latency is not known: it cannot be exported"
