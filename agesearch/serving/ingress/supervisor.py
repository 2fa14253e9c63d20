"""The one address of a service, before replicas that come and go.

Each replica listens on a Unix socket in the service's folder, named ``<replica>.sock``: that the file is
there says that the replica answers. A thread of the driver keeps HAProxy running, and tells it of the sockets
as they come and go. The listening socket is the driver's own, so that connections wait in the kernel, and are
not refused, while HAProxy is started anew.
"""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

from agesearch.errors import AgeSearchError
from agesearch.serving.access.log import AccessLog
from agesearch.serving.ingress.config import ADMIN_SOCKET, IngressOptions, server_options, write_config
from agesearch.serving.ingress.haproxy import HAProxy, find_haproxy

_LOG = logging.getLogger(__name__)

OPTIONS = IngressOptions()
SOCKET_SUFFIX = ".sock"
_TICK_S = 0.05
#: Ticks between two looks for sockets whose replica was killed and could not take them away.
_TICKS_OF_A_SWEEP = 10
_START_TIMEOUT_S = 10.0
_BACKLOG = 1024


class Ingress:
    """HAProxy before the replicas of ``folder``, for the length of a ``with`` block.

    ``listener`` is bound to the service's address; it is closed at the end.
    """

    def __init__(self, listener: socket.socket, options: IngressOptions = OPTIONS) -> None:
        self._program = find_haproxy()
        self._log = AccessLog(options.access_log) if options.access_log else None
        self.folder = Path(tempfile.mkdtemp(prefix="agesearch-"))  # mode 0700, a short path
        self._listener = listener
        self._options = options
        self._haproxy: HAProxy | None = None
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._known: frozenset[str] = frozenset()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="ingress", daemon=True)

    def __enter__(self) -> Ingress:
        if self._log is not None:
            self._log.start(self.folder)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._log is not None:
            self._log.end()
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        """HAProxy's process."""
        return None if self._haproxy is None else self._haproxy.pid

    def wait_for(self, replicas: int, seconds: float) -> None:
        """Until so many replicas are known; an ``AgeSearchError`` where they do not come."""
        with self._changed:
            came = self._changed.wait_for(lambda: self._fault or len(self._known) >= replicas, seconds)
        if self._fault is not None:
            raise AgeSearchError(f"The service's ingress failed: {self._fault}") from self._fault
        if not came:
            raise AgeSearchError(f"Of {replicas} replicas {len(self._known)} answer after {seconds:g} s.")

    def _run(self) -> None:
        # HAProxy is bound to the thread that starts it: this one starts it, and lives as long as it shall.
        tick = 0
        while not self._ended.is_set():
            try:
                if self._keep_running():
                    if tick % _TICKS_OF_A_SWEEP == 0:
                        self._sweep()
                    self._follow()
                self._fault = None
            except (OSError, AgeSearchError) as error:
                _LOG.warning("ingress: %s", error)
                self._fault = error
            tick += 1
            self._ended.wait(_TICK_S)
        if self._haproxy is not None:
            self._haproxy.end()

    def _keep_running(self) -> bool:
        """Whether HAProxy runs; it is started with the first replica, and nothing listens before."""
        if self._haproxy is not None and self._haproxy.is_running():
            return True
        if self._haproxy is None and not self._sockets():
            return False
        self._listener.listen(_BACKLOG)
        config = write_config(self.folder, self._listener.fileno(), self._options, self._sockets())
        self._known = frozenset()
        self._haproxy = HAProxy(self._program, config, self._listener.fileno())
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._haproxy.is_listening():
            if not self._haproxy.is_running() or time.monotonic() > deadline:
                raise AgeSearchError(f"HAProxy does not start: {self._haproxy.complaint()}")
            time.sleep(0.01)
        return True

    def _sockets(self) -> dict[str, Path]:
        """The replicas that take requests."""
        found = self.folder.glob(f"*{SOCKET_SUFFIX}")
        return {path.stem: path for path in found if path.name != ADMIN_SOCKET}

    def _sweep(self) -> None:
        for path in self._sockets().values():
            if not _has_listener(path):
                path.unlink(missing_ok=True)

    def _follow(self) -> None:
        assert self._haproxy is not None
        there = self._sockets()
        if there.keys() == self._known:
            return
        known = self._haproxy.servers()
        for name in known - there.keys():
            self._haproxy.drop(name)  # once more in the next tick, until its last request has ended
        for name in there.keys() - known:
            self._haproxy.add(name, there[name], server_options(self._options.limits))
        with self._changed:
            self._known = frozenset(self._haproxy.servers())
            self._changed.notify_all()


def _has_listener(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:  # its queue is full: it is busy, not gone
        return True
    return True
