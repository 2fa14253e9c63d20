"""What the service counts, in the words of Prometheus.

Where the environment names ``PROMETHEUS_MULTIPROC_DIR``, the counts of all replicas lie in files of that
folder (they outlive a replica that dies), and each replica tells them all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from agesearch.ages import MAX_AGE
from agesearch.serving.schema import Prediction, Refusal

#: The folder that replicas share their counts in; read when prometheus_client is first imported.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_COUNTS = (1, 2, 3, 4, 6, 8, 16, 32, 64)
_AGES = tuple(range(5, int(MAX_AGE) + 1, 5))
_WIDTHS = (5, 10, 15, 20, 25, 30, 40, 50, 75, 100)


class ServiceMetrics:
    """Requests, times of each step, batches, the queue, refusals, and what was answered: the ages and the
    widths of intervals tell a drift of the answers.
    """

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        by_model = ["model", "version"]
        self._requests = Counter("agesearch_requests", "Predict requests by status", ["status"], registry=own)
        self._refusals = Counter("agesearch_refusals", "What was refused, by code", ["code"], registry=own)
        self._seconds = Histogram(
            "agesearch_request_seconds", "From the headers to the answer", registry=own, buckets=_SECONDS
        )
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
        self._images = Counter("agesearch_images", "Images answered", by_model, registry=own)
        self._ages = Histogram(
            "agesearch_answer_age_years", "Ages answered", by_model, registry=own, buckets=_AGES
        )
        self._widths = Histogram(
            "agesearch_answer_interval_years", "Widths of intervals", by_model, registry=own, buckets=_WIDTHS
        )

    def came(self, waiting: int) -> None:
        """A request came, and so many images waited before it."""
        self._waiting.observe(waiting)

    def batch(self, images: int) -> None:
        """So many images went through the network together."""
        self._batches.observe(images)

    def ended(self, status: int, seconds: float) -> None:
        """A request got its answer."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def refused(self, refusal: Refusal) -> None:
        """A request or an image of it was refused."""
        self._refusals.labels(refusal.code).inc()

    def answered(self, predictions: Iterable[Prediction]) -> None:
        """What was said of images."""
        for prediction in predictions:
            timing, model = prediction.timing, (prediction.model.name, prediction.model.version)
            for step, child in self._steps.items():
                child.observe(getattr(timing, f"{step}_ms") / 1e3)
            self._images.labels(*model).inc()
            for face in prediction.faces:
                self._ages.labels(*model).observe(face.age)
                self._widths.labels(*model).observe(face.interval[1] - face.interval[0])

    def text(self) -> bytes:
        """All of it, of every replica of this machine, as Prometheus reads it."""
        if not os.environ.get(FOLDER_VARIABLE):
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        collect: Any = MultiProcessCollector  # untyped
        collect(shared)
        return generate_latest(shared)
