"""[ray] What keeps a service on a cluster running: one actor, which no command owns.

It does on its node what ``agesearch serve`` does on a machine: HAProxy at one address, replicas on Unix
sockets, the alias followed. Where its process or its node dies, Ray starts it again where there is room, with
the version that the alias then names.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from dataclasses import replace
from typing import Any

from agesearch.errors import AgeSearchError, first_line
from agesearch.provenance import now
from agesearch.serving.access.keys import checked_file
from agesearch.serving.app import RunningService, ServiceOptions, serving
from agesearch.serving.auth import TokenCheck
from agesearch.serving.deployments.records import DeployedService, Deployment
from agesearch.serving.deployments.replicas import ActorGroups
from agesearch.serving.ingress.supervisor import SOCKET_SUFFIX
from agesearch.serving.ingress.tls import certificate_of
from agesearch.serving.rollout.models import served_models
from agesearch.serving.rollout.state import read_state

_LOG = logging.getLogger(__name__)
#: Seconds until a service that could not start is tried again.
_AGAIN_S = 5.0
#: Hosts that stand for all addresses of a node.
_ALL = ("0.0.0.0", "::")


class Supervisor:
    """The actor. It never ends by itself: what goes wrong is told by ``describe``, and tried again."""

    def __init__(self, registry: str, deployment: Deployment, check: TokenCheck) -> None:
        os.chdir("/")  # the folder of a job that deployed it goes
        self._registry, self._deployment, self._check = registry, deployment, check
        self._told = DeployedService(
            deployment.model,
            "starting",
            registry,
            node=f"{socket.gethostname()} ({_node_address()})",
            wanted=deployment.replicas,
            since=deployment.since,
            began=now(),
        )
        self._service: RunningService | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="service", daemon=True)
        self._thread.start()

    def describe(self) -> DeployedService:
        """How it stands."""
        service = self._service
        state = None if service is None else read_state(service.folder)
        live = next((one for one in state.models if one.role == "live"), None) if state else None
        if service is None or live is None:
            return self._told
        answering = len(list((service.folder / live.group).glob(f"*{SOCKET_SUFFIX}")))
        return replace(self._told, version=live.version, url=service.url, replicas=answering)

    def deployment(self) -> Deployment:
        """What it was asked to serve."""
        return self._deployment

    def end(self) -> None:
        """Answer what came, and end all that was started."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._serve()
            except Exception as error:  # whatever it meets: it is told, and tried again
                _LOG.exception("The service does not run.")
                code = error.exit_code if isinstance(error, AgeSearchError) else 1
                self._told = replace(self._told, state="failing", why=first_line(error), exit_code=code)
            finally:
                self._service = None
            self._ended.wait(_AGAIN_S)

    def _serve(self) -> None:
        """Serve until it is to end."""
        wanted = self._deployment
        models = served_models([wanted.model], self._registry, wanted.signed_by)
        options = ServiceOptions(
            host=wanted.host,
            reached_at=_node_address() if wanted.host in _ALL else None,
            port=wanted.port,
            replicas=wanted.replicas,
            threads=wanted.threads,
            keys=checked_file(wanted.keys) if wanted.keys else None,
            certificate=certificate_of(wanted.tls_cert, wanted.tls_key),
            access_log=wanted.access_log,
        )
        with serving(models, self._check, options, _LOG.warning, ActorGroups) as service:
            self._service = service
            self._told = replace(self._told, state="serving", why="", exit_code=0, began=now())
            self._ended.wait()
            self._told = replace(self._told, state="ending")


def _node_address() -> str:
    import ray

    address: Any = ray.util.get_node_ip_address  # Ray leaves it untyped
    return str(address())
