"""Opens a study's history whatever a crash has left of it: ``optuna.db`` and ``trials.parquet`` tell the same
story, and each can be made anew from the other.

A database that is damaged, gone, or behind ``trials.parquet`` is rebuilt from it; the old file is kept
beside, as ``optuna.db.damaged-1``. ``study.yaml`` has its copy in the database. What cannot be repaired is
told in one line. No Ray.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from agesearch.errors import AgeSearchError, ConflictError, InputError, command, first_line
from agesearch.metrics import AT_END, LATENCY_MS_P50, VAL_CS5, VAL_MAE_YEARS, or_nan
from agesearch.search.space.space import optuna_distributions
from agesearch.search.store.events import EventListener, Note
from agesearch.search.store.history import STUDY_NAME, History, above_limits
from agesearch.search.store.records import (
    CURVE,
    DATABASE,
    INHERITED,
    NODE,
    PAUSED,
    STUDY_FILE,
    TRIALS_FILE,
    State,
    StudyFolder,
    StudyHeader,
    TrialRecord,
)
from agesearch.specs import StudySpec, load_yaml
from agesearch.storage import sqlite_url

#: What writing a study's records can raise.
WRITE_ERRORS = (AgeSearchError, SQLAlchemyError, StorageInternalError)

#: The study's attribute that holds the text of ``study.yaml``.
_HEADER = "study.yaml"
#: Seconds to wait for another tool that holds the database.
_WAIT_S = 2.0
#: SQLite's own files beside a database: what was not written through when its process ended.
_BESIDE = ("", "-journal", "-wal", "-shm")


def open_history(folder: StudyFolder, spec: StudySpec, on_event: EventListener) -> History:
    """The history of a study, new or old, repaired where it must be; a note says what was done.

    Raises ``InputError`` where neither the database nor ``trials.parquet`` can be read.
    """
    recorded, unreadable = _read_trials(folder)
    fault = _fault_of(folder.database)
    if fault is None and not unreadable and not recorded:
        return History.open(folder.database, spec)
    if not fault and fault is not None:
        history = History.open(folder.database, spec)
        merged = _merged(history.records, recorded)
        if merged == history.records:
            return history
        why = f"lacks trials that {TRIALS_FILE} has finished"
    elif recorded:
        merged, why = recorded, f"is damaged ({fault})" if fault else "is gone"
    else:
        what = f"is damaged ({fault})" if fault else "is gone"
        raise InputError(
            f"'{folder.database}' {what}, and {TRIALS_FILE} {unreadable or 'is gone'}: nothing tells which "
            "trials were finished. Put one of them back, or start a new study with another --out."
        )
    kept = _rebuilt(folder.database, spec, merged)
    aside = f"; the old file is {kept.name}" if kept else ""
    on_event(Note(f"{folder.database.name} {why}: rebuilt with {len(merged)} trials{aside}."))
    return History.open(folder.database, spec)


def write_fault(error: BaseException) -> str:
    """Why a study's records could not be written, in one line: one of ``WRITE_ERRORS``."""
    if isinstance(error, AgeSearchError):
        return first_line(error)
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return f"{DATABASE} could not be written: {first_line(getattr(cause, 'orig', None) or error)}."


def keep_header(folder: StudyFolder, header: StudyHeader) -> None:
    """Write ``study.yaml``, and its copy into the database, which has to be there."""
    folder.write_header(header)
    text = header.model_dump_json()
    try:
        study = optuna.load_study(study_name=STUDY_NAME, storage=sqlite_url(folder.database))
        if study.user_attrs.get(_HEADER) != text:
            study.set_user_attr(_HEADER, text)
    except WRITE_ERRORS as error:
        raise AgeSearchError(write_fault(error)) from error


def refuse_headless(folder: StudyFolder) -> None:
    """A ``ConflictError`` where trials lie in a folder without ``study.yaml``: they are no new study's."""
    if (folder.root / TRIALS_FILE).exists() and not folder.exists():
        raise ConflictError(
            f"'{folder.root}' holds {TRIALS_FILE} but no {STUDY_FILE}: choose another --out, or restore it "
            f"from {DATABASE} with: {command('resume', folder.root)}"
        )


def mended_header(folder: StudyFolder, on_event: EventListener) -> StudyHeader:
    """The study's header; from its copy in the database where ``study.yaml`` is gone or no YAML at all.

    A ``study.yaml`` that can be read and breaks a rule was edited: that stays an ``InputError``.
    """
    try:
        return folder.header()
    except InputError as error:
        copy = _copied_header(folder) if _is_unreadable(folder) else None
        if copy is None:
            raise
        folder.write_header(copy)
        on_event(
            Note(f"{STUDY_FILE} cannot be read ({first_line(error)}); restored from {folder.database.name}.")
        )
        return copy


def _copied_header(folder: StudyFolder) -> StudyHeader | None:
    if _fault_of(folder.database) != "":
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.load_study(study_name=STUDY_NAME, storage=sqlite_url(folder.database))
        return StudyHeader.model_validate_json(study.user_attrs[_HEADER])
    except Exception:  # an older study has none; what is wrong with study.yaml is told then
        return None


def _is_unreadable(folder: StudyFolder) -> bool:
    """Whether ``study.yaml`` is gone, no YAML, or torn: none of its required parts may be missing."""
    try:
        document = load_yaml(str(folder.root / STUDY_FILE))
    except InputError:
        return True
    needed = {name for name, field in StudyHeader.model_fields.items() if field.is_required()}
    return not (isinstance(document, dict) and needed <= document.keys())


def _read_trials(folder: StudyFolder) -> tuple[list[TrialRecord], str]:
    """What ``trials.parquet`` says, and why it says nothing."""
    try:
        return folder.trials(), ""
    except InputError:
        return [], "cannot be read either"


def _fault_of(database: Path) -> str | None:
    """Why a database cannot be used: empty where it can, None where there is none."""
    if not database.exists():
        return None
    try:
        with closing(
            sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=_WAIT_S)
        ) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:  # locked, not readable: nothing that a new file would change
        raise AgeSearchError(f"'{database}' cannot be opened: {error}.") from error
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == "ok" else first_line(Exception(found))


def _merged(known: Iterable[TrialRecord], recorded: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The known trials, and from the others those they lack, begun or finished."""
    merged = {record.number: record for record in known}
    for record in recorded:
        old = merged.get(record.number)
        if old is None or (record.state.ended and not old.state.ended):
            merged[record.number] = record
    return [merged[number] for number in sorted(merged)]


def _rebuilt(database: Path, spec: StudySpec, records: Iterable[TrialRecord]) -> Path | None:
    """Write a database with these trials in the old one's place; returns where the old one is kept."""
    fresh = database.with_name(f".{database.name}.rebuilt")
    for end in _BESIDE:
        fresh.with_name(f"{fresh.name}{end}").unlink(missing_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(sqlite_url(fresh))
    try:
        study = optuna.create_study(
            study_name=STUDY_NAME, storage=storage, directions=["minimize", "minimize"]
        )
        for record in records:
            study.add_trial(_frozen(record, spec))
    finally:
        storage.engine.dispose()
    aside = _set_aside(database)
    os.replace(fresh, database)
    return aside


def _set_aside(database: Path) -> Path | None:
    if not database.exists():
        return None
    turn = 1
    while (aside := database.with_name(f"{database.name}.damaged-{turn}")).exists():
        turn += 1
    for end in _BESIDE:
        file = database.with_name(f"{database.name}{end}")
        if file.exists():
            os.replace(file, database.with_name(f"{aside.name}{end}"))
    return aside


def _frozen(record: TrialRecord, spec: StudySpec) -> FrozenTrial:
    """A record as Optuna keeps it, with its times."""
    space = optuna_distributions(spec.space)
    is_paused = record.state is State.PAUSED
    notes = {
        "name": record.name,
        "reason": record.reason,
        "epochs": record.epochs,
        "seconds": record.seconds,
        "retries": record.retries,
        CURVE: list(record.curve),
        INHERITED: record.inherited,
        NODE: record.node,
        PAUSED: is_paused or None,
        VAL_CS5: record.val_cs5,
        VAL_MAE_YEARS: record.val_mae_years,
        LATENCY_MS_P50: record.latency_ms_p50,
        **{name: getattr(record, name) for name in AT_END},
    }
    complete = record.state is State.COMPLETE
    objectives = [or_nan(record.val_mae_years), or_nan(record.latency_ms_p50)]
    trial = create_trial(
        state=TrialState.RUNNING if is_paused else TrialState[record.state.value],
        params=record.params,
        distributions={name: space[name] for name in record.params},
        values=objectives if complete else None,
        user_attrs={name: value for name, value in notes.items() if value is not None},
        intermediate_values=dict(enumerate(record.curve, start=1)),
        constraints=above_limits(spec, objectives, notes) if complete else None,
    )
    if record.started:
        trial.datetime_start = datetime.fromisoformat(record.started).astimezone().replace(tzinfo=None)
        if record.state.ended:
            trial.datetime_complete = trial.datetime_start + timedelta(seconds=record.seconds)
    return trial
