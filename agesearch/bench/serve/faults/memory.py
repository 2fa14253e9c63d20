"""The memory of a running service, process by process, while something happens to it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress

import psutil

from agesearch.bench.serve.faults.finding import Finding
from agesearch.bench.serve.servers import Server

_MIB = 2**20
#: What may come to one of our processes in a day of work, in MiB; of Ray's own it is only told.
_MOST_MORE = 10
_KINDS = {"ServeReplica": "replica", "bin/haproxy": "ingress", "ServeController": "Serve's controller"}
_RAY, _DRIVER = "the rest of Ray", "driver"
_OURS = ("replica", "ingress", _DRIVER)


class MemoryWatch:
    """Looks at the memory of a service's processes every few seconds, for the length of a ``with`` block.

    ``begin`` marks what they had at the start; replicas are numbered by age, Ray's processes are one sum.
    """

    def __init__(self, server: Server, every_s: float = 5.0) -> None:
        self._server = server
        self._every_s = every_s
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._peak: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def begin(self) -> None:
        """What the processes have now is what they are compared with."""
        self._first = memory_mib(self._server)

    def findings(self, drill: str) -> Iterator[Finding]:
        """What each had at the start, at its peak and at the end."""
        for name, first in self._first.items():
            last = self._last.get(name, 0.0)
            yield Finding(drill, f"{name}, at first", first, "MiB")
            yield Finding(drill, f"{name}, peak", self._peak.get(name, last), "MiB")
            yield Finding(drill, f"{name}, at the end", last, "MiB")
            most = _MOST_MORE if name.split()[0] in _OURS else None
            yield Finding(drill, f"{name}, more at the end", last - first, "MiB", most)

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        self._last = memory_mib(self._server)
        for name, mib in self._last.items():
            self._peak[name] = max(mib, self._peak.get(name, 0.0))


def memory_mib(server: Server) -> dict[str, float]:
    """Resident memory in MiB by process: the driver, each replica, the ingress, and Ray's."""
    found: defaultdict[str, float] = defaultdict(float)
    replicas = 0
    for process in sorted(
        [server.process, *server.process.children(recursive=True)], key=lambda one: one.pid
    ):
        with suppress(psutil.NoSuchProcess):
            words = " ".join(process.cmdline()[:2])
            name = next((kind for word, kind in _KINDS.items() if word in words), _RAY)
            if name == "replica":
                replicas += 1
                name = f"replica {replicas}"
            elif process.pid == server.process.pid:
                name = _DRIVER
            found[name] += process.memory_info().rss / _MIB
    return dict(found)
