"""A record of learning curves: what a study trained, as one small Parquet table that replays read.

One row a COMPLETE trial: ``number``, ``name``, ``params`` (JSON), ``latency_ms_p50``, ``parameters`` (null
where unknown), ``val_mae_years``, the error after each epoch, and ``epoch_s``, the seconds that each took
(null where unknown, absent in older tables). The study's spec, which holds the space, is JSON in the schema's
metadata under ``agesearch.study``; it names files without their folders. Errors are kept to a thousandth of a
year, seconds to a thousandth.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from agesearch.errors import InputError, command
from agesearch.metrics import EPOCH_SECONDS, LATENCY_MS_P50, VAL_MAE_YEARS, or_nan
from agesearch.models.architectures import Network
from agesearch.models.identity import read_model_manifest
from agesearch.models.manifest import MANIFEST
from agesearch.provenance import name_of, without_places
from agesearch.search.model.error_prior import TABLES, ErrorPrior
from agesearch.search.space.conditions import active, has_all
from agesearch.search.space.space import Params, network_of
from agesearch.search.stopping.curves import errors_of
from agesearch.search.store.records import State, StudyFolder, TrialRecord
from agesearch.specs import StudySpec, TeachersSpec, parse_spec
from agesearch.storage import Location
from agesearch.training.curve import read_curve

PARAMETERS = "parameters"
_METADATA = b"agesearch.study"

SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("params", pa.string(), nullable=False),
        pa.field(LATENCY_MS_P50, pa.float64(), nullable=False),
        pa.field(PARAMETERS, pa.int64()),
        pa.field(VAL_MAE_YEARS, pa.list_(pa.float32()), nullable=False),
        pa.field(EPOCH_SECONDS, pa.list_(pa.float32())),
    ]
)

#: Columns that tables did not have at first.
_NEWER = frozenset({EPOCH_SECONDS})

#: A replay needs a choice to make.
MIN_ROWS = 4


@dataclass(frozen=True)
class CurveRow:
    """One trained configuration: latency in ms, error in years after each epoch, and the seconds that each
    epoch took (none where that is not known).
    """

    number: int
    name: str
    params: Params
    latency_ms: float
    parameters: int | None
    errors: tuple[float, ...]
    seconds: tuple[float, ...] = ()

    @property
    def point(self) -> tuple[float, float]:
        """(error of the best epoch, latency)."""
        return min(self.errors), self.latency_ms


@dataclass(frozen=True)
class CurveTable:
    """Rows to replay, the study they come from, how many of its trials have no whole curve, and what earlier
    studies are taken to let expect of it.
    """

    spec: StudySpec
    rows: tuple[CurveRow, ...]
    left_out: int = 0
    error_prior: ErrorPrior = TABLES

    @property
    def latencies(self) -> dict[Network, float]:
        """Latency in ms of each network that the rows have."""
        return {network_of(self.spec, row.params): row.latency_ms for row in self.rows}

    @property
    def has_seconds(self) -> bool:
        """Whether it is known of every row what each epoch took."""
        return all(len(row.seconds) == len(row.errors) for row in self.rows)


def study_record(study: StudyFolder) -> CurveTable:
    """The COMPLETE trials of a study with their whole curves; the others are counted as left out."""
    trials = study.trials()
    spec = study.header().spec
    rows = [row for row in (_recorded(study, spec, trial) for trial in trials) if row is not None]
    return CurveTable(spec, tuple(rows), len(trials) - len(rows))


def record_table(study: StudyFolder) -> pa.Table:
    """A study as the table above."""
    return as_table(study_record(study))


def as_table(record: CurveTable) -> pa.Table:
    """Rows and their study as one table."""
    rows = [
        {
            "number": row.number,
            "name": row.name,
            "params": json.dumps(without_places(row.params), sort_keys=True),
            LATENCY_MS_P50: row.latency_ms,
            PARAMETERS: row.parameters,
            VAL_MAE_YEARS: [round(error, 3) for error in row.errors],
            EPOCH_SECONDS: [round(seconds, 3) for seconds in row.seconds] or None,
        }
        for row in record.rows
    ]
    document = {"spec": _without_folders(record.spec), "left_out": record.left_out}
    return pa.Table.from_pylist(rows, SCHEMA.with_metadata({_METADATA: json.dumps(document).encode()}))


def read_record(where: str) -> CurveTable:
    """A record from a study folder or a Parquet table; an ``InputError`` where it is neither or small."""
    place = Location.of(where)
    study = StudyFolder(place)
    record = study_record(study) if study.exists() else _from_table(place)
    if len(record.rows) < MIN_ROWS:
        raise InputError(
            f"'{where}' has {len(record.rows)} trials with a whole learning curve, a replay needs at least "
            f"{MIN_ROWS}; let a study train more with: "
            f"{command('resume', study.root if study.exists() else 'STUDY', '--trials', 2 * MIN_ROWS)}"
        )
    return record


def _from_table(place: Location) -> CurveTable:
    if not place.exists() or not str(place).endswith(".parquet"):
        raise InputError(f"'{place}' is neither a study folder nor a Parquet table of learning curves.")
    table = place.read_table()
    document = (table.schema.metadata or {}).get(_METADATA)
    missing = [name for name in SCHEMA.names if name not in table.column_names and name not in _NEWER]
    if document is None or missing:
        lacks = f"the column {missing[0]}" if missing else "its study's spec in the schema's metadata"
        raise InputError(
            f"'{place}' is not a record of learning curves, it lacks {lacks}: "
            "make one with 'agesearch replay STUDY --save FILE.parquet'."
        )
    known = json.loads(document)
    spec = parse_spec(StudySpec, known["spec"], f"'{place}'")
    columns = [name for name in SCHEMA.names if name in table.column_names]
    rows = [_from_row(row, spec, place) for row in table.select(columns).to_pylist()]
    return CurveTable(spec, tuple(rows), int(known.get("left_out", 0)))


def _from_row(row: dict[str, object], spec: StudySpec, place: Location) -> CurveRow:
    params, errors = json.loads(str(row["params"])), row[VAL_MAE_YEARS]
    lacking = [name for name in active(spec, params) if name not in params]
    if lacking or not isinstance(errors, list) or not errors:
        what = f"no value of '{lacking[0]}'" if lacking else "no learning curve"
        raise InputError(f"'{place}': trial {row['number']} has {what}.")
    parameters, seconds = row[PARAMETERS], row.get(EPOCH_SECONDS)
    return CurveRow(
        int(str(row["number"])),
        str(row["name"]),
        params,
        float(str(row[LATENCY_MS_P50])),
        None if parameters is None else int(str(parameters)),
        tuple(errors),
        tuple(seconds) if isinstance(seconds, list) else (),
    )


def _without_folders(spec: StudySpec) -> dict[str, Any]:
    """The spec as JSON, its files by their names alone; its teachers are nobody else's."""
    document: dict[str, Any] = without_places(spec.model_dump(mode="json"))
    document["weights"] = {arch: name_of(file) for arch, file in spec.weights.items()}
    document["teachers"] = TeachersSpec().model_dump(mode="json")
    start = spec.student.model.weights
    document["student"]["model"]["weights"] = None if start is None else name_of(start)
    return document


def _recorded(study: StudyFolder, spec: StudySpec, trial: TrialRecord) -> CurveRow | None:
    errors = trial.curve or errors_of(study.trial_folder(trial))
    complete = trial.state is State.COMPLETE and trial.latency_ms_p50 is not None
    if not complete or len(errors) != trial.epochs or not has_all(spec, trial.params):
        return None
    folder = study.trial_folder(trial)
    parameters = read_model_manifest(folder).parameters if (folder / MANIFEST).exists() else None
    latency = or_nan(trial.latency_ms_p50)
    seconds = _epoch_seconds(folder, len(errors))
    return CurveRow(trial.number, trial.name, trial.params, latency, parameters, errors, seconds)


def _epoch_seconds(folder: Location, epochs: int) -> tuple[float, ...]:
    """The seconds of each epoch by the curve in a trial's folder; none where one is missing."""
    seconds = [row.get(EPOCH_SECONDS) for row in read_curve(folder)]
    known = tuple(float(value) for value in seconds if value is not None)
    return known if len(known) == epochs else ()
