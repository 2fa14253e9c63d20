"""The service on Ray Serve: replicas without torch, and HAProxy before them.

``with serving(folder, token) as service: ...`` starts it in the Ray session that is running, answers at
``service.url`` and takes everything down again when the block ends. Ray Serve starts the replicas, watches
and replaces them; requests reach them through the ingress and not through Serve's proxy, which costs more
time than the model. What HTTP looks like is in ``agesearch.serving.web``; here is only how it runs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agesearch.errors import InputError
from agesearch.machine import cores
from agesearch.serving.access.check import Access
from agesearch.serving.auth import TokenCheck
from agesearch.serving.images import ImageLimits
from agesearch.serving.ingress.config import IngressOptions, Route
from agesearch.serving.ingress.supervisor import Ingress
from agesearch.serving.ingress.tls import Certificate
from agesearch.serving.orphans import bound_to_driver
from agesearch.serving.ports import bound, url_of
from agesearch.serving.rollout.fleet import Fleet
from agesearch.serving.rollout.follower import Follower
from agesearch.serving.rollout.groups import Groups, Replicas
from agesearch.serving.rollout.models import ServedModel
from agesearch.session import LOOPBACK
from agesearch.storage import Location

_START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class ServiceOptions:
    """Where and how a service runs; port 0 takes a free one, ``replicas`` are those of each model (at most
    ``most_replicas``, by what waits in them), ``threads`` those of each replica. The file
    of API ``keys`` is followed as it changes; with a ``certificate`` the service speaks TLS only. Clients
    find it at ``reached_at`` where that is not the ``host`` that it listens on.
    """

    host: str = LOOPBACK
    reached_at: str | None = None
    port: int = 8000
    replicas: int = 1
    most_replicas: int | None = None
    threads: int = 1
    limits: ImageLimits = ImageLimits()
    keys: str | None = None
    certificate: Certificate | None = None
    access_log: str | None = None

    @property
    def range(self) -> Replicas:
        """The number of each model's replicas."""
        return Replicas(self.replicas, self.most_replicas or self.replicas)

    def cpus(self, models: int = 1) -> int:
        """What Ray is to offer: room for a new version of each of ``models`` beside the one that answers."""
        return max(cores(), 2 * models * self.range.most * self.threads)


@dataclass(frozen=True)
class RunningService:
    """A service that answers; ``folder`` holds its sockets, and what it serves."""

    url: str
    folder: Path

    @property
    def docs_url(self) -> str:
        """The page that documents and tries every call."""
        return f"{self.url}/docs"


@contextmanager
def serving(
    models: str | Location | Sequence[ServedModel],
    token: str | TokenCheck,
    options: ServiceOptions = ServiceOptions(),
    tell: Callable[[str], None] = lambda _: None,
    kind: type[Groups] = Fleet,
) -> Iterator[RunningService]:
    """Serve models, or one version's folder, in the running Ray session for the length of the block. Those
    that follow an alias change as it does, and ``tell`` hears of it in a line. ``kind``: who starts replicas.

    Raises ``InputError`` for a damaged version, an address in use, or more threads than there are cores, and
    ``AgeSearchError`` where the service does not come up.
    """
    served = [ServedModel.pinned(models)] if isinstance(models, str | Location) else list(models)
    versions = [model.checked() for model in served]
    _require_cores(options)
    listener = bound(options.host, options.port)
    port = int(listener.getsockname()[1])
    url = url_of(options.reached_at or options.host, port, tls=options.certificate is not None)
    ahead = IngressOptions(certificate=options.certificate, access_log=options.access_log)
    waiting = [Route(model.name) for model in served]
    with Ingress(listener, ahead, waiting) as ingress, bound_to_driver(ingress.folder):
        check = TokenCheck(token) if isinstance(token, str) else token
        access = Access(check, options.keys, ingress.folder)
        fleet = kind(ingress.folder, access, options.threads, options.limits)
        try:
            groups = fleet.start([(version.label, version.folder, options.range) for version in versions])
            running = list(zip(served, groups, strict=True))
            key = secrets.token_urlsafe(32)
            with Follower(running, fleet, ingress, options.range, url, key, tell):
                for group in groups:
                    ingress.wait_for(options.replicas, _START_TIMEOUT_S, group.name)
                yield RunningService(url, ingress.folder)
        finally:
            fleet.close()


def _require_cores(options: ServiceOptions) -> None:
    import ray

    resources: Any = ray.cluster_resources  # Ray leaves it untyped
    there = min(int(resources().get("CPU", 0)), cores())
    wanted = options.range.most * options.threads
    if wanted > there:
        raise InputError(
            f"{options.range.most} replicas of {options.threads} threads need {wanted} cores, but there are "
            f"{there}: lower --replicas or --threads."
        )
