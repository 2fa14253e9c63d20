"""The replicas of versions, as applications of Ray Serve: one for each version that runs.

Serve starts, watches and replaces replicas. Each has its HTTP server on a Unix socket in the folder of its
group, which the ingress leads requests to or does not; so a version can run whole before it gets any.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from agesearch.data.images.memory import give_back_large_pieces
from agesearch.errors import AgeSearchError, first_line
from agesearch.serving.access.check import Access
from agesearch.serving.faces import open_service
from agesearch.serving.images import ImageLimits
from agesearch.serving.ingress.supervisor import SOCKET_SUFFIX
from agesearch.serving.replica import ReplicaServer
from agesearch.serving.rollout.scaling import WAITING, replicas_wanted
from agesearch.serving.web.metrics import FOLDER_VARIABLE
from agesearch.serving.web.routes import create_app
from agesearch.storage import Location

_DEPLOYMENT = "faces"
#: Seconds that a replica has for the requests that it works on when it is to end, and between two questions
#: whether it still serves.
_DRAIN_S, _HEALTH_PERIOD_S = 8, 2
#: Seconds that Ray's report of Serve's end is waited for; it comes on another thread, a little later.
_NOTICE_TIMEOUT_S = 1.0
#: Seconds of load before a replica is added, and of idleness before one goes.
_UP_S, _DOWN_S = 3.0, 60.0
METRICS = "metrics"
#: Seconds that versions may take to start, and between two questions to Serve how that goes.
_START_TIMEOUT_S, _ASK_S = 60.0, 0.5
_FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
#: In the folder of a group: why a replica cannot open the version.
_CAUSE = "cause.txt"


@dataclass(frozen=True)
class Replicas:
    """How many replicas: at least, at most, and at first (None: the fewest)."""

    least: int = 1
    most: int = 1
    first: int | None = None

    def beginning_with(self, replicas: int) -> Replicas:
        """The same, with so many at first, as far as it allows."""
        return replace(self, first=min(self.most, max(self.least, replicas)))

    @staticmethod
    def of(count: int) -> Replicas:
        """Always so many."""
        return Replicas(count, count)

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"


@dataclass(frozen=True)
class Group:
    """The replicas of one version: the name of their folder, and of their application."""

    name: str
    application: str
    folder: str


class _Replica:
    """One process of a deployment: a checked model, and the HTTP application around it on a Unix socket in
    ``place``.
    """

    def __init__(self, folder: str, access: Access, threads: int, limits: ImageLimits, place: str) -> None:
        from ray import serve

        give_back_large_pieces()
        group = Path(place)
        try:
            service = open_service(folder, threads, limits)
        except Exception as error:  # the driver reads it at once; Serve would try again, and tell less
            _write(group / _CAUSE, first_line(error))
            raise
        app = create_app(service, access, limits, group)
        context: Any = serve.get_replica_context()
        self._waiting = app.state.batches
        self._server = ReplicaServer(app, group, str(context.replica_id.unique_id))

    def check_health(self) -> None:
        """Serve asks now and then, and replaces a replica where this raises."""
        if not self._server.is_serving():
            raise AgeSearchError("The replica's HTTP server has stopped.")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve scales by."""
        return {WAITING: float(self._waiting.waiting)}

    def __del__(self) -> None:
        # Serve calls it when the replica is to end, and waits for it.
        if server := getattr(self, "_server", None):
            server.drain()


class Fleet:
    """Versions that run in the running Ray session; ``folder`` is the service's."""

    def __init__(self, folder: Path, access: Access, threads: int, limits: ImageLimits) -> None:
        from ray import serve
        from ray.serve.schema import LoggingConfig

        self._folder, self._access, self._threads, self._limits = folder, access, threads, limits
        self._started = 0
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        self._quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
        (folder / METRICS).mkdir()
        serve.start(proxy_location="Disabled", logging_config=self._quiet)

    def start(self, wanted: Sequence[tuple[str, Location, Replicas]]) -> list[Group]:
        """Start versions, each by a name to show, its folder and its replicas, all at once, and wait until
        they answer. An ``AgeSearchError`` says why one does not.
        """
        groups = []
        for label, folder, _ in wanted:
            self._started += 1
            name = str(self._started)
            (self._folder / name).mkdir()
            groups.append(Group(name, f"{label.replace(':', '-')}-{name}", str(folder)))
        try:
            self._run([(group, replicas) for group, (_, _, replicas) in zip(groups, wanted, strict=True)])
        except AgeSearchError:
            for group in groups:
                self.stop(group)
            raise
        return groups

    def scale(self, group: Group, replicas: Replicas) -> None:
        """Give a version more or fewer replicas; those that are to stay go on."""
        self._run([(group, replicas)])

    def stop(self, group: Group) -> None:
        """End a version: its replicas answer what they have, and go."""
        from ray import serve

        delete: Any = serve.delete
        delete(group.application, _blocking=True)
        shutil.rmtree(self._folder / group.name, ignore_errors=True)

    def _run(self, wanted: Sequence[tuple[Group, Replicas]]) -> None:
        from ray import serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        targets = [
            serve.RunTarget(self._application(group, replicas), name=group.application, route_prefix=None)
            for group, replicas in wanted
        ]
        for group, _ in wanted:
            (self._folder / group.name / _CAUSE).unlink(missing_ok=True)
        try:
            serve.run_many(
                targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
            )
            deadline = time.monotonic() + _START_TIMEOUT_S
            for group, replicas in wanted:
                self._wait_for(group, replicas, deadline)
        except (RayError, RayServeException, RuntimeError) as error:
            raise AgeSearchError(f"The service did not come up: {first_line(error)}") from error

    def _wait_for(self, group: Group, replicas: Replicas, deadline: float) -> None:
        """Until the replicas answer. Their files tell it sooner than Serve, which tells of other failures."""
        from ray import serve

        place = self._folder / group.name
        asked = time.monotonic()
        while len(list(place.glob(f"*{SOCKET_SUFFIX}"))) < (replicas.first or replicas.least):
            now = time.monotonic()
            if cause := _read(place / _CAUSE):
                raise AgeSearchError(f"{group.application.rpartition('-')[0]} cannot be opened: {cause}")
            if now > deadline:
                raise AgeSearchError(
                    f"The replicas of {group.application} do not start within {_START_TIMEOUT_S:g} s: is "
                    "there room for them beside those that answer?"
                )
            if now - asked > _ASK_S:
                asked = now
                found = serve.status().applications.get(group.application)
                if found is not None and found.status in _FAILED:
                    message = first_line(RuntimeError(found.message))
                    raise AgeSearchError(f"The service did not come up: {message}")
            time.sleep(0.02)

    def _application(self, group: Group, replicas: Replicas) -> Any:
        from ray import serve

        place = self._folder / group.name
        environment = {
            FOLDER_VARIABLE: str(self._folder / METRICS),
            "OMP_NUM_THREADS": str(self._threads),
        }
        deployment: Any = serve.deployment(_Replica)
        deployment = deployment.options(
            name=_DEPLOYMENT,
            ray_actor_options={"num_cpus": self._threads, "runtime_env": {"env_vars": environment}},
            health_check_period_s=_HEALTH_PERIOD_S,
            graceful_shutdown_timeout_s=_DRAIN_S,
            graceful_shutdown_wait_loop_s=0.1,
            logging_config=self._quiet,
            # The same version again: a number of replicas changes, and none that answers is replaced.
            version=group.application,
            _internal=True,
            **_number_of(replicas),
        )
        return deployment.bind(group.folder, self._access, self._threads, self._limits, str(place))


def _write(path: Path, text: str) -> None:
    """A text that is there whole or not at all."""
    staging = path.with_suffix(".new")
    staging.write_text(text, "utf-8")
    staging.replace(path)


def _read(path: Path) -> str:
    """A file's text; empty where there is none (yet)."""
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _number_of(replicas: Replicas) -> dict[str, Any]:
    if replicas.least == replicas.most:
        return {"num_replicas": replicas.least}
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    policy: Any = AutoscalingPolicy

    scaling = AutoscalingConfig(
        min_replicas=replicas.least,
        max_replicas=replicas.most,
        initial_replicas=replicas.first or replicas.least,
        metrics_interval_s=0.5,
        look_back_period_s=3.0,
        upscale_delay_s=_UP_S,
        downscale_delay_s=_DOWN_S,
        policy=policy(policy_function=replicas_wanted),
    )
    return {"autoscaling_config": scaling, "num_replicas": "auto"}


def stop_serve() -> None:
    """End Serve and all replicas, without Ray's report of it."""
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
