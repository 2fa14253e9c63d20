"""The trackers there are: MLflow and TensorBoard, written by their own libraries (extra ``track``)."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from agesearch.errors import InputError
from agesearch.metrics import AT_END, LATENCY_MS_P50, VAL_CS5, VAL_MAE_YEARS
from agesearch.search.store.records import State, StudyHeader, TrialRecord
from agesearch.search.tracking.tracker import Tracker, study_id
from agesearch.storage import Location, sqlite_url

_EXPERIMENT = "agesearch"
_STUDY, _TRIAL, _STATE, _REASON = "agesearch.study", "agesearch.trial", "agesearch.state", "agesearch.reason"

#: What MLflow knows of how a run ended; the trial's own state and reason are tags.
_ENDED = frozenset(state.value for state in State if state.ended)
_STATUS = {State.COMPLETE: "FINISHED", State.PRUNED: "KILLED", State.FAIL: "FAILED"}

#: A server that is down shall be given up soon; what the user has set stays.
_MLFLOW_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}

_PAGE = 1000


class MLflowTracker:
    """Runs of the experiment ``agesearch``: one for the study, and one nested under it for each trial."""

    def __init__(self, where: str) -> None:
        _needs("mlflow", "mlflow-skinny")
        self._where = where
        self._client: Any = None
        self._experiment = ""
        self._parent = ""
        self._study = ""
        self._runs: dict[int, str] = {}
        self._ended: set[int] = set()
        self._steps: dict[int, int] = {}

    def open(self, header: StudyHeader, folder: str, records: Sequence[TrialRecord]) -> None:
        """Connect, find the runs of this study or make the study's, and write what ended meanwhile."""
        self._client, self._experiment = _mlflow(self._where)
        self._study = study_id(header)
        self._find_runs()
        tags = {
            _STUDY: self._study,
            "agesearch.folder": folder,
            "agesearch.trials": str(header.spec.trials),
            "agesearch.spec": header.spec_digest,
            "agesearch.dataset": header.dataset.content_digest,
            "agesearch.teacher": header.teacher.content_digest,
        }
        if self._parent:
            self._note(self._parent, tags)
            self._client.update_run(self._parent, status="RUNNING")
        else:
            self._parent = self._create(folder, tags)
        for record in records:
            if record.number not in self._ended:
                self.begin(record, record.epochs)
                for epoch, error in enumerate(record.curve, start=1):
                    self.epoch(record.number, epoch, {VAL_MAE_YEARS: error})
                self.end(record)

    def begin(self, record: TrialRecord, epochs: int) -> None:
        """A trial's run, new or the one it had; its epochs are not written twice."""
        from mlflow.entities import Param

        number = record.number
        if number in self._runs:
            run = self._runs[number]
            self._client.update_run(run, status="RUNNING")
            history = self._client.get_metric_history(run, VAL_MAE_YEARS)
            self._steps[number] = max((metric.step for metric in history), default=0)
            return
        tags = {_STUDY: self._study, _TRIAL: str(number), "mlflow.parentRunId": self._parent}
        tags |= {_STATE: State.RUNNING.value, "agesearch.folder": record.folder}
        run = self._runs[number] = self._create(record.name, tags)
        params = [Param(name, str(value)) for name, value in {**record.params, "epochs": epochs}.items()]
        self._client.log_batch(run, params=params)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch's figures."""
        if epoch > self._steps.get(number, 0):
            self._measure(number, metrics, epoch)
            self._steps[number] = epoch

    def end(self, record: TrialRecord) -> None:
        """A trial's result, state and reason; it may have ended before it began to train."""
        if record.number not in self._runs:
            self.begin(record, record.epochs)
        final = {
            f"final_{VAL_MAE_YEARS}": record.val_mae_years,
            f"final_{VAL_CS5}": record.val_cs5,
            **{f"final_{name}": getattr(record, name) for name in AT_END},
            LATENCY_MS_P50: record.latency_ms_p50,
            "epochs": record.epochs,
            "seconds": record.seconds,
        }
        self._measure(record.number, final, record.epochs)
        run = self._runs[record.number]
        self._note(
            run, {_STATE: record.state.value, _REASON: record.reason, "agesearch.retries": record.retries}
        )
        self._client.set_terminated(run, _STATUS[record.state])
        self._ended.add(record.number)

    def park(self, record: TrialRecord) -> None:
        """A trial that was cut short or paused: its run goes on when the trial does."""
        if record.number in self._runs:
            self._client.set_terminated(self._runs[record.number], "KILLED")

    def close(self, outcome: str) -> None:
        """The study's run is over."""
        self._note(self._parent, {"agesearch.outcome": outcome})
        self._client.set_terminated(self._parent, "FINISHED" if outcome == "complete" else "KILLED")

    def _find_runs(self) -> None:
        token: str | None = None
        query = f"tags.`{_STUDY}` = '{self._study}'"
        while token != "":
            page = self._client.search_runs([self._experiment], query, max_results=_PAGE, page_token=token)
            for run in page:
                tags = run.data.tags
                if _TRIAL not in tags:
                    self._parent = run.info.run_id
                    continue
                self._runs[int(tags[_TRIAL])] = run.info.run_id
                if tags.get(_STATE) in _ENDED:
                    self._ended.add(int(tags[_TRIAL]))
            token = page.token or ""

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        return str(self._client.create_run(self._experiment, run_name=name, tags=dict(tags)).info.run_id)

    def _measure(self, number: int, metrics: Mapping[str, float | None], step: int) -> None:
        from mlflow.entities import Metric

        moment = int(time.time() * 1000)
        found = [
            Metric(name, float(value), moment, step)
            for name, value in metrics.items()
            if value is not None and math.isfinite(value)
        ]
        self._client.log_batch(self._runs[number], metrics=found)

    def _note(self, run: str, tags: Mapping[str, object]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run, tags=[RunTag(name, str(value)) for name, value in tags.items()])


class TensorBoardTracker:
    """A folder a study in the log folder, and in it one a trial: scalars by epoch, text, hyperparameters."""

    def __init__(self, where: str) -> None:
        _needs("tensorboard", "tensorboard")
        if "://" in where:
            raise InputError(f"--log tensorboard={where} must be a folder on this machine.")
        self._root = Location.of(where)
        self._folder = self._root
        self._records: dict[int, TrialRecord] = {}
        self._writers: dict[int, Any] = {}

    def open(self, header: StudyHeader, folder: str, records: Sequence[TrialRecord]) -> None:
        """Find the study's folder, and write what ended without one of its own."""
        self._folder = self._root / f"{folder}-{study_id(header)[:8]}"
        for record in records:
            if not (self._folder / record.name).exists():
                self.begin(record, record.epochs)
                for epoch, error in enumerate(record.curve, start=1):
                    self.epoch(record.number, epoch, {VAL_MAE_YEARS: error})
                self.end(record)

    def begin(self, record: TrialRecord, epochs: int) -> None:
        """A trial begins or goes on; its writer is opened with its first figures."""
        self._records[record.number] = record

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch's figures; what an interrupted attempt wrote of this epoch and later ones is dropped."""
        writer = self._writer(number, epoch)
        for name, value in metrics.items():
            writer.add_scalar(name, value, epoch)

    def end(self, record: TrialRecord) -> None:
        """A trial's result, state and reason."""
        self._records[record.number] = record
        writer = self._writer(record.number, None)
        writer.add_text("state", record.state.value, record.epochs)
        if record.reason:
            writer.add_text("reason", record.reason, record.epochs)
        final = {
            f"final/{VAL_MAE_YEARS}": record.val_mae_years,
            f"final/{VAL_CS5}": record.val_cs5,
            **{f"final/{name}": getattr(record, name) for name in AT_END},
            f"final/{LATENCY_MS_P50}": record.latency_ms_p50,
        }
        known = {name: value for name, value in final.items() if value is not None}
        params = {name: _plain(value) for name, value in record.params.items()}
        writer.add_hparams({**params, "state": record.state.value}, known, run_name=".")
        self._close(record.number)

    def park(self, record: TrialRecord) -> None:
        """A trial that was cut short or paused: its folder is written on when the trial goes on."""
        self._close(record.number)

    def close(self, outcome: str) -> None:
        """Close whatever is open."""
        for number in list(self._writers):
            self._close(number)

    def _writer(self, number: int, epoch: int | None) -> Any:
        if number not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            place = (self._folder / self._records[number].name).make_dir()
            self._writers[number] = SummaryWriter(str(place.local()), purge_step=epoch, flush_secs=10)
        return self._writers[number]

    def _close(self, number: int) -> None:
        writer = self._writers.pop(number, None)
        if writer is not None:
            writer.close()


TRACKERS: dict[str, Callable[[str], Tracker]] = {"mlflow": MLflowTracker, "tensorboard": TensorBoardTracker}


def _needs(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise InputError(f"--log {module} needs the package {package}: pip install 'agesearch[track]'.")


def _mlflow(where: str) -> tuple[Any, str]:
    """A client, and the experiment's id. A folder gets an SQLite store: MLflow has given up its files."""
    for name, value in _MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for logger in ("mlflow", "alembic"):  # after the import, which sets levels of its own
        logging.getLogger(logger).setLevel(logging.ERROR)
    uri, artifacts = where, None
    if "://" not in where and where not in ("databricks", "databricks-uc"):
        folder = Location.of(where).make_dir().local()
        uri, artifacts = sqlite_url(folder / "mlflow.db"), (folder / "artifacts").as_uri()
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(_EXPERIMENT)
    if found is not None:
        return client, str(found.experiment_id)
    return client, str(client.create_experiment(_EXPERIMENT, artifact_location=artifacts))


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)
