"""Whatever one of a study's records suffers, the others tell its story, or one line says what is lost."""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from fake_study import write_study

from agesearch.errors import AgeSearchError, ConflictError, InputError
from agesearch.metrics import VAL_CS5, VAL_MAE_YEARS
from agesearch.search.run.suggester import Suggester
from agesearch.search.sampler.ehvi import Proposal
from agesearch.search.store import repair
from agesearch.search.store.events import Note, StudyEvent
from agesearch.search.store.history import History, TrialCost
from agesearch.search.store.records import State, StudyFolder, TrialRecord, front_of
from agesearch.search.store.repair import keep_header, mended_header, open_history, refuse_headless
from agesearch.specs import Choices, ModelSpec, Range, StudySpec, TrainSpec
from agesearch.storage import Location

SMALL, LARGE = "mobilenetv3_small_050", "mobilenetv2_100"


def study_spec() -> StudySpec:
    space = {
        "model.arch": Choices(choices=(SMALL, LARGE)),
        "optim.learning_rate": Range(low=1e-4, high=1e-2, log=True),
    }
    return StudySpec(student=TrainSpec(model=ModelSpec(arch=SMALL)), space=space, trials=6, startup_trials=2)


@cache
def _told() -> tuple[Path, list[TrialRecord]]:
    """A study of one trial of each kind, on disk: made once, since each of its steps waits for the disk."""
    folder = Path(tempfile.mkdtemp(prefix="agesearch-story-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    study = StudyFolder(Location.of(folder))
    history = open_history(study, study_spec(), lambda _: None)
    suggester = Suggester(history, study_spec())
    for number in range(5):
        suggester.suggest()
        history.knows_latency(number, 0.5 + number)
    history.complete(0, {VAL_MAE_YEARS: 6.0, VAL_CS5: 0.4}, TrialCost(3, 2.5, (8.0, 7.0, 6.0)))
    history.prune(1, "out of reach after epoch 2", TrialCost(2, 1.0, (9.0, 8.5)), mae=8.5)
    history.fail(2, "MemoryError: no room")
    history.retried(3)
    history.pause(4, "unlikely to reach the front", TrialCost(2, 1.5, (9.0, 8.0)))
    study.write_trials(history.records)
    return folder, history.records


def story(folder: Path) -> tuple[StudyFolder, list[TrialRecord]]:
    """A copy of that study in ``folder``."""
    made, records = _told()
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return StudyFolder(Location.of(folder)), list(records)


def reopened(study: StudyFolder) -> tuple[list[TrialRecord], list[str]]:
    events: list[StudyEvent] = []
    history = open_history(study, study_spec(), events.append)
    return history.records, [event.text for event in events if isinstance(event, Note)]


def test_a_sound_study_is_opened_as_it_is(tmp_path: Path) -> None:
    study, records = story(tmp_path)
    assert {record.state for record in records} == set(State)
    assert reopened(study) == (records, [])


def tear(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def scribble(file: Path) -> None:
    with open(file, "r+b") as handle:
        handle.seek(4096)
        handle.write(os.urandom(20_000))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (tear, "is damaged"),
        (scribble, "is damaged"),
        (lambda file: file.write_bytes(b"not a database" * 400), "is damaged"),
        (lambda file: file.unlink(), "is gone"),
        (lambda file: file.write_bytes(b""), "lacks trials"),
    ],
)
def test_the_database_is_rebuilt_from_the_table(
    tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    study, records = story(tmp_path)
    damage(study.database)
    again, notes = reopened(study)
    assert again == records
    assert len(notes) == 1
    assert told in notes[0]
    assert "rebuilt with 5 trials" in notes[0]
    assert (tmp_path / "optuna.db.damaged-1").exists() == (told != "is gone")
    assert reopened(study) == (records, [])


def test_an_error_of_nothing_is_an_error_and_not_a_missing_one(tmp_path: Path) -> None:
    study = StudyFolder(Location.of(tmp_path))
    history = open_history(study, study_spec(), lambda _: None)
    Suggester(history, study_spec()).suggest()
    history.knows_latency(0, 0.5)
    history.complete(0, {VAL_MAE_YEARS: 0.0, VAL_CS5: 1.0}, TrialCost(1, 1.0, (0.0,)))
    study.write_trials(history.records)
    scribble(study.database)
    records, _ = reopened(study)
    assert records == history.records
    assert (records[0].state, records[0].val_mae_years) == (State.COMPLETE, 0.0)
    assert front_of(records) == records


def test_a_rebuilt_study_suggests_what_the_old_one_would_have(tmp_path: Path) -> None:
    study, _ = story(tmp_path)

    def proposed() -> Proposal | None:
        return Suggester(open_history(study, study_spec(), lambda _: None), study_spec()).propose()

    expected = proposed()
    scribble(study.database)
    assert proposed() == expected


def test_a_database_from_before_a_trial_ended_catches_up(tmp_path: Path) -> None:
    study, records = story(tmp_path)
    before = study.database.read_bytes()
    history = open_history(study, study_spec(), lambda _: None)
    history.complete(3, {VAL_MAE_YEARS: 5.0}, TrialCost(3, 2.0))
    Suggester(history, study_spec()).suggest()
    study.write_trials(history.records)
    study.database.write_bytes(before)  # a backup that somebody put back
    again, notes = reopened(study)
    assert again == history.records
    assert "lacks trials that trials.parquet has finished" in notes[0]
    assert len(again) == len(records) + 1


@pytest.mark.parametrize("damage", [tear, lambda file: file.write_bytes(b""), lambda file: file.unlink()])
def test_a_damaged_table_costs_nothing(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    study, records = story(tmp_path)
    damage(tmp_path / "trials.parquet")
    if (tmp_path / "trials.parquet").exists():
        with pytest.raises(
            InputError,
            match=r"trials.parquet' is damaged .*; it is written from optuna.db by: agesearch resume ",
        ):
            study.trials()
    assert reopened(study) == (records, [])


def test_with_both_damaged_one_line_says_what_to_do(tmp_path: Path) -> None:
    study, _ = story(tmp_path)
    tear(study.database)
    tear(tmp_path / "trials.parquet")
    with pytest.raises(
        InputError, match=r"optuna.db' is damaged .* and trials.parquet cannot be read"
    ) as caught:
        reopened(study)
    assert "\n" not in str(caught.value)
    assert "Put one of them back" in str(caught.value)


def test_a_locked_database_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "_WAIT_S", 0.05)
    study, _ = story(tmp_path)
    holder = sqlite3.connect(study.database)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(AgeSearchError, match="optuna.db' cannot be opened: database is locked"):
            reopened(study)
    finally:
        holder.close()


_KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(f"PRAGMA journal_mode={sys.argv[2]}")
connection.execute("PRAGMA cache_spill=1"); connection.execute("PRAGMA cache_size=1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE trial_user_attributes SET value_json = value_json || 'x'")
connection.execute("CREATE TABLE junk (a)")
for index in range(200):
    connection.execute("INSERT INTO junk VALUES (?)", ("x" * 500,))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_driver_killed_while_it_wrote_leaves_the_database_as_it_was(tmp_path: Path, journal: str) -> None:
    study, records = story(tmp_path)
    subprocess.run([sys.executable, "-c", _KILLED, str(study.database), journal], check=False)
    left = {path.name for path in tmp_path.glob("optuna.db-*")}
    assert left & {"optuna.db-journal", "optuna.db-wal"}
    assert reopened(study) == (records, [])


@pytest.mark.parametrize(
    "damage", [tear, lambda file: file.write_bytes(b"\x00" * 64), lambda file: file.unlink()]
)
def test_the_study_file_is_restored_from_its_copy(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    study = write_study(Location.of(tmp_path), trials=4)
    header = study.header()
    History.open(study.database, header.spec)
    keep_header(study, header)
    damage(tmp_path / "study.yaml")
    events: list[StudyEvent] = []
    assert mended_header(study, events.append) == header
    assert study.header() == header
    assert [event.text for event in events if isinstance(event, Note)][0].startswith(
        "study.yaml cannot be read"
    )


def test_a_study_file_that_somebody_edited_wrongly_stays_theirs(tmp_path: Path) -> None:
    study = write_study(Location.of(tmp_path), trials=4)
    header = study.header()
    History.open(study.database, header.spec)
    keep_header(study, header)
    file = tmp_path / "study.yaml"
    file.write_text(file.read_text().replace("trials: 24", "trials: many"))
    with pytest.raises(InputError, match="trials"):
        mended_header(study, lambda _: None)


def test_trials_without_a_study_file_are_not_taken_into_a_new_study(tmp_path: Path) -> None:
    study, _ = story(tmp_path)
    with pytest.raises(ConflictError, match=r"holds trials.parquet but no study.yaml.*agesearch resume "):
        refuse_headless(study)
    refuse_headless(StudyFolder(Location.of(tmp_path / "new")))
