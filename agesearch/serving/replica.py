"""The HTTP server of one replica: uvicorn on a Unix socket, in a thread of its own.

No Ray: a deployment of Ray Serve, a bench or a test runs it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn

from agesearch.errors import AgeSearchError
from agesearch.serving.ingress.supervisor import SOCKET_SUFFIX

_START_TIMEOUT_S = 20.0
#: Seconds until the ingress has seen that a replica goes, and those that its last requests may take.
_NOTICE_S, _DRAIN_S = 0.5, 4
#: Longer than any connection of the ingress stays idle, so that it is never closed under a request.
_KEEP_ALIVE_S = 600
_BACKLOG = 1024


class ReplicaServer:
    """An ASGI application at ``folder/<name>.sock``, which is there while it takes requests."""

    def __init__(self, app: Any, folder: Path, name: str) -> None:
        self._path = folder / f"{name}{SOCKET_SUFFIX}"
        self._gone = folder / f"{name}.gone"
        making = folder / f"{name}.new"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(making))
        self._socket.listen(_BACKLOG)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,  # nothing asks where a request comes from
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_DRAIN_S,
            backlog=_BACKLOG,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )
        self._thread.start()
        self._wait_until_started()
        os.rename(making, self._path)

    def is_serving(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and self._path.exists()

    def drain(self) -> None:
        """Take no new request, let those that came end, and stop."""
        if self._path.exists():
            os.rename(self._path, self._gone)  # new connections fail, and go to another replica
            time.sleep(_NOTICE_S)
        self._server.should_exit = True
        self._thread.join(_DRAIN_S + 2)
        self._gone.unlink(missing_ok=True)

    def _wait_until_started(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise AgeSearchError("A replica's HTTP server does not start; its log says why.")
            time.sleep(0.01)
