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

import cv2
import httpx
import numpy as np

from agesearch.bench.serve.load import LoadRun, Order, Outcome
from agesearch.bench.serve.servers import Server, bare_uvicorn, our_service
from agesearch.data.dataset.shards import read_rows
from agesearch.data.images.crop import decode_crop
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.errors import AgeSearchError
from agesearch.progress import Listener, Progress, silent
from agesearch.session import LOOPBACK

#: What is asked: a face crop as it is, and a photograph whose face is to be found.
_CASES = {"whole crop": "whole", "photograph": "detect"}
_PHOTO_SIDES = (960, 1173)
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
class OverloadRow:
    """What the service does with more than it can: open loop at ``rate`` requests a second."""

    rate: float
    seconds: float
    fulfilled_per_s: float
    fulfilled_p99_ms: float
    refused: int
    refused_p99_ms: float
    without_retry_after: int
    broken: int
    p99_ms_5s_later: float


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


@dataclass(frozen=True)
class _Image:
    case: str
    path: str
    file: str


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
    as many bare workers as the last; ``overload_s`` seconds of five times what it can, where that is not 0.
    """
    overload = None
    with tempfile.TemporaryDirectory(prefix="agesearch-bench-") as scratch, ExitStack() as stack:
        on_progress(Progress(_STAGE, 0, None, note="making what is sent"))
        served = folder or _untrained(Path(scratch))
        images = _images(Path(scratch))
        on_progress(Progress(_STAGE, 0, None, note="starting the servers"))
        servers = [stack.enter_context(bare_uvicorn(served, replicas[-1]))]
        servers += [stack.enter_context(our_service(served, count)) for count in replicas]
        rows = list(_rows(servers, images, seconds, turns, connections, on_progress))
        ours = servers[-1]
        steps = _steps(ours, images[-1])
        if overload_s:
            able = _row(rows, ours, images[-1]).requests_per_s
            on_progress(Progress(_STAGE, 0, None, note="five times what it can"))
            overload = _overloaded(ours, images[-1], 5 * able, overload_s)
    ratios = {image.case: _ratios(rows, servers[0], ours, image) for image in images}
    model = "an untrained lcnet_050 @ 64 px" if folder is None else Path(folder).parent.parent.name
    return ServeBench(model, connections, turns, rows, steps, ratios, overload)


def _rows(
    servers: Sequence[Server],
    images: Sequence[_Image],
    seconds: float,
    turns: int,
    connections: int,
    on_progress: Listener,
) -> Iterator[ServerRow]:
    total, done = turns * len(servers) * len(images), 0
    for image in images:
        seen: dict[str, list[tuple[Outcome, float]]] = {server.name: [] for server in servers}
        for server in servers:  # connections and caches are warm before anything counts
            LoadRun(_order(server, image, min(1.0, seconds), connections)).outcome()
        for _ in range(turns):
            for server in servers:
                on_progress(Progress(_STAGE, done, total, note=f"{image.case}: {server.name}"))
                before = server.cpu_s()
                outcome = LoadRun(_order(server, image, seconds, connections)).outcome()
                seen[server.name].append((outcome, server.cpu_s() - before))
                done += 1
        yield from (_summary(server, image, seen[server.name]) for server in servers)
    on_progress(Progress(_STAGE, done, total))


def _summary(server: Server, image: _Image, seen: Sequence[tuple[Outcome, float]]) -> ServerRow:
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


def _row(rows: Sequence[ServerRow], server: Server, image: _Image) -> ServerRow:
    return next(row for row in rows if (row.server, row.case) == (server.name, image.case))


def _ratios(rows: Sequence[ServerRow], bare: Server, ours: Server, image: _Image) -> dict[str, float]:
    theirs, own = _row(rows, bare, image), _row(rows, ours, image)
    return {
        "requests_per_s": own.requests_per_s / theirs.requests_per_s,
        "requests_per_cpu_s": theirs.cpu_ms / own.cpu_ms,
        "p99": own.p99_ms / theirs.p99_ms,
    }


def _overloaded(server: Server, image: _Image, rate: float, seconds: float) -> OverloadRow:
    outcome = LoadRun(_order(server, image, seconds, 0, rate)).outcome()
    # A quarter of what fits, from five seconds after the flood.
    later = LoadRun(_order(server, image, 8.0, 0, rate / 20)).outcome()
    after = later.fulfilled_ms[int(5 * rate / 20) :] or [float("inf")]
    return OverloadRow(
        rate=rate,
        seconds=seconds,
        fulfilled_per_s=outcome.fulfilled_per_s,
        fulfilled_p99_ms=outcome.percentile(99),
        refused=len(outcome.refused_ms),
        refused_p99_ms=outcome.percentile(99, refused=True),
        without_retry_after=outcome.without_retry_after,
        broken=outcome.broken,
        p99_ms_5s_later=float(np.percentile(after, 99)),
    )


def _steps(server: Server, image: _Image, requests: int = 30) -> dict[str, float]:
    """Medians of the steps that the answers tell."""
    headers = {**server.headers, "Content-Type": "image/jpeg"}
    data = Path(image.file).read_bytes()
    with httpx.Client(headers=headers, trust_env=False) as client:
        url = f"http://{LOOPBACK}:{server.port}{image.path}"
        told = [json.loads(client.post(url, content=data).content)["timing"] for _ in range(requests)]
    return {name: statistics.median(timing[name] for timing in told) for name in told[0]}


def _order(server: Server, image: _Image, seconds: float, connections: int, rate: float = 0.0) -> Order:
    headers = {**server.headers, "Content-Type": "image/jpeg"}
    return Order(LOOPBACK, server.port, image.path, headers, image.file, seconds, connections, rate)


def _images(folder: Path) -> list[_Image]:
    """A face crop of the package, and a photograph of 960 x 1173 with that face large in its middle."""
    rows = read_rows(demo_pack(), None, ["sample_id", "image"]).sort_by("sample_id")
    encoded = rows.column("image")[0].as_py()
    crop = decode_crop(encoded)
    width, height = _PHOTO_SIDES
    photo = np.full((height, width, 3), 128, np.uint8)
    side, left, top = 700, (width - 700) // 2, (height - 700) // 2
    photo[top : top + side, left : left + side] = cv2.resize(
        crop, (side, side), interpolation=cv2.INTER_CUBIC
    )
    noise = np.random.default_rng(0).integers(-6, 7, photo.shape, np.int16)
    photo = np.clip(photo + noise, 0, 255).astype(np.uint8)
    files = {"whole crop": encoded, "photograph": cv2.imencode(".jpg", photo[..., ::-1])[1].tobytes()}
    images = []
    for case, faces in _CASES.items():
        file = folder / f"{faces}.jpg"
        file.write_bytes(files[case])
        images.append(_Image(case, f"/v1/predict?faces={faces}", str(file)))
    return images


def _untrained(folder: Path) -> str:
    """A version of a network with random weights: it costs what a trained one does."""
    import torch

    from agesearch.deploy.publish import publish
    from agesearch.models.folder import write_model
    from agesearch.models.manifest import ModelManifest
    from agesearch.models.zoo import build
    from agesearch.specs import NEWEST_CROP_RECIPE, CropSpec, ModelSpec

    torch.manual_seed(0)
    spec = ModelSpec(arch="lcnet_050", input_size=64)
    manifest = ModelManifest(kind="teacher", model=spec, crop=CropSpec(recipe=NEWEST_CROP_RECIPE))
    write_model(str(folder / "model"), build(spec).state_dict(), manifest)
    published = publish(str(folder / "model"), "untrained", str(folder / "registry"), dataset=demo_pack())
    return str(published.version.folder)
