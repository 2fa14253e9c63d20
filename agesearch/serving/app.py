"""The service on Ray Serve: replicas without torch, and HAProxy before them.

``with serving(folder, token) as service: ...`` starts it in the Ray session that is running, answers at
``service.url`` and takes everything down again when the block ends. Ray Serve starts the replicas, watches
and replaces them; requests reach them through the ingress and not through Serve's proxy, which costs more
time than the model. What HTTP looks like is in ``agesearch.serving.web``; here is only how it runs.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from agesearch.deploy.registry import verify
from agesearch.errors import AgeSearchError, InputError
from agesearch.serving.access.check import Access
from agesearch.serving.auth import TokenCheck
from agesearch.serving.faces import open_service
from agesearch.serving.images import ImageLimits
from agesearch.serving.ingress.config import IngressOptions
from agesearch.serving.ingress.supervisor import Ingress
from agesearch.serving.ingress.tls import Certificate
from agesearch.serving.orphans import bound_to_driver
from agesearch.serving.ports import bound, url_of
from agesearch.serving.replica import ReplicaServer
from agesearch.serving.web.metrics import FOLDER_VARIABLE
from agesearch.serving.web.routes import create_app
from agesearch.session import LOOPBACK
from agesearch.storage import Location

_APPLICATION = "agesearch"
_DEPLOYMENT = "faces"

_START_TIMEOUT_S = 60.0
#: Seconds that a replica has for the requests that it works on when it is to end, and between two questions
#: whether it still serves.
_DRAIN_S, _HEALTH_PERIOD_S = 8, 2
#: Seconds that Ray's report of Serve's end is waited for; it comes on another thread, a little later.
_NOTICE_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class ServiceOptions:
    """Where and how a service runs; port 0 takes a free one, ``threads`` are those of each replica. The file
    of API ``keys`` is followed as it changes; with a ``certificate`` the service speaks TLS only.
    """

    host: str = LOOPBACK
    port: int = 8000
    replicas: int = 1
    threads: int = 1
    limits: ImageLimits = ImageLimits()
    keys: str | None = None
    certificate: Certificate | None = None
    access_log: str | None = None


@dataclass(frozen=True)
class RunningService:
    """A service that answers."""

    url: str

    @property
    def docs_url(self) -> str:
        """The page that documents and tries every call."""
        return f"{self.url}/docs"


class _Replica:
    """One process of the deployment: a checked model, and the HTTP application around it on a Unix socket in
    ``place``.
    """

    def __init__(self, folder: str, access: Access, threads: int, limits: ImageLimits, place: str) -> None:
        from ray import serve

        app = create_app(open_service(folder, threads, limits), access, limits)
        context: Any = serve.get_replica_context()
        self._server = ReplicaServer(app, Path(place), str(context.replica_id.unique_id))

    def check_health(self) -> None:
        """Serve asks now and then, and replaces a replica where this raises."""
        if not self._server.is_serving():
            raise AgeSearchError("The replica's HTTP server has stopped.")

    def __del__(self) -> None:
        # Serve calls it when the replica is to end, and waits for it.
        if server := getattr(self, "_server", None):
            server.drain()


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
    _require_cores(options)
    listener = bound(options.host, options.port)
    port = int(listener.getsockname()[1])
    ahead = IngressOptions(certificate=options.certificate, access_log=options.access_log)
    with Ingress(listener, ahead) as ingress, bound_to_driver(ingress.folder):
        try:
            access = Access(TokenCheck(token), options.keys, ingress.folder)
            _start(place, access, options, ingress.folder)
            ingress.wait_for(options.replicas, _START_TIMEOUT_S)
            yield RunningService(url_of(options.host, port, tls=options.certificate is not None))
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


def _start(folder: Location, access: Access, options: ServiceOptions, place: Path) -> None:
    from ray import serve
    from ray.serve.exceptions import RayServeException
    from ray.serve.schema import LoggingConfig

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    counts = place / "metrics"
    counts.mkdir()
    environment = {FOLDER_VARIABLE: str(counts), "OMP_NUM_THREADS": str(options.threads)}
    deployment: Any = serve.deployment(_Replica)
    deployment = deployment.options(
        name=_DEPLOYMENT,
        num_replicas=options.replicas,
        ray_actor_options={"num_cpus": options.threads, "runtime_env": {"env_vars": environment}},
        health_check_period_s=_HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=_DRAIN_S,
        graceful_shutdown_wait_loop_s=0.1,
        logging_config=quiet,
    )
    bound_to = (str(folder), access, options.threads, options.limits, str(place))
    try:
        serve.start(proxy_location="Disabled", logging_config=quiet)
        serve.run(deployment.bind(*bound_to), name=_APPLICATION, route_prefix=None)
    except (RayServeException, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AgeSearchError(f"The service did not come up: {first}") from error


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
