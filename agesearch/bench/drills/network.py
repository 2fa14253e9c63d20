"""A network of this machine alone: a bridge, and hosts on it in network namespaces of their own, whose links
can be cut. Needs root and iproute2.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from agesearch.errors import InputError
from agesearch.machine import running_process

#: One of these networks of 254 addresses each is taken that nobody has yet.
_PREFIX = "10.213"
_MOST = 254
_NAME = "agesearch"
#: What a bridge is labelled with, before what names the process that made it.
_LABEL = "agesearch-drills"


@dataclass(frozen=True)
class Network:
    """A bridge with the ``address`` of this machine in it, and the hosts' names and addresses from that."""

    number: int

    @property
    def address(self) -> str:
        """The address of this machine, which is the first host."""
        return self.address_of(1)

    def address_of(self, host: int) -> str:
        """The address of a host by its number, from 1."""
        return f"{_PREFIX}.{self.number}.{host}"

    def join(self, host: int) -> list[str]:
        """Make the namespace of a host, linked to the bridge; what to put before a command to run in it."""
        name, link = self._names(host)
        _ip("netns", "add", name)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", link, "master", self.bridge, "up")
        _ip("-n", name, "address", "add", f"{self.address_of(host)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")
        return ["ip", "netns", "exec", name]

    def cut(self, host: int) -> None:
        """Let nothing through to a host, nor from it."""
        _ip("link", "set", self._names(host)[1], "down")

    def mend(self, host: int) -> None:
        """Let all through again."""
        _ip("link", "set", self._names(host)[1], "up")

    def leave(self, host: int) -> None:
        """Remove the namespace of a host, whose processes have ended."""
        _ip("netns", "delete", self._names(host)[0])

    def remove(self) -> None:
        """Remove all of it: hosts, with what still runs in them, and the bridge."""
        for name in _said("netns", "list").split():
            if name.startswith(f"{self.bridge}-"):
                for pid in _said("netns", "pids", name).split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                _said("netns", "delete", name)
        _said("link", "delete", self.bridge)

    @property
    def bridge(self) -> str:
        """The device of this machine that is in the network."""
        return f"{_NAME}{self.number}"

    def _names(self, host: int) -> tuple[str, str]:
        return f"{self.bridge}-{host}", f"{self.bridge}.{host}"


@contextmanager
def network() -> Iterator[Network]:
    """A network that nobody else has, until the block ends; those of runs that were killed go before.
    ``InputError`` where this user may make none.
    """
    for left in abandoned():
        left.remove()
    made = _first_free()
    try:
        yield made
    finally:
        made.remove()


def abandoned() -> list[Network]:
    """The networks whose labels name a process that is gone; one without a label is somebody else's."""
    found = []
    for link in json.loads(_said("-j", "link", "show", "type", "bridge") or "[]"):
        number = str(link.get("ifname", "")).removeprefix(_NAME)
        match str(link.get("ifalias", "")).split():
            case [label, space, pid, born] if label == _LABEL and space == _pid_space():
                if number.isdecimal() and running_process(int(pid), float(born)) is None:
                    found.append(Network(int(number)))
    return found


def _pid_space() -> str:
    """Whose process numbers these are: those of a container mean nothing elsewhere."""
    return os.readlink("/proc/self/ns/pid")


def _first_free() -> Network:
    start = os.getpid()
    why = ""
    for offset in range(_MOST):
        found = Network((start + offset) % _MOST)
        try:
            made = ["ip", "link", "add", found.bridge, "type", "bridge"]
            done = subprocess.run(made, capture_output=True, text=True)
        except FileNotFoundError:
            break
        if done.returncode == 0:
            born = psutil.Process().create_time()
            _ip("link", "set", found.bridge, "alias", f"{_LABEL} {_pid_space()} {os.getpid()} {born}")
            _ip("address", "add", f"{found.address}/24", "dev", found.bridge)
            _ip("link", "set", found.bridge, "up")
            return found
        why = done.stderr.strip()
        if "exists" not in why:
            break
    raise InputError(f"A network of hosts needs root and Linux's 'ip': {why or 'there is none'}")


def _said(*words: str) -> str:
    """What 'ip' prints; nothing where it fails or there is none."""
    with suppress(FileNotFoundError):
        return subprocess.run(["ip", *words], capture_output=True, text=True).stdout
    return ""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"'ip {' '.join(words)}' failed: {done.stderr.strip()}")
