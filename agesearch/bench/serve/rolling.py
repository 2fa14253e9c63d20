"""What clients see while a service changes its version: at once, back, by trials that it judges itself."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agesearch.bench.serve.altered import NAME, altered_versions
from agesearch.bench.serve.load import LoadRun
from agesearch.bench.serve.requests import PREDICT, order_of_files, write_faces
from agesearch.bench.serve.servers import Server, following_service
from agesearch.deploy.registry import CHAMPION, Registry
from agesearch.errors import AgeSearchError
from agesearch.progress import Listener, Progress, silent
from agesearch.serving.rollout.promotion import Trial, promote, rollback

_STAGE = "bench"
#: Seconds of load before a change, so that what it finds is a service at work.
_BEFORE_S = 2.0
_FACES = 256


@dataclass(frozen=True)
class Case:
    """A change of ``altered_versions``: the version (None: back), how it is tried, whether it is to be taken,
    and whether the version itself fails requests.
    """

    name: str
    version: str | None
    trial: Trial | None = None
    is_taken: bool = True
    fails: bool = False


@dataclass(frozen=True)
class RollRow:
    """One change under load: seconds until it was done (of a trial: decided), the requests meanwhile, those
    that failed, their p99, and what came of it; ``holds``: that is what was to come, and no request failed
    for it.
    """

    change: str
    seconds: float
    requests: int
    failed: int
    p99_ms: float
    outcome: str
    holds: bool


@dataclass(frozen=True)
class RollBench:
    """All changes, and the seconds from the start of the service's process to its first answer."""

    first_answer_s: float
    replicas: int
    connections: int
    share: float
    changes: list[RollRow]

    @property
    def holds(self) -> bool:
        """Whether each change ended as it was to."""
        return all(row.holds for row in self.changes)


def cases(share: float, minutes: float) -> list[Case]:
    """Each kind of change, one after the other: the version that answers is the package's network, whatever
    its number.
    """
    canary, shadow = Trial(share, minutes=minutes), Trial(1.0, shadow=True, minutes=minutes)
    return [
        Case("promote", "2"),
        Case("rollback", None),
        Case("canary, as good", "2", canary),
        Case("canary, drifts", "3", canary, is_taken=False),
        Case("canary, slow", "4", canary, is_taken=False),
        Case("canary, fails", "5", canary, is_taken=False, fails=True),
        Case("shadow, as good", "1", shadow),
        Case("shadow, drifts", "3", shadow, is_taken=False),
    ]


def measure_rolling(
    *,
    share: float = 0.5,
    seconds: float = 180.0,
    replicas: int = 1,
    connections: int = 4,
    on_progress: Listener = silent,
) -> RollBench:
    """A service that follows an alias, and a closed loop of requests with many faces during each change; a
    trial gets ``share`` of them and may take so many ``seconds``.
    """
    with tempfile.TemporaryDirectory(prefix="agesearch-bench-") as scratch:
        place = Path(scratch)
        registry = altered_versions(str(place / "registry"))
        files = write_faces(place, _FACES)
        on_progress(Progress(_STAGE, 0, None, note="starting the service"))
        began = time.monotonic()
        with following_service(str(place / "registry"), NAME, replicas) as server:
            first_answer = time.monotonic() - began

            def under_load(case: Case) -> RollRow:
                load = _load(server, files, seconds, connections)
                return _made(registry, case, load, on_progress)

            changes = [under_load(case) for case in cases(share, seconds / 60)]
    return RollBench(first_answer, replicas, connections, share, changes)


def _load(server: Server, files: list[str], seconds: float, connections: int) -> LoadRun:
    # The longest change: a trial without a verdict, and the start of a version.
    order = order_of_files(server, f"{PREDICT}?faces=whole", files, seconds + 120.0, connections)
    return LoadRun(order)


def _made(registry: Registry, case: Case, load: LoadRun, on_progress: Listener) -> RollRow:
    time.sleep(_BEFORE_S)
    began = time.monotonic()
    is_taken = _is_taken(lambda: _change(registry, case, on_progress))
    took = time.monotonic() - began
    load.end()
    seen = load.outcome()
    failed = len(seen.refused_ms) + seen.broken
    why = registry.alias(NAME, CHAMPION).history[-1].why
    return RollRow(
        change=case.name,
        seconds=took,
        requests=len(seen.fulfilled_ms) + failed,
        failed=failed,
        p99_ms=seen.percentile(99),
        outcome=f"{'taken' if is_taken else 'refused'}{f' {why}' if why else ''}",
        holds=is_taken == case.is_taken and (case.fails or not failed),
    )


def _change(registry: Registry, case: Case, on_progress: Listener) -> None:
    if case.version is None:
        rollback(registry, NAME, on_progress=on_progress)
    else:
        promote(registry, NAME, case.version, trial=case.trial, on_progress=on_progress)


def _is_taken(make: Callable[[], None]) -> bool:
    try:
        make()
    except AgeSearchError:
        return False
    return True
