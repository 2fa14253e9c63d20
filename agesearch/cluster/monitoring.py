"""[ray] Figures of running work for Prometheus, told by Ray: the agent of the node where the work is driven
has them at its metrics port, each under its name with ``ray_`` before it, a counter with ``_total`` behind.

Whoever does the work records them as it goes on, and Ray hands them to the agent every ten seconds. A gauge
that is not set again is forgotten after twenty (Ray 2.60), so those of a dead process do not stay; those of
one that lives are told again by ``Recorder.refreshed``. Where no Ray runs in this process nothing is
recorded, and what Ray cannot record is dropped: nobody's work ends over its figures.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agesearch.progress import spoken_every

#: Seconds between two times that gauges are told.
_REFRESH_S = 5.0


class Kind(StrEnum):
    """What Prometheus knows a figure as."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True)
class Figure:
    """A figure, with its unit in its name, and the labels that it is recorded with."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]

    @property
    def exported(self) -> str:
        """The name that Prometheus reads."""
        return f"ray_{self.name}" + ("_total" if self.kind is Kind.COUNTER else "")


TRIALS = Figure("agesearch_trials", Kind.GAUGE, "Trials of a study by state", ("study", "state"))
EPOCHS = Figure("agesearch_epochs", Kind.COUNTER, "Epochs that trials finished", ("study",))
RETRIES = Figure(
    "agesearch_trial_retries",
    Kind.GAUGE,
    "How often trials were taken up again after their process died, in all runs of the study",
    ("study",),
)
LAST_PROGRESS = Figure(
    "agesearch_last_progress_timestamp_seconds",
    Kind.GAUGE,
    "When a trial of the study last gave a sign of life, in seconds since 1970",
    ("study",),
)
BEST_ERROR = Figure(
    "agesearch_best_error_years", Kind.GAUGE, "The smallest validation MAE of a COMPLETE trial", ("study",)
)
FRONT_VOLUME = Figure(
    "agesearch_front_hypervolume_ratio",
    Kind.GAUGE,
    "Share of the rectangle of 0 to 20 years and 0.1 to 100 ms (by its logarithm) that the front dominates",
    ("study",),
)
FRONT_TRIALS = Figure("agesearch_front_trials", Kind.GAUGE, "Trials on the front", ("study",))
INGESTED = Figure(
    "agesearch_ingest_records",
    Kind.COUNTER,
    "Records that an ingest is done with, by outcome: a face, or the reason why there is none",
    ("dataset", "outcome"),
)
INGEST_LEFT = Figure(
    "agesearch_ingest_records_left", Kind.GAUGE, "Records that an ingest has before it", ("dataset",)
)
TARGET_ANSWERS = Figure(
    "agesearch_target_answers",
    Kind.COUNTER,
    "A teacher's answers that work asked for: found stored beside the dataset, or computed",
    ("dataset", "origin"),
)

FIGURES = (
    TRIALS,
    EPOCHS,
    RETRIES,
    LAST_PROGRESS,
    BEST_ERROR,
    FRONT_VOLUME,
    FRONT_TRIALS,
    INGESTED,
    INGEST_LEFT,
    TARGET_ANSWERS,
)


class Recorder:
    """Records figures of one piece of work, all with its ``labels``, in the Ray that runs in this process."""

    def __init__(self, **labels: str) -> None:
        self._labels = labels
        self._made: dict[str, Any] = {}
        self._standing: dict[tuple[str, ...], tuple[Any, float, dict[str, str]]] = {}
        self._works = True

    def set(self, figure: Figure, value: float | None, **labels: str) -> None:
        """A gauge stands at ``value``; None says nothing."""
        if value is not None and (gauge := self._metric(figure)):
            self._standing[figure.name, *sorted(labels.values())] = gauge.set, float(value), labels
            self._tell(gauge.set, float(value), labels)

    def add(self, figure: Figure, count: float, **labels: str) -> None:
        """A counter rises by ``count``; nothing is said where that is not positive."""
        if count > 0 and (counter := self._metric(figure)):
            self._tell(counter.inc, float(count), labels)

    @contextmanager
    def refreshed(self) -> Iterator[None]:
        """Tell the gauges again and again within the block, in which Ray runs: they stand until then."""

        def tell() -> None:
            for record, value, labels in list(self._standing.values()):
                self._tell(record, value, labels)

        with spoken_every(_REFRESH_S, tell):
            yield

    def _metric(self, figure: Figure) -> Any:
        """Ray's object for a figure; None where no Ray runs."""
        ray: Any = sys.modules.get("ray")  # not imported here for figures that nobody would see
        if not self._works or ray is None or not ray.is_initialized():
            return None
        if figure.name not in self._made:
            try:
                from ray.util import metrics

                kind = metrics.Gauge if figure.kind is Kind.GAUGE else metrics.Counter
                self._made[figure.name] = kind(figure.name, figure.help, figure.labels)
            except Exception as error:  # whatever it is, the work goes on
                self._give_up(error)
                return None
        return self._made[figure.name]

    def _tell(self, record: Any, value: float, labels: dict[str, str]) -> None:
        try:
            if self._works:
                record(value, self._labels | labels)
        except Exception as error:  # the same
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._works = False
        logging.getLogger(__name__).debug("Ray records no figures of this work: %s", error)
