"""What clients see while a service changes its version: under steady load, at once and by canary."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agesearch.bench.serve.load import LoadRun
from agesearch.bench.serve.requests import order_of, untrained_version, write_images
from agesearch.bench.serve.servers import following_service
from agesearch.deploy.registry import Registry
from agesearch.errors import AgeSearchError
from agesearch.progress import Listener, Progress, silent
from agesearch.serving.rollout.promotion import Trial, promote, rollback

_STAGE = "bench"
#: Seconds of load before the first change, so that what it finds is a service at work.
_BEFORE_S = 3.0


@dataclass(frozen=True)
class RollRow:
    """One change: what was asked, the seconds until all requests went to the version, what came of it."""

    change: str
    seconds: float
    outcome: str


@dataclass(frozen=True)
class RollBench:
    """All changes, what the clients saw meanwhile, and the seconds from the start of the service's process to
    its first answer. ``refused`` and ``broken`` are requests that failed.
    """

    first_answer_s: float
    replicas: int
    connections: int
    seconds: float
    changes: list[RollRow]
    fulfilled: int
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float

    @property
    def failed(self) -> int:
        """Requests that got no answer."""
        return self.refused + self.broken


def measure_rolling(
    *, seconds: float = 90.0, replicas: int = 1, connections: int = 4, on_progress: Listener = silent
) -> RollBench:
    """Two untrained versions of a model, a service that follows its alias, and ``seconds`` of closed-loop
    load: meanwhile it is moved to the second version, back, and by a canary of half the requests to the
    second again.
    """
    with tempfile.TemporaryDirectory(prefix="agesearch-bench-") as scratch:
        place = Path(scratch)
        on_progress(Progress(_STAGE, 0, None, note="making two versions"))
        for seed in (0, 1):
            untrained_version(place, seed)
        registry = Registry(str(place / "registry"))
        (name,) = registry.names()
        registry.move_alias(registry.find(f"{name}:1"), "champion")
        image = write_images(place)[0]
        on_progress(Progress(_STAGE, 0, None, note="starting the service"))
        began = time.monotonic()
        with following_service(str(place / "registry"), name, replicas) as server:
            first_answer = time.monotonic() - began
            load = LoadRun(order_of(server, image, seconds, connections))
            over = time.monotonic() + seconds
            time.sleep(_BEFORE_S)
            changes = [
                _timed("promote 2", lambda: promote(registry, name, "2", on_progress=on_progress).version),
                _timed("rollback", lambda: rollback(registry, name, on_progress=on_progress).version),
                _timed("promote 2 --canary 50%", lambda: _tried(registry, name, over, on_progress)),
            ]
            on_progress(Progress(_STAGE, 0, None, note="waiting for the load to end"))
            outcome = load.outcome()
    return RollBench(
        first_answer_s=first_answer,
        replicas=replicas,
        connections=connections,
        seconds=outcome.seconds,
        changes=changes,
        fulfilled=len(outcome.fulfilled_ms),
        refused=len(outcome.refused_ms),
        broken=outcome.broken,
        p50_ms=outcome.percentile(50),
        p99_ms=outcome.percentile(99),
    )


def _tried(registry: Registry, name: str, over: float, on_progress: Listener) -> str | None:
    minutes = max(1.0, over - time.monotonic()) / 60
    return promote(registry, name, "2", trial=Trial(0.5, minutes=minutes), on_progress=on_progress).version


def _timed(change: str, make: Callable[[], str | None]) -> RollRow:
    began = time.monotonic()
    try:
        outcome = f"answers with {make()}"
    except AgeSearchError as error:
        outcome = str(error)
    return RollRow(change, time.monotonic() - began, outcome)
