"""The firewall that ``cluster/security.md`` gives keeps others out of Ray's ports and lets the nodes in: its
own lines are run, in a network namespace.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agesearch.bench.drills.network import Network, network
from agesearch.errors import InputError

_GUIDE = Path(__file__).parents[2] / "cluster" / "security.md"
_NODES = "10.0.0.0/24"
#: Of the head, the dashboard, a worker, and metrics; then one that is none of Ray's.
_OPEN = 9000
_PORTS = (6399, 8265, 10002, 44217, _OPEN)
_HOST = 2
_LISTEN = """
import selectors, socket, sys
found = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    found.register(socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True), 1)
print("listening", flush=True)
while True:
    for key, _ in found.select():
        key.fileobj.accept()[0].close()
"""
_KNOCK = """
import socket, sys
for port in map(int, sys.argv[2:]):
    try:
        socket.create_connection((sys.argv[1], port), timeout=0.5).close()
        print(port)
    except OSError:
        pass
"""


def _rules() -> list[str]:
    """The guide's lines."""
    return re.findall(r"^nft .*$", _GUIDE.read_text(), re.MULTILINE)


@pytest.fixture
def wires() -> Iterator[tuple[Network, list[str]]]:
    """A network, and what runs a command in a host of it that listens."""
    if shutil.which("nft") is None:
        pytest.skip("needs nft: apt-get install nftables")
    try:
        with network() as made:
            within = made.join(_HOST)
            listener = [*within, sys.executable, "-c", _LISTEN, *map(str, _PORTS)]
            with subprocess.Popen(listener, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "listening\n"
                try:
                    yield made, within
                finally:
                    process.kill()
    except InputError as error:
        pytest.skip(str(error))


def _reached(host: str, within: tuple[str, ...] = ()) -> set[int]:
    knock = [*within, sys.executable, "-c", _KNOCK, host, *map(str, _PORTS)]
    return {int(port) for port in subprocess.run(knock, capture_output=True, text=True).stdout.split()}


def _address6(within: list[str]) -> str:
    """The host's own IPv6 address on the link, once it may be used."""
    name = within[-1]
    for _ in range(100):
        listed = subprocess.run(
            ["ip", "-n", name, "-6", "address", "show", "dev", "eth0"], capture_output=True, text=True
        ).stdout
        found = re.search(r"inet6 (fe80\S+)/", listed)
        if found and "tentative" not in listed:
            return found[1]
        time.sleep(0.1)
    return ""


def test_rays_ports_are_for_the_nodes_alone(wires: tuple[Network, list[str]]) -> None:
    made, within = wires
    host, everything = made.address_of(_HOST), set(_PORTS)
    assert _reached(host) == everything
    *drop, let_in = _rules()
    assert (len(drop), _NODES in let_in) == (3, True)
    for rule in drop:
        subprocess.run(["sh", "-c", f"exec {' '.join(within)} {rule}"], check=True)
    assert _reached(host) == {_OPEN}
    address6 = _address6(within)
    if address6:  # where IPv6 is on at all
        assert _reached(f"{address6}%{made.bridge}") == {_OPEN}
    assert _reached("127.0.0.1", tuple(within)) == everything
    own = f"{host.rpartition('.')[0]}.0/24"
    subprocess.run(["sh", "-c", f"exec {' '.join(within)} {let_in.replace(_NODES, own)}"], check=True)
    assert _reached(host) == everything
    assert _reached("127.0.0.1", tuple(within)) == everything
