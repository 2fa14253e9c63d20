"""The history tells Optuna the truth, and its suggestions follow from the seed and what was told."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest

from agesearch.errors import InputError
from agesearch.metrics import VAL_CS5, VAL_MAE_YEARS
from agesearch.models.architectures import Network
from agesearch.search.run.reports import COMPLETED, CUT, FAILED, NODE, OUTCOME, REASON, SECONDS, STOPPED
from agesearch.search.run.suggester import Suggester
from agesearch.search.run.trial_manager import TrialManager
from agesearch.search.run.watchdog import Death
from agesearch.search.store.events import StudyEvent, TrialFinished, TrialParked, TrialRetried
from agesearch.search.store.history import STUDY_NAME, History, TrialCost
from agesearch.search.store.records import State, StudyFolder, TrialRecord
from agesearch.specs import Choices, ModelSpec, Range, StudySpec, TrainSpec
from agesearch.storage import Location
from agesearch.training.standing import Standing
from agesearch.training.stopping import stop_requested

SMALL, LARGE = "mobilenetv3_small_050", "mobilenetv2_100"
LATENCIES: dict[Network, float | str] = {Network(SMALL, 96): 0.5, Network(LARGE, 96): 1.5}


def study_spec(seed: int = 0, trials: int = 5) -> StudySpec:
    space = {
        "model.arch": Choices(choices=(SMALL, LARGE)),
        "optim.learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "optim.epochs": Range(low=2, high=4, integer=True),
    }
    student = TrainSpec(model=ModelSpec(arch=SMALL))
    return StudySpec(student=student, space=space, seed=seed, trials=trials, startup_trials=2)


def finish(history: History, record: TrialRecord) -> TrialRecord:
    history.knows_latency(record.number, float(LATENCIES[Network(record.arch, 96)]))
    mae = 5 + 100 * record.params["optim.learning_rate"] + (record.arch == SMALL)
    return history.complete(record.number, {VAL_MAE_YEARS: mae, VAL_CS5: 0.5}, TrialCost(3, 1.5))


def opened(database: Path, seed: int = 0) -> tuple[History, Suggester]:
    spec = study_spec(seed)
    history = History.open(database, spec)
    return history, Suggester(history, spec)


def suggested(suggester: Suggester) -> TrialRecord:
    record = suggester.suggest()
    assert record is not None
    return record


def suggestions(database: Path, count: int) -> list[dict[str, object]]:
    history, suggester = opened(database)
    return [finish(history, suggested(suggester)).params for _ in range(count)]


def optuna_states(database: Path) -> list[str]:
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{database}")
    return [trial.state.name for trial in study.trials]


def test_the_same_seed_suggests_the_same_even_when_the_study_is_cut(tmp_path: Path) -> None:
    whole = suggestions(tmp_path / "a.db", 4)
    cut = suggestions(tmp_path / "b.db", 3)
    cut += suggestions(tmp_path / "b.db", 1)
    assert whole == cut
    assert len({str(params) for params in whole}) == 4


def test_another_seed_suggests_something_else(tmp_path: Path) -> None:
    first, other = (suggested(opened(tmp_path / f"{seed}.db", seed)[1]) for seed in (0, 1))
    assert first.params != other.params


def test_states_and_reasons_reach_optuna_and_come_back(tmp_path: Path) -> None:
    database = tmp_path / "s.db"
    history, suggester = opened(database)
    numbers = [suggested(suggester).number for _ in range(5)]
    for number in numbers:
        history.knows_latency(number, 0.5)
    history.complete(0, {VAL_MAE_YEARS: 6.0, VAL_CS5: 0.4}, TrialCost(3, 2.0))
    history.prune(1, "time is up after epoch 2", TrialCost(2, 1.0), mae=7.0)
    history.fail(2, "ValueError: no")
    history.complete(3, {VAL_MAE_YEARS: math.nan}, TrialCost(3, 2.0))
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
    history, suggester = opened(tmp_path / "s.db")
    first, second = suggested(suggester).number, suggested(suggester).number
    history.knows_latency(first, 0.5)
    assert history.complete(first, {}, TrialCost()).reason == "val_mae_years is missing"
    assert history.complete(second, {VAL_MAE_YEARS: 5.0}, TrialCost()).reason == "latency_ms_p50 is None"
    assert history.finished == 2


def test_a_trial_cut_while_it_was_suggested_gets_the_parameters_it_would_have_had(tmp_path: Path) -> None:
    whole = suggested(opened(tmp_path / "a.db")[1])
    History.open(tmp_path / "b.db", study_spec())
    torn = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path / 'b.db'}")
    torn.ask()  # as a driver leaves it that is killed before the first parameter is stored
    history, suggester = opened(tmp_path / "b.db")
    assert suggester.complete_params(history.running[0].number).params == whole.params


def test_a_damaged_database_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="is not a study that Optuna can open") as caught:
        History.open(tmp_path / "s.db", study_spec())
    assert "\n" not in str(caught.value)


class Books:
    """A manager on a fresh folder, with the events it sent."""

    def __init__(self, folder: Path, latencies: dict[tuple[str, int], float | str] | None = None) -> None:
        self.folder = StudyFolder(Location.of(folder))
        self.events: list[StudyEvent] = []
        spec = study_spec()
        history = History.open(self.folder.database, spec)
        self.manager = TrialManager(
            self.folder, history, spec, latencies=latencies or LATENCIES, on_event=self.events.append
        )

    def states(self) -> list[str]:
        return [record.state.value for record in self.manager.records]


def report(mae: float, epoch: int, **more: object) -> dict[str, object]:
    return {"epoch": epoch, VAL_MAE_YEARS: mae, SECONDS: 1.0, **more}


def test_the_manager_hands_out_exactly_the_trials_that_are_wanted(tmp_path: Path) -> None:
    books = Books(tmp_path)
    manager = books.manager
    handed = [manager.next_trial() for _ in range(5)]
    assert [record.number for record in handed if record] == [0, 1, 2, 3, 4]
    assert manager.next_trial() is None
    assert not manager.exhausted
    for record in handed:
        assert record is not None
        manager.began(record.number)
        manager.ended(record.number, report(6.0, 3, **{OUTCOME: COMPLETED, VAL_CS5: 0.4}))
    assert manager.exhausted
    manager.close()
    assert books.folder.trials() == manager.records
    assert [record.number for record in books.folder.front()] == [record.number for record in manager.front]
    ends = [event for event in books.events if isinstance(event, TrialFinished)]
    assert [event.finished for event in ends] == [1, 2, 3, 4, 5]


def test_the_node_that_ran_a_trial_last_stands_in_its_record(tmp_path: Path) -> None:
    books = Books(tmp_path)
    manager = books.manager
    for node in ("there (10.0.0.2)", "elsewhere (10.0.0.3)"):
        record = manager.next_trial()
        assert record is not None
        manager.began(record.number)
        manager.report(record.number, report(7.0, 1, **{NODE: node}))
        if record.number:  # its process died without a last word, and is not taken up again
            manager.stop_reason = "time is up"
            manager.died(record.number, Death("worker died"))
        else:
            manager.ended(0, report(6.0, 3, **{OUTCOME: COMPLETED, VAL_CS5: 0.4, NODE: node}))
    manager.close()
    nodes = ["there (10.0.0.2)", "elsewhere (10.0.0.3)"]
    assert [record.node for record in books.folder.trials()] == nodes
    reopened = History.open(books.folder.database, study_spec())
    assert [record.node for record in reopened.records] == nodes


def test_failures_are_told_and_counted(tmp_path: Path) -> None:
    books = Books(tmp_path)
    for end in (
        report(6.0, 3, **{OUTCOME: FAILED, REASON: "MemoryError: no room"}),
        report(math.nan, 3, **{OUTCOME: COMPLETED}),
        report(6.0, 1),
    ):
        record = books.manager.next_trial()
        assert record is not None
        books.manager.ended(record.number, end)
    assert books.states() == ["FAIL", "FAIL", "FAIL"]
    reasons = [record.reason for record in books.manager.records]
    assert reasons == ["MemoryError: no room", "val_mae_years is nan", "it ended without a result"]


def test_a_trial_whose_worker_dies_is_taken_up_again_as_long_as_it_gets_on(tmp_path: Path) -> None:
    books = Books(tmp_path)
    first = books.manager.next_trial()
    assert first is not None
    for turn in (1, 2):
        books.manager.report(first.number, report(7.0, turn))
        books.manager.died(first.number, Death("worker died"))
        assert isinstance(books.events[-1], TrialRetried)
        again = books.manager.next_trial()
        assert again is not None
        assert (again.number, again.params, again.retries) == (first.number, first.params, turn)
    books.manager.died(first.number, Death("worker died"))
    failed = books.manager.records[0]
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
    manager = Books(tmp_path).manager
    whole, early = manager.next_trial(), manager.next_trial()
    assert whole is not None
    assert early is not None
    last = {"epoch": math.nan, VAL_MAE_YEARS: mae, VAL_CS5: None, SECONDS: "soon", OUTCOME: COMPLETED}
    manager.ended(whole.number, last)
    assert manager.report(early.number, report(mae, 1))  # type: ignore[arg-type]
    manager.ended(early.number, report(mae, 1))  # type: ignore[arg-type]
    assert [record.reason for record in manager.records] == [reason, f"{reason} after epoch 1"]
    assert {record.state for record in manager.records} == {State.FAIL}


def test_a_trial_cut_for_want_of_room_waits_for_a_later_run(tmp_path: Path) -> None:
    books = Books(tmp_path)
    record = books.manager.next_trial()
    assert record is not None
    books.manager.ended(record.number, {OUTCOME: CUT, REASON: "'state.pt' could not be written: no room."})
    assert books.states() == ["RUNNING"]
    assert books.manager.halted == "'state.pt' could not be written: no room."
    assert books.manager.live == 0


def test_a_study_that_stops_asks_its_trials_for_checkpoints_and_the_next_run_asks_nobody(
    tmp_path: Path,
) -> None:
    books = Books(tmp_path)
    record = books.manager.next_trial()
    assert record is not None
    place = books.folder.trial_folder(record)
    assert not stop_requested(place)
    books.manager.wind_down("Ctrl-C")
    assert stop_requested(place)
    books.manager.ended(record.number, {"epoch": 0, OUTCOME: STOPPED})
    assert books.states() == ["RUNNING"]
    assert books.manager.exhausted
    assert isinstance(books.events[-1], TrialParked)
    books.manager.close()
    again = Books(tmp_path).manager.next_trial()
    assert again is not None
    assert again.number == record.number
    assert not stop_requested(place)


def test_a_trial_that_stops_though_nobody_asked_it_to_goes_on(tmp_path: Path) -> None:
    books = Books(tmp_path)
    record = books.manager.next_trial()
    assert record is not None
    books.manager.ended(record.number, {"epoch": 0, OUTCOME: STOPPED})
    again = books.manager.next_trial()
    assert again is not None
    assert again.number == record.number


def test_once_the_time_is_up_a_long_epoch_is_not_waited_for(tmp_path: Path) -> None:
    books = Books(tmp_path)
    short, long = books.manager.next_trial(), books.manager.next_trial()
    assert short is not None
    assert long is not None
    far = Standing(1, 1_000, 1_000_000, 100.0, 2.0, seconds=10.0)
    books.manager.stands(long.number, far)
    assert not stop_requested(books.folder.trial_folder(long))
    books.manager.stop_reason = "time is up"
    books.manager.stands(short.number, Standing(1, 999_000, 1_000_000, 100.0, 2.0, seconds=9_990.0))
    books.manager.stands(long.number, far)
    assert [stop_requested(books.folder.trial_folder(trial)) for trial in (short, long)] == [False, True]
    books.manager.ended(long.number, {"epoch": 0, OUTCOME: STOPPED})
    assert books.states() == ["RUNNING", "RUNNING"]
    assert books.manager.live == 1


def test_time_that_is_up_prunes_and_starts_nothing(tmp_path: Path) -> None:
    books = Books(tmp_path)
    record = books.manager.next_trial()
    assert record is not None
    books.manager.stop_reason = "time is up"
    assert books.manager.next_trial() is None
    epochs = books.manager.spec_of(record).optim.epochs
    assert not books.manager.report(record.number, report(7.0, epochs))  # its last epoch: let it end
    assert books.manager.report(record.number, report(7.0, 1))
    books.manager.ended(record.number, report(7.0, 1))
    pruned = books.manager.records[0]
    assert (pruned.state, pruned.reason) == (State.PRUNED, "time is up after epoch 1")
    assert books.manager.exhausted
    assert books.manager.front == []


def test_a_network_without_latency_fails_its_trials_and_no_others(tmp_path: Path) -> None:
    books = Books(tmp_path, LATENCIES | {Network(SMALL, 96): "it cannot be exported"})
    while (record := books.manager.next_trial()) is not None:
        assert record.arch == LARGE
        books.manager.ended(record.number, report(6.0, 3, **{OUTCOME: COMPLETED}))
    failed = [record for record in books.manager.records if record.state is State.FAIL]
    assert len(books.manager.records) == 5
    assert failed
    assert {record.arch for record in failed} == {SMALL}
    assert failed[0].reason == "its latency is not known: it cannot be exported"
