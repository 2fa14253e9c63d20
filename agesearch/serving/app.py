"""The service on Ray Serve: one deployment a model, replicas with ONNX Runtime and without torch.

``with serving(folder, token) as service: ...`` starts it in the Ray session that is running, answers at
``service.url`` and takes everything down again when the block ends. What HTTP looks like is in
``agesearch.serving.http``; here is only how it runs.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

import httpx

from agesearch.deploy.registry import verify
from agesearch.errors import AgeSearchError, InputError
from agesearch.serving.auth import TokenCheck
from agesearch.serving.faces import open_service
from agesearch.serving.http import create_app
from agesearch.serving.images import ImageLimits
from agesearch.serving.ports import free_port, require_free, url_of
from agesearch.session import LOOPBACK
from agesearch.storage import Location

_APPLICATION = "agesearch"

#: Requests that a replica takes from the proxy at once. Far more than it lets in: the proxy buffers bodies of
#: waiting requests without a limit, whereas the replica refuses at once those it has no room for.
_MAX_ONGOING = 128
_MAX_QUEUED = 128

#: Seconds after which a request is given up.
_REQUEST_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 60.0
#: Seconds that Ray's report of Serve's end is waited for; it comes on another thread, a little later.
_NOTICE_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class ServiceOptions:
    """Where and how a service runs; port 0 takes a free one, ``threads`` are those of each replica."""

    host: str = LOOPBACK
    port: int = 8000
    replicas: int = 1
    threads: int = 1
    limits: ImageLimits = ImageLimits()


@dataclass(frozen=True)
class RunningService:
    """A service that answers."""

    url: str

    @property
    def docs_url(self) -> str:
        """The page that documents and tries every call."""
        return f"{self.url}/docs"


class _Replica:
    """One process of the deployment: a checked model and the HTTP application around it."""

    def __init__(self, folder: str, token: TokenCheck, threads: int, limits: ImageLimits) -> None:
        self._service = open_service(folder, threads, limits)
        self._token = token
        self._limits = limits

    def __serve_build_asgi_app__(self) -> Any:
        return create_app(self._service, self._token, self._limits)


@contextmanager
def serving(
    folder: str | Location, token: str, options: ServiceOptions = ServiceOptions()
) -> Iterator[RunningService]:
    """Serve a version's folder in the running Ray session for the length of the block.

    Raises ``InputError`` for a damaged version, an address in use, or more threads than there are cores, and
    ``AgeSearchError`` where the service does not come up.
    """
    place = Location.of(folder)
    verify(place)
    port = options.port or free_port(options.host)
    require_free(options.host, port)
    _require_cores(options)
    try:
        _start(place, TokenCheck(token), options, port)
        service = RunningService(url_of(options.host, port))
        _wait_until_healthy(service.url)
        yield service
    finally:
        _stop()


def _require_cores(options: ServiceOptions) -> None:
    import ray

    resources: Any = ray.cluster_resources  # Ray leaves it untyped
    cores = int(resources().get("CPU", 0))
    wanted = options.replicas * options.threads
    if wanted > cores:
        raise InputError(
            f"{options.replicas} replicas of {options.threads} threads need {wanted} cores, but there are "
            f"{cores}: lower --replicas or --threads."
        )


def _start(folder: Location, token: TokenCheck, options: ServiceOptions, port: int) -> None:
    from ray import serve
    from ray.serve.exceptions import RayServeException
    from ray.serve.schema import LoggingConfig

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    deployment: Any = serve.deployment(serve.ingress()(_Replica))
    deployment = deployment.options(
        name="faces",
        num_replicas=options.replicas,
        max_ongoing_requests=_MAX_ONGOING,
        max_queued_requests=_MAX_QUEUED,
        ray_actor_options={"num_cpus": options.threads},
        graceful_shutdown_timeout_s=5,
        graceful_shutdown_wait_loop_s=0.1,
        logging_config=quiet,
    )
    try:
        serve.start(
            http_options={"host": options.host, "port": port, "request_timeout_s": _REQUEST_TIMEOUT_S},
            logging_config=quiet,
        )
        serve.run(deployment.bind(str(folder), token, options.threads, options.limits), name=_APPLICATION)
    except (RayServeException, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AgeSearchError(f"The service did not come up: {first}") from error


def _wait_until_healthy(url: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/healthz", timeout=5.0, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AgeSearchError(f"The service was started, but nothing answers at {url}.")


def _stop() -> None:
    import ray
    from ray import serve

    if ray.is_initialized():
        shutdown: Any = serve.shutdown
        sink: Any = _WithoutNotice(sys.stdout)
        with redirect_stdout(sink):
            shutdown()
            sink.noticed.wait(_NOTICE_TIMEOUT_S)


class _WithoutNotice:
    """Standard output less one line: Ray reports the call that ends Serve's controller as a failed task."""

    _NOTICE = "ServeController.graceful_shutdown failed"

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink
        self._after_notice = False
        self.noticed = threading.Event()

    def write(self, text: str) -> int:
        is_line_end = self._after_notice and text == "\n"  # print() writes a line and its end apart
        self._after_notice = self._NOTICE in text
        if self._after_notice:
            self.noticed.set()
        return len(text) if self._after_notice or is_line_end else self._sink.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)
