"""All drills, one after the other: ``agesearch bench serve --faults``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agesearch.bench.serve.faults import drills
from agesearch.bench.serve.faults.finding import Finding
from agesearch.bench.serve.requests import UNTRAINED, untrained_version, write_images
from agesearch.bench.serve.servers import our_service
from agesearch.progress import Listener, Progress, silent

_STAGE = "faults"


@dataclass(frozen=True)
class FaultsBench:
    """What was found, in the order of the drills."""

    model: str
    replicas: int
    findings: list[Finding]

    @property
    def holds(self) -> bool:
        """Whether every goal was kept."""
        return all(one.holds is not False for one in self.findings)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        rows = [asdict(one) | {"holds": one.holds} for one in self.findings]
        return {"model": self.model, "replicas": self.replicas, "holds": self.holds, "findings": rows}


def measure_faults(
    folder: str | None = None,
    *,
    seconds: float = 60.0,
    replicas: int = 2,
    hostile: int = 2000,
    images: int = 20,
    soak_s: float = 0.0,
    soak_rate: float = 0.0,
    on_progress: Listener = silent,
) -> FaultsBench:
    """Drill a service of a version's folder (None: an untrained network): overload for ``seconds``, slow
    clients, what is killed, ``hostile`` requests, large ``images``, and a soak where ``soak_s`` is not 0, of
    ``soak_rate`` requests a second (0: all that fit).
    """
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="agesearch-bench-") as scratch:
        on_progress(Progress(_STAGE, 0, None, note="starting the service"))
        served = folder or untrained_version(Path(scratch))
        crop, photo = write_images(Path(scratch))
        with our_service(served, replicas) as server:
            drilled = drills.Drilled(server, crop, photo, seconds, replicas)
            turns: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
                ("large images", lambda: drills.large_images(drilled, Path(scratch), images)),
                ("overload", lambda: drills.overload(drilled)),
                ("slow clients", lambda: drills.slow_clients(drilled)),
                ("hostile requests", lambda: drills.hostile(drilled, hostile)),
                ("soak", lambda: drills.soak(drilled, soak_s, soak_rate) if soak_s else iter(())),
                ("kill of a replica", lambda: drills.replica_killed(drilled)),
                ("kill of the ingress", lambda: drills.ingress_killed(drilled)),
                ("kill of the driver", lambda: drills.driver_killed(server)),
            ]
            for done, (note, drill) in enumerate(turns):
                on_progress(Progress(_STAGE, done, len(turns), note=note))
                findings += drill()
            on_progress(Progress(_STAGE, len(turns), len(turns)))
    model = UNTRAINED if folder is None else Path(folder).parent.parent.name
    return FaultsBench(model, replicas, findings)
