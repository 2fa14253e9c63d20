"""The servers that ``agesearch bench serve`` compares: ours, and uvicorn with the same model alone.

Each runs in a process of its own, whose tree's CPU time is what its requests cost.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
from fastapi import FastAPI, Request

from agesearch.errors import AgeSearchError
from agesearch.machine import free_port
from agesearch.session import LOOPBACK

#: The token of the service that is measured; it listens on loopback, for minutes.
TOKEN = "the-token-of-the-bench"
BARE_FOLDER = "AGESEARCH_BENCH_FOLDER"

_OURS = "from agesearch.bench.serve.servers import our_process; our_process()"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_START_TIMEOUT_S = 120.0


@dataclass
class Server:
    """A server that answers at ``port``; ``headers`` let a request in, and ``paths`` name, by kind of image,
    the calls that are not the service's.
    """

    name: str
    port: int
    process: psutil.Process
    headers: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    def cpu_s(self) -> float:
        """CPU seconds that its process tree has taken, those of processes that ended left out."""
        total = 0.0
        for process in [self.process, *self.process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


@contextmanager
def our_service(folder: str, replicas: int) -> Iterator[Server]:
    """``agesearch serve`` of a version's folder, with all that it does: token, limits, metrics."""
    with _ours({"folder": folder, "replicas": replicas}) as server:
        yield server


@contextmanager
def following_service(registry: str, name: str, replicas: int) -> Iterator[Server]:
    """``agesearch serve NAME`` of a registry: it follows the champion."""
    with _ours({"registry": registry, "name": name, "replicas": replicas}) as server:
        yield server


@contextmanager
def _ours(order: dict[str, Any]) -> Iterator[Server]:
    port = free_port(LOOPBACK)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    call = [sys.executable, "-c", _OURS, json.dumps({**order, "port": port})]
    with running(call, {}, port, "/readyz") as process:
        yield Server(f"agesearch serve, {order['replicas']} replicas", port, process, headers)


@contextmanager
def bare_uvicorn(folder: str, workers: int) -> Iterator[Server]:
    """uvicorn with a FastAPI route that decodes, finds faces, crops and predicts, one request after the other
    in each worker; no token, limit, queue or count.
    """
    port = free_port(LOOPBACK)
    call = [sys.executable, "-m", "uvicorn", "--factory", "agesearch.bench.serve.servers:bare_app"]
    call += ["--host", LOOPBACK, "--port", str(port), "--workers", str(workers), "--log-level", "critical"]
    with running(call, {BARE_FOLDER: folder}, port, "/ready") as process:
        yield Server(f"bare uvicorn x {workers}", port, process)


def our_process() -> None:
    """The service's driver, until it is told to end."""
    from agesearch.serving.app import ServiceOptions, serving
    from agesearch.serving.rollout.models import ServedModel, served_models
    from agesearch.session import ray_session

    order = json.loads(sys.argv[1])
    if "registry" in order:
        models = served_models([order["name"]], order["registry"])
    else:
        models = [ServedModel.pinned(order["folder"])]
    options = ServiceOptions(port=order["port"], replicas=order["replicas"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        ray_session(background=False, cpus=options.cpus()),
        serving(models, TOKEN, options),
    ):
        signal.pause()


def bare_app() -> Any:
    """The application of the bare server."""
    answer = answer_of(os.environ[BARE_FOLDER])
    app = FastAPI()

    @app.get("/ready")
    async def ready() -> str:
        return "yes"

    @app.post("/v1/predict")
    async def predict(request: Request, faces: str = "detect") -> dict[str, Any]:
        return answer(await request.body(), faces)

    return app


def answer_of(folder: str) -> Callable[[bytes, str], dict[str, Any]]:
    """What a request costs without a service: from an image's bytes to the ages in it."""
    from agesearch.data.images.decode import decode_photograph
    from agesearch.serving.estimator import open_estimator

    estimator = open_estimator(folder)
    estimator.warm_up()

    def answer(data: bytes, faces: str) -> dict[str, Any]:
        found = estimator.locate(
            lambda enough: decode_photograph(data, enough=enough), whole=faces == "whole"
        )
        ages = estimator.answers(estimator.pmf(found.crops), found.faces)
        return {"faces": [age.model_dump() for age in ages]}

    return answer


@contextmanager
def running(call: list[str], environment: dict[str, str], port: int, ready: str) -> Iterator[psutil.Process]:
    """A server in a process of its own, from when it answers at ``ready`` to the block's end."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            call, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | _ONE_THREAD | environment
        )
        try:
            _wait_until_ready(child, f"http://{LOOPBACK}:{port}{ready}", log)
            yield psutil.Process(child.pid)
        finally:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(30)
            child.kill()
            child.wait()


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Any) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and child.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5.0, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    log.seek(0)
    last = (log.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
    raise AgeSearchError(f"A server of the bench did not come up: {last}")
