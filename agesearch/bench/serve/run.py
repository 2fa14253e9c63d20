"""The service beside a bare server with the same model: requests a second, CPU a request, latencies, steps.

Servers take turns under the same load, so that a machine that has other work shows in the spread.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from agesearch.bench.serve import litserve
from agesearch.bench.serve.load import LoadRun, Outcome
from agesearch.bench.serve.overload import OverloadRow, overloaded
from agesearch.bench.serve.requests import UNTRAINED, AskedImage, order_of, untrained_version, write_images
from agesearch.bench.serve.servers import Server, bare_uvicorn, our_service
from agesearch.errors import AgeSearchError
from agesearch.progress import Listener, Progress, silent
from agesearch.session import LOOPBACK

_STAGE = "bench"


@dataclass(frozen=True)
class ServerRow:
    """One server and one kind of image: medians over the turns."""

    server: str
    case: str
    requests_per_s: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    failed: int


@dataclass(frozen=True)
class ServeBench:
    """All that was measured. ``steps_ms`` are the service's own figures for the photograph, one request at a
    time; ``ratios`` those of requests a second and of CPU a request, ours over bare.
    """

    model: str
    connections: int
    turns: int
    rows: list[ServerRow]
    steps_ms: dict[str, float]
    ratios: dict[str, dict[str, float]]
    overload: OverloadRow | None


def measure_service(
    folder: str | None = None,
    *,
    seconds: float = 5.0,
    turns: int = 3,
    connections: int = 8,
    replicas: Sequence[int] = (1, 2),
    overload_s: float = 0.0,
    on_progress: Listener = silent,
) -> ServeBench:
    """Measure a version's folder (None: an untrained network), ours with each number of ``replicas`` beside
    as many bare workers as the last, and those of LitServe where it is installed; ``overload_s`` seconds of
    five times what it can, where that is not 0.
    """
    overload = None
    with tempfile.TemporaryDirectory(prefix="agesearch-bench-") as scratch, ExitStack() as stack:
        on_progress(Progress(_STAGE, 0, None, note="making what is sent"))
        served = folder or untrained_version(Path(scratch))
        images = write_images(Path(scratch))
        on_progress(Progress(_STAGE, 0, None, note="starting the servers"))
        servers = [stack.enter_context(bare_uvicorn(served, replicas[-1]))]
        if litserve.is_installed():
            servers.append(stack.enter_context(litserve.lit_service(served, replicas[-1])))
        servers += [stack.enter_context(our_service(served, count)) for count in replicas]
        rows = list(_rows(servers, images, seconds, turns, connections, on_progress))
        ours = servers[-1]
        steps = _steps(ours, images[-1])
        if overload_s:
            able = _row(rows, ours, images[-1]).requests_per_s
            on_progress(Progress(_STAGE, 0, None, note="five times what it can"))
            overload = overloaded(ours, images[-1], able, overload_s)
    ratios = {image.case: _ratios(rows, servers[0], ours, image) for image in images}
    model = UNTRAINED if folder is None else Path(folder).parent.parent.name
    return ServeBench(model, connections, turns, rows, steps, ratios, overload)


def _rows(
    servers: Sequence[Server],
    images: Sequence[AskedImage],
    seconds: float,
    turns: int,
    connections: int,
    on_progress: Listener,
) -> Iterator[ServerRow]:
    total, done = turns * len(servers) * len(images), 0
    for image in images:
        seen: dict[str, list[tuple[Outcome, float]]] = {server.name: [] for server in servers}
        for server in servers:  # connections and caches are warm before anything counts
            LoadRun(order_of(server, image, min(1.0, seconds), connections)).outcome()
        for _ in range(turns):
            for server in servers:
                on_progress(Progress(_STAGE, done, total, note=f"{image.case}: {server.name}"))
                before = server.cpu_s()
                outcome = LoadRun(order_of(server, image, seconds, connections)).outcome()
                seen[server.name].append((outcome, server.cpu_s() - before))
                done += 1
        yield from (_summary(server, image, seen[server.name]) for server in servers)
    on_progress(Progress(_STAGE, done, total))


def _summary(server: Server, image: AskedImage, seen: Sequence[tuple[Outcome, float]]) -> ServerRow:
    if not all(outcome.fulfilled_ms for outcome, _ in seen):
        raise AgeSearchError(f"{server.name} fulfilled no request: {seen[0][0].statuses}.")
    return ServerRow(
        server=server.name,
        case=image.case,
        requests_per_s=statistics.median(outcome.fulfilled_per_s for outcome, _ in seen),
        cpu_ms=statistics.median(1e3 * cpu / len(outcome.fulfilled_ms) for outcome, cpu in seen),
        p50_ms=statistics.median(outcome.percentile(50) for outcome, _ in seen),
        p99_ms=statistics.median(outcome.percentile(99) for outcome, _ in seen),
        failed=sum(outcome.broken + len(outcome.refused_ms) for outcome, _ in seen),
    )


def _row(rows: Sequence[ServerRow], server: Server, image: AskedImage) -> ServerRow:
    return next(row for row in rows if (row.server, row.case) == (server.name, image.case))


def _ratios(rows: Sequence[ServerRow], bare: Server, ours: Server, image: AskedImage) -> dict[str, float]:
    theirs, own = _row(rows, bare, image), _row(rows, ours, image)
    return {
        "requests_per_s": own.requests_per_s / theirs.requests_per_s,
        "requests_per_cpu_s": theirs.cpu_ms / own.cpu_ms,
        "p99": own.p99_ms / theirs.p99_ms,
    }


def _steps(server: Server, image: AskedImage, requests: int = 30) -> dict[str, float]:
    """Medians of the steps that the answers tell."""
    headers = {**server.headers, "Content-Type": "image/jpeg"}
    data = Path(image.file).read_bytes()
    with httpx.Client(headers=headers, trust_env=False) as client:
        url = f"http://{LOOPBACK}:{server.port}{image.path}"
        told = [json.loads(client.post(url, content=data).content)["timing"] for _ in range(requests)]
    return {name: statistics.median(timing[name] for timing in told) for name in told[0]}
