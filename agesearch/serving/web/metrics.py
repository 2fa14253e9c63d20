"""What the service counts, in the words of Prometheus.

Where the environment names ``PROMETHEUS_MULTIPROC_DIR``, the counts of all replicas lie in files of that
folder (they outlive a replica that dies), and each replica tells them all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import MultiProcessValue

from agesearch.ages import MAX_AGE
from agesearch.serving.rollout.state import ServedVersion, ServiceState
from agesearch.serving.schema import ModelName, Prediction, Refusal

#: The folder that replicas share their counts in; read when prometheus_client is first imported.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_COUNTS = (1, 2, 3, 4, 6, 8, 16, 32, 64)
_AGES = tuple(range(5, int(MAX_AGE) + 1, 5))
#: Finer where the answers of two versions of a model lie.
_DIFFERENCES = (
    -40,
    -30,
    -20,
    -15,
    -10,
    -8,
    -6,
    -4,
    -3,
    -2,
    -1,
    -0.5,
    0.5,
    1,
    2,
    3,
    4,
    6,
    8,
    10,
    15,
    20,
    30,
    40,
)
REQUEST_SECONDS, ANSWER_AGE = "agesearch_request_seconds", "agesearch_answer_age_years"
SHADOW_DIFFERENCE, SHADOW_REQUESTS = "agesearch_shadow_difference_years", "agesearch_shadow_requests"
_WIDTHS = (5, 10, 15, 20, 25, 30, 40, 50, 75, 100)


class ServiceMetrics:
    """Requests, times of each step, batches, the queue, refusals, and what was answered: the ages and the
    widths of intervals tell a drift of the answers. ``model`` is the version of this replica.
    """

    def __init__(self, model: ModelName) -> None:
        _know_this_process()
        self._registry = own = CollectorRegistry()
        self._own = (model.name, model.version)
        by_model = ["model", "version"]
        self._requests = Counter(
            "agesearch_requests", "Predict requests by status", ["status", *by_model], registry=own
        )
        self._refusals = Counter("agesearch_refusals", "What was refused, by code", ["code"], registry=own)
        seconds = Histogram(
            REQUEST_SECONDS, "From the headers to the answer", by_model, registry=own, buckets=_SECONDS
        )
        self._seconds = seconds.labels(*self._own)
        steps = Histogram(
            "agesearch_step_seconds", "Steps of an image", ["step"], registry=own, buckets=_SECONDS
        )
        self._steps = {name: steps.labels(name) for name in ("queue", "decode", "detect", "crop", "forward")}
        self._batches = Histogram(
            "agesearch_batch_images", "Images of a batch", registry=own, buckets=_COUNTS
        )
        self._waiting = Histogram(
            "agesearch_waiting_images", "Images waiting as a request comes", registry=own, buckets=_COUNTS
        )
        images = Counter("agesearch_images", "Images answered", by_model, registry=own)
        ages = Histogram(ANSWER_AGE, "Ages answered", by_model, registry=own, buckets=_AGES)
        widths = Histogram(
            "agesearch_answer_interval_years", "Widths of intervals", by_model, registry=own, buckets=_WIDTHS
        )
        self._images = images.labels(*self._own)
        self._ages, self._widths = ages.labels(*self._own), widths.labels(*self._own)
        self._shadow_requests = Counter(
            SHADOW_REQUESTS, "Images that a shadow was asked", ["outcome", *by_model], registry=own
        )
        self._differences = Histogram(
            SHADOW_DIFFERENCE,
            "Ages of a shadow less those that went out, by face",
            by_model,
            registry=own,
            buckets=_DIFFERENCES,
        )

    def came(self, waiting: int) -> None:
        """A request came, and so many images waited before it."""
        self._waiting.observe(waiting)

    def batch(self, images: int) -> None:
        """So many images went through the network together."""
        self._batches.observe(images)

    def ended(self, status: int, seconds: float) -> None:
        """A request got its answer."""
        self._requests.labels(str(status), *self._own).inc()
        self.took(seconds)

    def took(self, seconds: float) -> None:
        """An answer took so long, whoever got it."""
        self._seconds.observe(seconds)

    def refused(self, refusal: Refusal) -> None:
        """A request or an image of it was refused."""
        self._refusals.labels(refusal.code).inc()

    def answered(self, predictions: Iterable[Prediction]) -> None:
        """What was said of images."""
        for prediction in predictions:
            timing = prediction.timing
            for step, child in self._steps.items():
                child.observe(getattr(timing, f"{step}_ms") / 1e3)
            self._images.inc()
            for face in prediction.faces:
                self._ages.observe(face.age)
                self._widths.observe(face.interval[1] - face.interval[0])

    def shadowed(self, shadow: str, differences: Sequence[float] | None) -> None:
        """The version ``shadow`` was asked an image besides: by how many years it differs for each face, None
        where it failed.
        """
        model = (self._own[0], shadow)
        outcome = "failed" if differences is None else "answered"
        self._shadow_requests.labels(outcome, *model).inc()
        for difference in differences or ():
            self._differences.labels(*model).observe(difference)

    def text(self, state: ServiceState, replicas: Callable[[ServedVersion], int]) -> bytes:
        """All of it, of every replica of this machine, as Prometheus reads it; and the versions that run,
        with the ``replicas`` of each.
        """
        if not os.environ.get(FOLDER_VARIABLE):
            return generate_latest(self._registry) + _of_state(state, replicas)
        shared = CollectorRegistry()
        collect: Any = MultiProcessCollector  # untyped
        collect(shared)
        return generate_latest(shared) + _of_state(state, replicas)


def _know_this_process() -> None:
    """Have counts that are shared take this process for the one that it is: the library asks the system at
    each of the twenty of a request, lest it was forked. Replicas are not.
    """
    if os.environ.get(FOLDER_VARIABLE):
        own = os.getpid()
        kind: Any = MultiProcessValue  # untyped
        values.ValueClass = kind(lambda: own)


def _of_state(state: ServiceState, replicas: Callable[[ServedVersion], int]) -> bytes:
    own = CollectorRegistry()
    own.register(_StateCollector(state, replicas))
    return generate_latest(own)


class _StateCollector(Collector):
    """The driver's figures, as they are: no counts of this process, which would be shared with the others."""

    def __init__(self, state: ServiceState, replicas: Callable[[ServedVersion], int]) -> None:
        self._state, self._replicas = state, replicas

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is told."""
        share = GaugeMetricFamily(
            "agesearch_version_share",
            "Share of the requests to its model that a running version gets",
            labels=["model", "version", "role"],
        )
        replicas = GaugeMetricFamily(
            "agesearch_replicas",
            "Replicas of a running version that answer",
            labels=["model", "version", "role"],
        )
        for served in self._state.models:
            labels = [served.name, served.version, served.role]
            share.add_metric(labels, served.share)
            replicas.add_metric(labels, self._replicas(served))
        yield from (share, replicas)
        drift = GaugeMetricFamily(
            "agesearch_canary_difference",
            "A tried version's difference from the one that answers: ends of its interval, limit",
            labels=["model", "version", "measure", "end"],
        )
        for found in self._state.drift:
            for end in ("low", "high", "limit"):
                ends = [found.name, found.version, found.measure.replace(" ", "_"), end]
                drift.add_metric(ends, getattr(found, end))
        yield drift
        changes = CounterMetricFamily(
            "agesearch_rollouts", "Changes of version by outcome", labels=["model", "outcome"]
        )
        for name, outcomes in self._state.rollouts.items():
            for outcome, count in outcomes.items():
                changes.add_metric([name, outcome], count)
        yield changes
