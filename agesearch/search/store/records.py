"""What a study is on disk, and how it is read: records only, no Ray, no Optuna, no torch.

A study folder holds ``study.yaml`` (the full spec, data and teacher with their digests), ``optuna.db`` (the
truth; any Optuna tool opens it), ``trials.parquet`` and ``front.json`` (the same, for readers),
``latency.json`` (the timings that the trials' latencies came from) and ``trials/0007/`` (a model folder with
its spec and learning curve).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pydantic import Field

from agesearch.ages import decade_name
from agesearch.artefacts import STUDY, STUDY_MARK, not_one
from agesearch.documents import newer
from agesearch.errors import InputError, command, first_line
from agesearch.metrics import (
    AT_END,
    LATENCY_MS_P50,
    SHIFT_YEARS,
    VAL_CS5,
    VAL_MAE_C_YEARS,
    VAL_MAE_YEARS,
    VAL_WORST_DECADE_MAE_YEARS,
    or_nan,
)
from agesearch.search.space.space import configuration_key
from agesearch.search.store.front_limits import NO_LIMITS, FrontLimits
from agesearch.search.store.pareto import front as pareto_front
from agesearch.search.store.pareto import knee
from agesearch.specs import CropSpec, Spec, StudySpec, load_spec
from agesearch.storage import Location

SCHEMA_VERSION = 1
STUDY_FILE = STUDY_MARK
DATABASE = "optuna.db"
TRIALS_FILE = "trials.parquet"
FRONT_FILE = "front.json"
LATENCY_FILE = "latency.json"
TRIALS_FOLDER = "trials"
CURVE = "curve"
INHERITED = "inherited"
EXPECTED_LOSS = "expected_loss"
NODE = "node"
PAUSED = "paused"
#: Columns that studies of earlier versions lack.
_NEWER = (CURVE, INHERITED, EXPECTED_LOSS, NODE, *AT_END)
#: How the errors that are known at a trial's end are called for a person.
WORST_DECADE = "worst decade"
_AT_END = {VAL_MAE_C_YEARS: "MAE-C", SHIFT_YEARS: "shift", VAL_WORST_DECADE_MAE_YEARS: WORST_DECADE}


class State(StrEnum):
    """How a trial stands. COMPLETE: its whole budget is trained; PRUNED: stopped before; FAIL: no result.

    PAUSED ones wait at a rung, with a checkpoint; Optuna, which has no such state, has them as RUNNING.
    """

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of the trial."""
        return self in (State.COMPLETE, State.PRUNED, State.FAIL)


#: What ``space.trial_name`` makes: ``0007-mobilenetv3_small_050-96px``.
_TRIAL_NAME = re.compile(r"(\d+)-(.+)-(\d+)px")


@dataclass(frozen=True)
class TrialRecord:
    """One trial. ``reason`` says why it was PAUSED, PRUNED or FAILed; ``folder`` is relative to the study.

    ``started`` is UTC in ISO 8601, ``seconds`` the time spent training, ``epochs`` how many were finished,
    ``retries`` how often the trial was taken up again after its process died; ``curve`` holds the error in
    years after each epoch of a trial that is over or PAUSED; ``inherited`` is the trial whose weights it
    started from; ``expected_loss`` is the share of the front's hypervolume that stopping it may have cost;
    ``node`` is where it ran last ("": not known).
    """

    number: int
    state: State
    name: str
    params: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    val_mae_years: float | None = None
    val_cs5: float | None = None
    latency_ms_p50: float | None = None
    epochs: int = 0
    started: str = ""
    seconds: float = 0.0
    retries: int = 0
    curve: tuple[float, ...] = ()
    inherited: int | None = None
    expected_loss: float | None = None
    val_mae_c_years: float | None = None
    counterfactual_shift_years: float | None = None
    val_worst_decade_mae_years: float | None = None
    val_worst_decade_first_years: float | None = None
    node: str = ""

    @property
    def folder(self) -> str:
        return f"{TRIALS_FOLDER}/{trial_id(self.number)}"

    @property
    def configuration(self) -> tuple[Hashable, ...]:
        """What tells this trial's training from others of the study: its parameters, and what it started
        from.
        """
        return (*configuration_key(self.params), self.inherited)

    @property
    def at_end(self) -> dict[str, float]:
        """What it was measured by at its end besides its error, in years by the word for it."""
        values = {word: getattr(self, name) for name, word in _AT_END.items()}
        return {word: value for word, value in values.items() if value is not None}

    def at_end_text(self, word: str, unit: str = "") -> str:
        """One of these for a person: ``9.41``, and of the worst decade which it is, ``9.41 at 60-69``; a dash
        where it was not measured.
        """
        value, first = self.at_end.get(word), self.val_worst_decade_first_years
        if value is None:
            return "–"
        at = f" at {decade_name(first)}" if word == WORST_DECADE and first is not None else ""
        return f"{value:.2f}{unit}{at}"

    @property
    def arch(self) -> str:
        """The architecture, from the name."""
        return self.name.split("-")[1] if self.name.count("-") >= 2 else ""

    @property
    def input_size(self) -> int:
        """The input side in pixels, from the name."""
        return int(self.name.rsplit("-", 1)[-1].removesuffix("px")) if self.arch else 0

    @property
    def network(self) -> str:
        """Architecture and input, for a person: ``mobilenetv3_small_050 at 96 px``."""
        return f"{self.arch} at {self.input_size} px" if self.arch else self.name

    @property
    def title(self) -> str:
        """How a person is told of the trial, everywhere: ``trial 7 mobilenetv3_small_050 at 96 px``."""
        return f"trial {self.number} {self.network}"

    def as_json(self) -> dict[str, Any]:
        """The record as a JSON object, with the parameters nested; the curve is in ``trials.parquet``."""
        return {
            "number": self.number,
            "name": self.name,
            "state": self.state.value,
            "reason": self.reason,
            VAL_MAE_YEARS: self.val_mae_years,
            VAL_CS5: self.val_cs5,
            LATENCY_MS_P50: self.latency_ms_p50,
            "epochs": self.epochs,
            "started": self.started,
            "seconds": self.seconds,
            "retries": self.retries,
            "folder": self.folder,
            INHERITED: self.inherited,
            EXPECTED_LOSS: self.expected_loss,
            NODE: self.node,
            **{name: getattr(self, name) for name in AT_END if getattr(self, name) is not None},
            "params": self.params,
        }


SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field(VAL_MAE_YEARS, pa.float64()),
        pa.field(VAL_CS5, pa.float64()),
        pa.field(LATENCY_MS_P50, pa.float64()),
        pa.field("epochs", pa.int64(), nullable=False),
        pa.field("started", pa.string(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("retries", pa.int64(), nullable=False),
        pa.field("folder", pa.string(), nullable=False),
        pa.field("params", pa.string(), nullable=False),
        pa.field(CURVE, pa.list_(pa.float64())),
        pa.field(INHERITED, pa.int64()),
        pa.field(EXPECTED_LOSS, pa.float64()),
        pa.field(NODE, pa.string()),
        *(pa.field(name, pa.float64()) for name in AT_END),
    ]
)


class StudyInput(Spec):
    """Something a study was made from: where it lay, and the digest of its content."""

    path: str
    content_digest: str


class EarlierStudy(Spec):
    """The study that another one began with: its digest, and which of its trials gave the configurations."""

    path: str
    spec_digest: str
    trials: tuple[int, ...]


class StudyHeader(Spec):
    """``study.yaml``: all it takes to run the study again, and on what it ran.

    ``scale`` is by how much the budget of the spec's file was shortened (``agesearch.search.space.scaling``);
    ``spec`` is what ran; ``like`` is the earlier study that its first trials are from.
    """

    schema_version: int = SCHEMA_VERSION
    spec: StudySpec
    dataset: StudyInput
    teacher: StudyInput
    order_teacher: StudyInput | None = None
    scale: float = 1.0
    like: EarlierStudy | None = newer(None)
    crop: CropSpec
    spec_digest: str
    created: str
    hardware: str = ""
    versions: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class StudyFolder:
    """Reads and writes the records of one study.

    ``home`` is where a study lies whose records are written on this machine and published there; None where
    ``root`` is the study's own place.
    """

    root: Location
    home: Location | None = None

    @property
    def place(self) -> Location:
        """Where the study lies for everybody."""
        return self.root if self.home is None else self.home

    def inside(self, name: str) -> StudyFolder:
        """A study in a folder of this one."""
        return StudyFolder(self.root / name, None if self.home is None else self.home / name)

    @property
    def database(self) -> Path:
        return (self.root / DATABASE).local()

    def exists(self) -> bool:
        """Whether a study was started here."""
        return (self.root / STUDY_FILE).exists()

    def header(self) -> StudyHeader:
        place = self.root / STUDY_FILE
        return _parsed_header(str(place), place.read_text())

    def write_header(self, header: StudyHeader) -> None:
        document = yaml.safe_dump(header.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (self.root / STUDY_FILE).write_text(document)

    def trial_folder(self, trial: TrialRecord | int) -> Location:
        """The model folder of a trial, where everybody finds it."""
        return _trial_folder(self.place, trial)

    def working_folder(self, trial: TrialRecord | int) -> Location:
        """Where this machine hears of a running trial, and asks it to stop: its model folder, but for a study
        that is published.
        """
        return _trial_folder(self.root, trial)

    def trials(self) -> list[TrialRecord]:
        """Every trial, by number; empty before the first has started."""
        place = self.root / TRIALS_FILE
        if not place.exists():
            return []
        try:
            table = place.read_table()
            return [_from_row(row) for row in table.select(_columns(table)).to_pylist()]
        except (InputError, pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
            why = first_line(error.__cause__ or error)
            raise InputError(
                f"'{place}' is damaged ({why}); it is written from {DATABASE} by: "
                f"{command('resume', self.root)}"
            ) from error

    def trial(self, number: int) -> TrialRecord:
        """One trial; an ``InputError`` says which numbers there are."""
        records = self.trials()
        for record in records:
            if record.number == number:
                return record
        known = f"0 to {records[-1].number}" if records else "none yet"
        raise InputError(f"The study '{self.root}' has no trial {number}; it has {known}.")

    def write_trials(self, records: Iterable[TrialRecord]) -> None:
        rows = [
            record.as_json() | {CURVE: record.curve, "params": json.dumps(record.params, sort_keys=True)}
            for record in sorted(records, key=lambda record: record.number)
        ]
        (self.root / TRIALS_FILE).write_table(pa.Table.from_pylist(rows, schema=SCHEMA))

    def front(self) -> list[TrialRecord]:
        """The trials within the study's limits that no other beats, by rising latency."""
        return front_of(self.trials(), self.limits())

    def limits(self) -> FrontLimits:
        """What the study's spec allows a trial of its front."""
        return FrontLimits.of(self.header().spec) if self.exists() else NO_LIMITS

    def write_front(self, front: Sequence[TrialRecord]) -> None:
        """``front.json``: the front by rising latency, and its knee."""
        (self.root / FRONT_FILE).write_json(
            {
                "objectives": [VAL_MAE_YEARS, LATENCY_MS_P50],
                "knee": knee_of(front).number if front else None,
                "trials": [record.as_json() for record in front],
            }
        )


@lru_cache(maxsize=8)
def _parsed_header(where: str, text: str) -> StudyHeader:
    """Whoever shows a study asks for its header a dozen times, and to parse it takes 50 ms."""
    return load_spec(StudyHeader, where, text)


def open_study(where: str | os.PathLike[str] | Location) -> StudyFolder:
    """The study at ``where``; an ``InputError`` where there is none."""
    folder = StudyFolder(Location.of(where))
    if not folder.exists():
        raise not_one(folder.root, STUDY, STUDY_FILE)
    return folder


def front_of(records: Iterable[TrialRecord], limits: FrontLimits = NO_LIMITS) -> list[TrialRecord]:
    """The COMPLETE trials that no other beats in (latency, error), none above a limit, by rising latency.

    Trials of one and the same configuration are one point: the first of them.
    """
    complete = [record for record in records if record.state is State.COMPLETE and limits.hold(record)]
    points = [(or_nan(record.latency_ms_p50), or_nan(record.val_mae_years)) for record in complete]
    return _first_of_each(complete[index] for index in pareto_front(points))


def _first_of_each(front: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The front without trials that repeat another one's configuration."""
    found: dict[Hashable, TrialRecord] = {}
    for record in front:
        known = bool(record.params)  # those of which nothing is known are told apart
        found.setdefault(record.configuration if known else record.number, record)
    return list(found.values())


def knee_of(front: Sequence[TrialRecord]) -> TrialRecord:
    """The front's knee (see ``pareto.knee``)."""
    errors = [or_nan(record.val_mae_years) for record in front]
    return front[knee(errors, [or_nan(record.latency_ms_p50) for record in front])]


def _trial_folder(root: Location, trial: TrialRecord | int) -> Location:
    return root / TRIALS_FOLDER / trial_id(trial if isinstance(trial, int) else trial.number)


def trial_id(number: int) -> str:
    """The name of a trial's folder."""
    return f"{number:04d}"


def title_of(name: str) -> str:
    """How a person is told of a trial of this name; other names (``teacher``) stay as they are."""
    found = _TRIAL_NAME.fullmatch(name)
    return f"trial {int(found[1])} {found[2]} at {found[3]} px" if found else name


def _from_row(row: dict[str, Any]) -> TrialRecord:
    values = {name: value for name, value in row.items() if name != "folder"}
    values |= {"state": State(row["state"]), "params": json.loads(row["params"])}
    return TrialRecord(**values | {CURVE: tuple(row.get(CURVE) or ()), NODE: row.get(NODE) or ""})


def _columns(table: pa.Table) -> list[str]:
    """All columns but those that the study is too old for."""
    return [name for name in SCHEMA.names if name not in _NEWER or name in table.column_names]
