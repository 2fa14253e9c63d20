"""What versions did so far, read from the counts that their replicas share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from agesearch.serving.rollout.judge import Histogram, Seen
from agesearch.serving.web.metrics import ANSWER_AGE, REQUEST_SECONDS, SHADOW_DIFFERENCE, SHADOW_REQUESTS

_FAILED = "failed"


class Counts:
    """A reading of the folder of counts."""

    def __init__(self, folder: Path) -> None:
        registry = CollectorRegistry()
        collect: Any = MultiProcessCollector  # untyped
        collect(registry, path=str(folder))
        self._metrics = {family.name: family.samples for family in registry.collect()}

    def of(self, name: str, version: str, *, shadow: bool = False) -> Seen:
        """What a version of a model did; of a ``shadow`` its images are the requests."""
        own = {"model": name, "version": version}
        outcomes = self._outcomes(own) if shadow else {}
        return Seen(
            requests=sum(outcomes.values()),
            failed=outcomes.get(_FAILED, 0),
            seconds=self._histogram(REQUEST_SECONDS, own),
            ages=self._histogram(ANSWER_AGE, own),
            differences=self._histogram(SHADOW_DIFFERENCE, own) if shadow else Histogram(),
        )

    def _outcomes(self, own: dict[str, str]) -> dict[str, int]:
        return {
            sample.labels["outcome"]: int(sample.value)
            for sample in self._metrics.get(SHADOW_REQUESTS, ())
            if sample.name.endswith("_total") and _is_of(sample, own)
        }

    def _histogram(self, family: str, own: dict[str, str]) -> Histogram:
        samples = [sample for sample in self._metrics.get(family, ()) if _is_of(sample, own)]
        below = sorted(
            (float(sample.labels["le"]), int(sample.value))
            for sample in samples
            if sample.name.endswith("_bucket")
        )
        sums = [float(sample.value) for sample in samples if sample.name.endswith("_sum")]
        edges = tuple(edge for edge, _ in below if math.isfinite(edge))
        cumulative = [count for _, count in below]
        counts = tuple(count - before for before, count in zip([0, *cumulative], cumulative, strict=False))
        return Histogram(edges, counts, sum(sums) if sums else None)


def _is_of(sample: Any, own: dict[str, str]) -> bool:
    return all(sample.labels.get(name) == value for name, value in own.items())


def since(now: Seen, then: Seen) -> Seen:
    """What was done in between."""
    return Seen(
        requests=now.requests - then.requests,
        failed=now.failed - then.failed,
        seconds=now.seconds.minus(then.seconds),
        ages=now.ages.minus(then.ages),
        differences=now.differences.minus(then.differences),
    )
