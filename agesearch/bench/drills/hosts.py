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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from agesearch.errors import AgeSearchError, InputError
from agesearch.machine import free_port

_PATIENCE_S = 120
_RAY = "import sys; from ray.scripts.scripts import main; sys.exit(main())"


def need_namespaces() -> None:
    """An ``InputError`` where this user may not make namespaces."""
    tried = ["unshare", "--mount", "--uts", "mount", "-t", "tmpfs", "none", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run(tried, capture_output=True).returncode:
        raise InputError("needs root and Linux's 'unshare': a host of its own is made of namespaces")


@dataclass
class Hosts:
    """The hosts of a cluster: ``start`` the head first, then others; ``end`` takes all down. Each finds the
    ``hidden`` folders empty and has ``environment`` set.
    """

    logs: Path
    hidden: Sequence[Path] = ()
    environment: dict[str, str] = field(default_factory=dict)
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    address: str = ""

    def start(self, name: str, cpus: int, hidden: Sequence[Path] = (), **environment: str | None) -> None:
        """Start a host called ``name`` that finds ``hidden`` folders empty, and wait until it is up.

        ``environment``: what its processes have set otherwise than this one (None: not at all).
        """
        number = len(self.started) + 2
        own = f"127.0.0.{number}"
        if self.address:
            place = ["--address", self.address]
        else:
            self.address = f"{own}:{free_port(own)}"
            place = ["--head", "--port", self.address.rpartition(":")[2], "--include-dashboard", "false"]
        options = [
            *place,
            "--num-cpus",
            str(cpus),
            "--node-ip-address",
            own,
            "--block",
            "--disable-usage-stats",
        ]
        ray = shlex.join([sys.executable, "-c", _RAY, "start", *options])
        mounts = "".join(
            f"mount -t tmpfs none {shlex.quote(str(folder))} && " for folder in (*self.hidden, *hidden)
        )
        script = f"hostname {shlex.quote(name)} && {mounts}exec {ray}"
        changed = os.environ | {"RAY_AUTH_MODE": "token"} | self.environment | environment
        log = self.logs / f"{name}.log"
        with open(log, "wb") as said:
            self.started[name] = subprocess.Popen(
                ["unshare", "--mount", "--uts", "sh", "-c", script],
                env={key: value for key, value in changed.items() if value is not None},
                stdout=said,
                stderr=said,
            )
        end = time.monotonic() + _PATIENCE_S
        while b"Ray runtime started" not in log.read_bytes():
            if self.started[name].poll() is not None or time.monotonic() > end:
                raise AgeSearchError(f"The host {name} did not start: {log.read_text()}")
            time.sleep(0.2)

    def kill(self, name: str) -> None:
        """Lose a host: all its processes at once."""
        first = self.started.pop(name)
        for process in [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        first.wait()

    def end(self, *names: str) -> None:
        """Take hosts down, by default all, the head last."""
        for name in names or reversed(list(self.started)):
            process = self.started.pop(name)
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
