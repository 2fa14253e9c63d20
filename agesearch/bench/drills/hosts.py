"""A Ray cluster on loopback whose nodes need not see the same files: each may have folders hidden from it, as
they are on another machine, in a mount namespace of its own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import psutil

from agesearch.bench.drills.network import Network
from agesearch.errors import AgeSearchError, InputError
from agesearch.machine import free_port

_PATIENCE_S = 120
_RAY = "import sys; from ray.scripts.scripts import main; sys.exit(main())"


def need_namespaces() -> None:
    """An ``InputError`` where this user may not make namespaces."""
    tried = ["unshare", "--mount", "--uts", "mount", "-t", "tmpfs", "none", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run(tried, capture_output=True).returncode:
        raise InputError("needs root and Linux's 'unshare': a host of its own is made of namespaces")


def _mounted(folder: Path, options: str = "") -> str:
    """What makes a folder empty, and the shell go on."""
    return f"mount -t tmpfs {options}none {shlex.quote(str(folder))} && "


@dataclass
class _Host:
    """A host that runs: its first process, and its number in the network."""

    process: subprocess.Popen[bytes]
    number: int


@dataclass
class Hosts:
    """The hosts of a cluster: ``start`` the head first, then others; ``kill_all`` takes all down. Each finds
    the ``hidden`` folders empty and has ``environment`` set; each but the head has the folders ``apart``
    for itself, too.

    In a ``network`` the head is this machine, and each other host has a link of its own; without one all are
    on loopback.
    """

    logs: Path
    hidden: Sequence[Path] = ()
    apart: Sequence[Path] = ()
    environment: dict[str, str] = field(default_factory=dict)
    network: Network | None = None
    started: dict[str, _Host] = field(default_factory=dict)
    address: str = ""
    dashboard: str = ""
    _numbers: int = 1

    def start(
        self,
        name: str,
        cpus: int,
        hidden: Sequence[Path] = (),
        *,
        dashboard: bool = False,
        room_kb: int = 0,
        environment: Mapping[str, str | None] = MappingProxyType({}),
    ) -> None:
        """Start a host called ``name`` that finds ``hidden`` folders empty, and wait until it is up.

        ``environment``: what its processes have set otherwise than this one (None: not at all). The head may
        have a ``dashboard``. Its hidden folders have room for ``room_kb`` kB each, where that is given.
        """
        number, own = self._place(is_head=not self.address)
        apart = self.apart if self.address else ()
        within = self.network.join(number) if self.network and self.address else []
        options = [
            *self._joining(own, dashboard=dashboard),
            "--num-cpus",
            str(cpus),
            "--node-ip-address",
            own,
            "--block",
            "--disable-usage-stats",
        ]
        ray = shlex.join([sys.executable, "-c", _RAY, "start", *options])
        size = f"-o size={room_kb}k " if room_kb else ""
        mounts = "".join(
            [
                *(_mounted(folder, size) for folder in (*self.hidden, *hidden)),
                *(_mounted(folder) for folder in apart),
            ]
        )
        script = f"hostname {shlex.quote(name)} && {mounts}exec {ray}"
        changed = {**os.environ, "RAY_AUTH_MODE": "token", **self.environment, **environment}
        log = self.logs / f"{name}.log"
        with open(log, "wb") as said:
            process = subprocess.Popen(
                [*within, "unshare", "--mount", "--uts", "sh", "-c", script],
                env={key: value for key, value in changed.items() if value is not None},
                stdout=said,
                stderr=said,
            )
        self.started[name] = _Host(process, number)
        end = time.monotonic() + _PATIENCE_S
        while b"Ray runtime started" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > end:
                raise AgeSearchError(f"The host {name} did not start: {log.read_text()}")
            time.sleep(0.2)

    def _place(self, *, is_head: bool) -> tuple[int, str]:
        """The number and address of the next host."""
        if self.network is None:
            self._numbers += 1
            return self._numbers, f"127.0.0.{self._numbers}"
        self._numbers += not is_head
        number = 1 if is_head else self._numbers
        return number, self.network.address_of(number)

    def _joining(self, own: str, *, dashboard: bool) -> list[str]:
        """Options of a host that joins the cluster, or of the head that makes it."""
        if self.address:
            return ["--address", self.address]
        self.address = f"{own}:{free_port(own)}"
        options = ["--head", "--port", self.address.rpartition(":")[2]]
        if not dashboard:
            return [*options, "--include-dashboard", "false"]
        port = free_port(own)
        self.dashboard = f"http://{own}:{port}"
        return [*options, "--dashboard-host", own, "--dashboard-port", str(port)]

    def cut(self, name: str) -> None:
        """Cut a host's link: it lives on, and reaches nobody."""
        if self.network:
            self.network.cut(self.started[name].number)

    def mend(self, name: str) -> None:
        """Give a host its link back."""
        if self.network:
            self.network.mend(self.started[name].number)

    def runs(self, name: str) -> bool:
        """Whether a host's Ray has not ended."""
        return self.started[name].process.poll() is None

    def kill(self, name: str) -> None:
        """Lose a host: all its processes at once."""
        host = self.started.pop(name)
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(host.process.pid)
            for process in [first, *first.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        host.process.wait()
        self._leave(host)

    def kill_all(self) -> None:
        """Lose all hosts, the head last: nobody waits for what is over."""
        for name in reversed(list(self.started)):
            self.kill(name)

    def end(self, name: str) -> None:
        """Take a host down."""
        host = self.started.pop(name)
        host.process.terminate()
        try:
            host.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            host.process.kill()
            host.process.wait()
        self._leave(host)

    def _leave(self, host: _Host) -> None:
        if self.network and host.number > 1:
            self.network.leave(host.number)
