"""An evaluation as files: the whole record as JSON, every figure as a row of CSV, every face as Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from agesearch.data.dataset.texts import Texts
from agesearch.errors import InputError
from agesearch.measure.evaluate import Evaluation
from agesearch.measure.intervals import Estimate
from agesearch.measure.predictions import Predictions
from agesearch.storage import Location

_COLUMNS = (
    "protocol",
    "model",
    "label_kind",
    "of",
    "name",
    "score",
    "value",
    "low",
    "high",
    "sd",
    "faces",
    "persons",
    "subsample",
)
#: Rows of predictions that are made and written at once.
_AT_ONCE = 65_536


def checked_files(record: str | None, predictions: str | None) -> None:
    """Refuse, before any work, files whose names do not say a format that is written."""
    if record is not None and not record.endswith((".json", ".csv")):
        raise InputError(f"--out is '{record}', but its name must end with .json or .csv.")
    if predictions is not None and not predictions.endswith(".parquet"):
        raise InputError(f"--predictions is '{predictions}', but its name must end with .parquet.")


def write_record(record: Evaluation, where: str) -> None:
    """The record as ``.json``, or its figures as ``.csv``."""
    if where.endswith(".csv"):
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, _COLUMNS, restval="")
        table.writeheader()
        table.writerows(tidy_rows(record))
        Location.of(where).write_text(text.getvalue())
    else:
        Location.of(where).write_json(record.model_dump(mode="json"))


def write_predictions(predictions: Mapping[str, Predictions], where: str) -> None:
    """One row a model and face, as ``PREDICTIONS`` says, written part by part; the file is there whole or not
    at all.
    """
    with (
        Location.of(where).staged() as file,
        pq.ParquetWriter(file.path, PREDICTIONS, filesystem=file.filesystem, compression="zstd") as writer,
    ):
        for name, faces in predictions.items():
            for start in range(0, len(faces), _AT_ONCE):
                writer.write_table(_predictions(name, faces.take(np.s_[start : start + _AT_ONCE])))


PREDICTIONS = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in ("sample_id", "subject_id", "sex", "ethnicity", "source")),
        pa.field("split", pa.string()),
        pa.field("fold", pa.int8()),
        pa.field("label_kind", pa.string()),
        *(pa.field(name, pa.float32()) for name in ("age", "age_std", "age_low", "age_high")),
        pa.field("predicted_age", pa.float32()),
        pa.field("spread", pa.float32()),
    ]
)


def predictions_table(predictions: Mapping[str, Predictions]) -> pa.Table:
    """One row a model and face: labels, predicted age and the PMF's standard deviation in years."""
    return pa.concat_tables([_predictions(name, faces) for name, faces in predictions.items()])


def _predictions(model: str, faces: Predictions) -> pa.Table:
    columns: dict[str, Any] = {
        "model": pa.repeat(model, len(faces)),
        "predicted_age": faces.predicted,
        "fold": pa.array(faces.fold, mask=faces.fold < 0),
    }
    arrays = []
    for field in PREDICTIONS:
        values = columns[field.name] if field.name in columns else getattr(faces, field.name)
        is_text = isinstance(values, Texts)
        arrays.append((values.to_arrow() if is_text else pa.array(values, from_pandas=True)).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=PREDICTIONS)


def tidy_rows(record: Evaluation) -> list[dict[str, Any]]:
    """Every figure as one flat row, for a CSV file: whose, of which faces, which score, and its interval."""
    rows: list[dict[str, Any]] = []
    for model in record.models:
        for kind in model.kinds:
            start = {"protocol": record.protocol, "model": model.name, "label_kind": kind.kind}
            rows += [{**start, "of": "all", "name": "", **row} for row in _figures(kind.scores)]
            for part in kind.slices:
                rows += [{**start, "of": part.by, "name": part.name, **row} for row in _figures(part.scores)]
            for turn in kind.turns:
                rows += [{**start, "of": "turn", "name": turn.turn, **row} for row in _figures(turn.scores)]
            for score, over in kind.over_turns.items():
                figure = {"value": over.mean, "low": over.low, "high": over.high, "sd": over.sd}
                rows.append(
                    {**start, "of": "turns", "name": f"mean of {over.turns}", "score": score, **figure}
                )
    for row in record.differences:
        start = {"protocol": record.protocol, "model": row.model, "label_kind": row.kind}
        rows.append(
            {**start, "of": "minus", "name": row.reference, "score": row.score, **vars(row.difference)}
        )
    return rows


def _figures(scores: Mapping[str, Estimate]) -> list[dict[str, Any]]:
    return [{"score": name, **vars(found)} for name, found in scores.items()]
