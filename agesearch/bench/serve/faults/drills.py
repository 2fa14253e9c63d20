"""The drills: each does something to a running service, and tells what its clients saw."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil

from agesearch.bench.serve.asking import Repeatedly
from agesearch.bench.serve.faults.clients import Dawdlers, exchange
from agesearch.bench.serve.faults.finding import Finding
from agesearch.bench.serve.faults.hostile import hostile_requests
from agesearch.bench.serve.faults.memory import MemoryWatch
from agesearch.bench.serve.load import LoadRun, Outcome
from agesearch.bench.serve.overload import overloaded
from agesearch.bench.serve.requests import AskedImage, order_of
from agesearch.bench.serve.servers import Server
from agesearch.errors import AgeSearchError
from agesearch.serving.client import Client
from agesearch.session import LOOPBACK

_MIB = 2**20
#: The longest that a replica or an ingress is waited for.
_PATIENCE_S = 60.0
#: Requests a second while something is killed: what two replicas answer with ease.
_CALM_RATE = 20.0


@dataclass(frozen=True)
class Drilled:
    """A running service, what is asked of it, how long each load lasts, and how many replicas it has."""

    server: Server
    crop: AskedImage
    photo: AskedImage
    seconds: float
    replicas: int


def overload(drilled: Drilled) -> Iterator[Finding]:
    """Five times what it can."""
    able = LoadRun(order_of(drilled.server, drilled.photo, min(5.0, drilled.seconds), 16)).outcome()
    row = overloaded(drilled.server, drilled.photo, able.fulfilled_per_s, drilled.seconds)
    name = f"5 x overload, {row.seconds:g} s"
    yield Finding(name, "sent", row.rate, "/s")
    yield Finding(name, "fulfilled", row.fulfilled_per_s, "/s")
    yield Finding(name, "fulfilled, p99", row.fulfilled_p99_ms, "ms", 1000)
    yield Finding(name, "refused", row.refused)
    yield Finding(name, "refused, p99", row.refused_p99_ms, "ms", 100)
    yield Finding(name, "refused without Retry-After", row.without_retry_after, "", 0)
    yield Finding(name, "connections that broke", row.broken, "", 0)
    yield Finding(name, "p99 5 s later", row.p99_ms_5s_later, "ms", 1000)


def slow_clients(drilled: Drilled) -> Iterator[Finding]:
    """Slow bodies, half-sent headers and idle connections beside good requests."""
    name = "slow clients"
    alone = LoadRun(order_of(drilled.server, drilled.crop, min(5.0, drilled.seconds), 4)).outcome()
    dawdlers = Dawdlers(drilled.server.port, drilled.server.headers)
    dawdlers.begin()
    load = LoadRun(order_of(drilled.server, drilled.crop, min(8.0, drilled.seconds), 4))
    deadline = time.monotonic() + _PATIENCE_S
    while dawdlers.step() and time.monotonic() < deadline:
        time.sleep(1.0)
    left = dawdlers.step()
    dawdlers.leave()
    beside = load.outcome()
    yield Finding(name, "good requests alone, p99", alone.percentile(99), "ms")
    yield Finding(name, "good requests beside them, p99", beside.percentile(99), "ms")
    yield Finding(name, "good requests that failed", _failed(beside), "", 0)
    yield Finding(name, "slow connections left after 60 s", left, "", 0)
    yield Finding(name, "the last was sent away after", dawdlers.ended_s, "s", 60)


def replica_killed(drilled: Drilled) -> Iterator[Finding]:
    """kill -9 of a replica under load: by clients that do not come back, and by those that do."""
    name = "kill -9 of a replica"
    load = LoadRun(order_of(drilled.server, drilled.crop, _load_s(drilled), 0, _CALM_RATE))
    time.sleep(_load_s(drilled) / 4)
    back = _kill_a_replica(drilled)
    outcome = load.outcome()
    asked = max(1, int(_CALM_RATE * _load_s(drilled)))
    yield Finding(name, "failed without a retry", 100 * _failed(outcome) / asked, "%", 1)
    yield Finding(name, "a new one is there after", back, "s")
    with _retrying(drilled) as clients:
        time.sleep(_load_s(drilled) / 4)
        _kill_a_replica(drilled)
        time.sleep(_load_s(drilled) / 4)
    yield Finding(name, "asked with the client's retry", clients.seen.total())
    yield Finding(name, "failed with the client's retry", clients.seen["failed"], "", 0)


def ingress_killed(drilled: Drilled) -> Iterator[Finding]:
    """kill -9 of HAProxy under load."""
    name = "kill -9 of the ingress"
    load = LoadRun(order_of(drilled.server, drilled.crop, _load_s(drilled), 0, _CALM_RATE))
    time.sleep(_load_s(drilled) / 4)
    killed = _ingress(drilled.server)
    killed.kill()
    killed_at = time.monotonic()
    _wait(lambda: exchange(drilled.server.port, _ALIVE, 1.0)[0] == 200, "the ingress")
    back = time.monotonic() - killed_at
    outcome = load.outcome()
    yield Finding(name, "back after", back, "s", 5)
    yield Finding(name, "failed without a retry", _failed(outcome))


def hostile(drilled: Drilled, count: int) -> Iterator[Finding]:
    """Requests that nobody means well with."""
    name = f"{count} hostile requests"
    authorization = drilled.server.headers["Authorization"]
    with ThreadPoolExecutor(8) as pool:
        asked = pool.map(
            lambda request: exchange(drilled.server.port, request), hostile_requests(count, authorization)
        )
        answers = list(asked)
    statuses = Counter(status for status, _ in answers)
    # 503 with Retry-After is a refusal, 501 and 505 are HAProxy's words for what is no request.
    faults = sum(
        status >= 500 and not (status == 503 and b"retry-after" in answer.lower())
        for status, answer in answers
        if status not in (501, 505)
    )
    told = sum(any(word in answer for word in _INSIDE) for _, answer in answers)
    yield Finding(name, "answered with 5xx", faults, "", 0)
    yield Finding(name, "answered with words of the inside", told, "", 0)
    yield Finding(name, "without an answer", statuses[0])
    yield Finding(name, "let through (200)", statuses[200])
    after = LoadRun(order_of(drilled.server, drilled.crop, 1.0, 2)).outcome()
    yield Finding(name, "good requests that failed afterwards", _failed(after), "", 0)


def large_images(drilled: Drilled, folder: Path, count: int) -> Iterator[Finding]:
    """Images of 50 megapixels, and what a replica keeps of them."""
    name = f"{count} images of 50 megapixels"
    files = _large_files(folder)
    for image in (drilled.crop, drilled.photo):
        LoadRun(order_of(drilled.server, image, 2.0, 4)).outcome()
    before = _memory_mib(drilled)
    headers = {**drilled.server.headers, "Content-Type": "image/jpeg"}
    answered = 0
    with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
        for index in range(count):
            url = f"http://{LOOPBACK}:{drilled.server.port}/v1/predict?faces={('whole', 'detect')[index % 2]}"
            answered += client.post(url, content=files[index // 2 % len(files)]).status_code == 200
    time.sleep(5.0)
    for image in (drilled.crop, drilled.photo):
        LoadRun(order_of(drilled.server, image, 1.0, 4)).outcome()
    yield Finding(name, "answered", answered)
    yield Finding(name, "replicas before", before, "MiB")
    grown = _memory_mib(drilled) - before
    yield Finding(name, "more than before, a replica", grown / drilled.replicas, "MiB", 50)


def soak(drilled: Drilled, seconds: float, rate: float = 0.0) -> Iterator[Finding]:
    """Hours of an ordinary day in a row, crops and photographs in turn, ``rate`` requests a second (0: as
    many as four clients can ask); memory from the second tenth to the last.
    """
    name = f"soak, {seconds:g} s" + (f" at {rate:g}/s" if rate else "")
    failed, asked = 0, 0
    with MemoryWatch(drilled.server) as memory:
        for turn in range(10):
            image = (drilled.crop, drilled.photo)[turn % 2]
            outcome = LoadRun(order_of(drilled.server, image, seconds / 10, 4, rate)).outcome()
            failed += _failed(outcome)
            asked += len(outcome.fulfilled_ms)
            if turn == 1:
                memory.begin()
    yield Finding(name, "answered", asked)
    yield Finding(name, "failed", failed, "", 0)
    yield from memory.findings(name)


def driver_killed(server: Server) -> Iterator[Finding]:
    """kill -9 of the driver: what still listens ten seconds later."""
    name = "kill -9 of the driver"
    tree = server.process.children(recursive=True)
    server.process.kill()
    time.sleep(10.0)
    left = [process for process in tree if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    listening = 0
    for process in left:
        with suppress(psutil.Error):
            listening += any(one.status == psutil.CONN_LISTEN for one in process.net_connections("inet"))
    yield Finding(name, "processes left after 10 s", len(left), "", 0)
    yield Finding(name, "processes that listen after 10 s", listening, "", 0)


_ALIVE = b"GET /livez HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
_INSIDE = (b"Traceback", b"site-packages", b"/home/", b"/tmp/", b".py", b"the-token-of")


def _retrying(drilled: Drilled) -> Repeatedly:
    """Three clients of the package."""
    url = f"http://{LOOPBACK}:{drilled.server.port}"
    token = drilled.server.headers["Authorization"].removeprefix("Bearer ")
    image = Path(drilled.crop.file).read_bytes()

    @contextmanager
    def connected() -> Iterator[Callable[[], str]]:
        with Client(url, token) as client:
            yield lambda: _went(client, image)

    return Repeatedly(connected, connections=3, pause_s=3 / _CALM_RATE)


def _went(client: Client, image: bytes) -> str:
    try:
        client.predict(image, faces="whole")
    except AgeSearchError:
        return "failed"
    return "answered"


def _failed(outcome: Outcome) -> int:
    return outcome.broken + len(outcome.refused_ms)


def _load_s(drilled: Drilled) -> float:
    return min(20.0, drilled.seconds)


def _of_tree(server: Server, word: str) -> list[psutil.Process]:
    found = []
    for process in server.process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if word in " ".join(process.cmdline()[:2]) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _replicas(server: Server) -> list[psutil.Process]:
    found = _of_tree(server, "ServeReplica")
    if not found:
        raise AgeSearchError("The service has no replica.")
    return found


def _ingress(server: Server) -> psutil.Process:
    found = _of_tree(server, "bin/haproxy")
    if not found:
        raise AgeSearchError("The service has no ingress.")
    return found[0]


def _memory_mib(drilled: Drilled) -> float:
    return sum(process.memory_info().rss for process in _replicas(drilled.server)) / _MIB


def _kill_a_replica(drilled: Drilled) -> float:
    """Seconds until there are as many as before."""
    killed = _replicas(drilled.server)[0]
    killed.kill()
    began = time.monotonic()
    killed.wait(_PATIENCE_S)
    _wait(lambda: len(_of_tree(drilled.server, "ServeReplica")) >= drilled.replicas, "a replica")
    return time.monotonic() - began


def _wait(there: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not there():
        if time.monotonic() > deadline:
            raise AgeSearchError(f"After {_PATIENCE_S:g} s {what} is not back.")
        time.sleep(0.05)


def _large_files(folder: Path) -> list[bytes]:
    """Two JPEGs of 50 megapixels, one upright, one lying."""
    found = []
    for width, height in ((7000, 7140), (10_000, 4995)):
        image = np.full((height, width, 3), 120, np.uint8)
        image[height // 4 : height // 2, width // 4 : width // 2] = 200
        file = folder / f"{width}.jpg"
        cv2.imwrite(str(file), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        found.append(file.read_bytes())
    return found
