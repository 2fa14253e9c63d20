"""The one address of a service, before replicas that come and go.

Each replica listens on a Unix socket in its group's folder, which lies in the service's, named
``<replica>.sock``: that the file is there says that the replica answers. Routes say which groups answer for
which model. A thread of the driver keeps HAProxy running, and tells it of the sockets as they come and go.
The listening socket is the driver's own, so that connections wait in the kernel, and are not refused, while
HAProxy is started anew.
"""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from agesearch.errors import AgeSearchError
from agesearch.serving.access.log import AccessLog
from agesearch.serving.ingress.config import (
    ADMIN_SOCKET,
    IngressOptions,
    Route,
    Server,
    backend_of,
    server_options,
    write_config,
)
from agesearch.serving.ingress.haproxy import HAProxy, find_haproxy

_LOG = logging.getLogger(__name__)

OPTIONS = IngressOptions()
SOCKET_SUFFIX = ".sock"
_TICK_S = 0.05
#: Ticks between two looks for sockets whose replica was killed and could not take them away.
_TICKS_OF_A_SWEEP = 10
_START_TIMEOUT_S = 10.0
#: Seconds for which HAProxy may fail to take commands on a busy machine before that is a fault.
_PATIENCE_S = 5.0
_BACKLOG = 1024


class Ingress:
    """HAProxy before the replicas of ``folder``, for the length of a ``with`` block.

    ``listener`` is bound to the service's address; it is closed at the end. ``routes`` name the models, the
    first of which answers requests that name none.
    """

    def __init__(
        self,
        listener: socket.socket,
        options: IngressOptions = OPTIONS,
        routes: Sequence[Route] = (Route(),),
    ) -> None:
        self._program = find_haproxy()
        self._log = AccessLog(options.access_log) if options.access_log else None
        self.folder = Path(tempfile.mkdtemp(prefix="agesearch-"))  # mode 0700, a short path
        self._listener = listener
        self._options = options
        self._haproxy: HAProxy | None = None
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._routes = tuple(routes)
        self._known: frozenset[Server] = frozenset()
        self._shares: dict[str, int] = {}
        self._fault: Exception | None = None
        self._failing_since = 0.0
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

    def route(self, routes: Sequence[Route]) -> None:
        """Lead the requests another way, for the same models; nothing that is under way is broken off."""
        self._routes = tuple(routes)

    def wait_for(self, replicas: int, seconds: float, group: str = "") -> None:
        """Until so many replicas of a group are known, and none that no route leads to; an ``AgeSearchError``
        where that does not come.
        """
        with self._changed:
            came = self._changed.wait_for(
                lambda: self._lasting_fault() or self._is_led(group, replicas), seconds
            )
            known, fault = len(self._of(group)), self._lasting_fault()
        if fault is not None:
            raise AgeSearchError(f"The service's ingress failed: {fault}") from fault
        if not came:
            raise AgeSearchError(f"Of {replicas} replicas {known} answer after {seconds:g} s.")

    def _lasting_fault(self) -> Exception | None:
        lasts = time.monotonic() - self._failing_since > _PATIENCE_S
        return self._fault if lasts else None

    def sockets_of(self, group: str) -> list[Path]:
        """The sockets of a group's replicas, whether a route leads there or not."""
        found = (self.folder / group).glob(f"*{SOCKET_SUFFIX}")
        return sorted(path for path in found if path.name != ADMIN_SOCKET)

    def answered(self, model: str, *, canary: bool = False) -> tuple[int, int]:
        """Answers and failures (5xx) of a model's version, or of the one that is tried, since the start."""
        index = [route.model for route in self._routes].index(model)
        haproxy = self._haproxy
        try:
            counts = {} if haproxy is None else haproxy.answered()
        except OSError:  # it is being started anew
            counts = {}
        return counts.get(backend_of(index, canary=canary), (0, 0))

    def _of(self, group: str) -> list[Server]:
        place = self.folder / group
        return [server for server in self._known if server.socket.parent == place]

    def _is_led(self, group: str, replicas: int) -> bool:
        led = {part for route in self._routes for part in (route.group, route.canary) if part is not None}
        places = {self.folder / part for part in led}
        return len(self._of(group)) >= replicas and all(
            server.socket.parent in places for server in self._known
        )

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
                self._note(error)
            tick += 1
            self._ended.wait(_TICK_S)
        if self._haproxy is not None:
            self._haproxy.end()

    def _note(self, fault: Exception) -> None:
        with self._changed:
            if self._fault is None:
                self._failing_since = time.monotonic()
            self._fault = fault
            self._changed.notify_all()

    def _keep_running(self) -> bool:
        """Whether HAProxy runs; it is started with the first replica, and nothing listens before."""
        if self._haproxy is not None and self._haproxy.is_running():
            return True
        if self._haproxy is None and not self._wanted():
            return False
        self._listener.listen(_BACKLOG)
        routes = self._routes
        config = write_config(
            self.folder, self._listener.fileno(), self._options, sorted(self._wanted()), routes
        )
        self._known = frozenset()
        self._shares = _shares(routes)
        self._haproxy = HAProxy(self._program, config, self._listener.fileno())
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._haproxy.is_listening():
            if not self._haproxy.is_running() or time.monotonic() > deadline:
                raise AgeSearchError(f"HAProxy does not start: {self._haproxy.complaint()}")
            time.sleep(0.01)
        return True

    def _wanted(self) -> frozenset[Server]:
        """The replicas that take requests, where the routes lead to them."""
        return frozenset(
            Server(backend_of(index, canary=tried), path.stem, path)
            for index, route in enumerate(self._routes)
            for tried, group in ((False, route.group), (True, route.canary))
            if group is not None
            for path in self.sockets_of(group)
        )

    def _sweep(self) -> None:
        for server in self._wanted():
            if not _has_listener(server.socket):
                server.socket.unlink(missing_ok=True)

    def _follow(self) -> None:
        assert self._haproxy is not None
        self._follow_shares(self._haproxy)
        wanted = self._wanted()
        if wanted == self._known:
            return
        places = {(server.backend, server.name): server for server in wanted}
        known = self._haproxy.servers()
        # First those that come, then those that go: there is somebody to answer all the time.
        for place in places.keys() - known:
            self._haproxy.add(places[place], server_options(self._options.limits))
        for place in known - places.keys():
            self._haproxy.drop(*place)  # once more in the next tick, until its last request has ended
        left = self._haproxy.servers()
        gone = {server for server in self._known if (server.backend, server.name) in left}
        with self._changed:
            self._known = frozenset(places[place] for place in left & places.keys()) | (gone - wanted)
            self._changed.notify_all()

    def _follow_shares(self, haproxy: HAProxy) -> None:
        for backend, share in _shares(self._routes).items():
            if self._shares.get(backend) != share:
                haproxy.share(backend, share)
                self._shares[backend] = share


def _shares(routes: Sequence[Route]) -> dict[str, int]:
    return {backend_of(index): route.of_ten_thousand for index, route in enumerate(routes)}


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
