"""[ray] The replicas of versions, as applications of Ray Serve: one for each version that runs.

Serve starts, watches and replaces replicas. Each has its HTTP server on a Unix socket in the folder of its
group, which the ingress leads requests to or does not; so a version can run whole before it gets any.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from agesearch.errors import AgeSearchError, first_line
from agesearch.serving.access.check import Access
from agesearch.serving.images import ImageLimits
from agesearch.serving.rollout.groups import Group, Groups, Replica, Replicas
from agesearch.serving.rollout.scaling import WAITING, replicas_wanted

_DEPLOYMENT = "faces"
#: Seconds that a replica has for the requests that it works on when it is to end, and between two questions
#: whether it still serves.
_DRAIN_S, _HEALTH_PERIOD_S = 8, 2
#: Seconds that Ray's report of Serve's end is waited for; it comes on another thread, a little later.
_NOTICE_TIMEOUT_S = 1.0
#: Seconds of load before a replica is added, and of idleness before one goes.
_UP_S, _DOWN_S = 3.0, 60.0
_FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


class _ServeReplica:
    """A replica as a deployment of Serve."""

    def __init__(self, folder: str, access: Access, threads: int, limits: ImageLimits, place: str) -> None:
        from ray import serve

        context: Any = serve.get_replica_context()
        self._replica = Replica(folder, access, threads, limits, place, str(context.replica_id.unique_id))

    def check_health(self) -> None:
        """Serve asks now and then, and replaces a replica where this raises."""
        self._replica.check()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve scales by."""
        return {WAITING: self._replica.waiting}

    def __del__(self) -> None:
        # Serve calls it when the replica is to end, and waits for it.
        if replica := getattr(self, "_replica", None):
            replica.drain()


class Fleet(Groups):
    """Versions that run on Ray Serve, in the running Ray session."""

    def __init__(self, folder: Path, access: Access, threads: int, limits: ImageLimits) -> None:
        from ray.serve.schema import LoggingConfig

        super().__init__(folder, access, threads, limits)
        self._quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)

    def close(self) -> None:
        """End Serve, and all versions with it."""
        stop_serve()

    def _launch(self, wanted: Sequence[tuple[Group, Replicas]]) -> None:
        from ray import serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        targets = [
            serve.RunTarget(self._application(group, replicas), name=group.application, route_prefix=None)
            for group, replicas in wanted
        ]
        try:
            serve.start(proxy_location="Disabled", logging_config=self._quiet)  # where it does not run yet
            serve.run_many(
                targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
            )
        except (RayError, RayServeException, RuntimeError) as error:
            raise AgeSearchError(f"The service did not come up: {first_line(error)}") from error

    def _end(self, group: Group) -> None:
        from ray import serve

        delete: Any = serve.delete
        delete(group.application, _blocking=True)

    def _fault(self, group: Group) -> str | None:
        from ray import serve
        from ray.exceptions import RayError

        try:
            found = serve.status().applications.get(group.application)
        except RayError as error:
            return first_line(error)
        failed = found is not None and found.status in _FAILED
        return first_line(RuntimeError(found.message)) if found is not None and failed else None

    def _application(self, group: Group, replicas: Replicas) -> Any:
        from ray import serve

        place = self._folder / group.name
        deployment: Any = serve.deployment(_ServeReplica)
        deployment = deployment.options(
            name=_DEPLOYMENT,
            ray_actor_options={
                "num_cpus": self._threads,
                "runtime_env": {"env_vars": self._environment()},
            },
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
