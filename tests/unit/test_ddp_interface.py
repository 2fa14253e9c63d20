"""Which network interface workers on several machines talk through."""

from __future__ import annotations

import os
from types import SimpleNamespace

import psutil
import pytest

from agesearch.training import ddp


def _has(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    interfaces = {"lo": ["127.0.0.1", "::1"], "eth0": ["10.0.0.7", "fe80::1%eth0"]}
    listed = {name: [SimpleNamespace(address=one) for one in found] for name, found in interfaces.items()}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: listed)
    monkeypatch.setattr(ddp, "_node_address", lambda: address)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("address", "interface"),
    [("10.0.0.7", "eth0"), ("fe80::1", "eth0"), ("127.0.0.1", "lo"), ("127.0.0.2", None)],
)
def test_workers_talk_through_the_interface_of_the_address_that_ray_knows(
    monkeypatch: pytest.MonkeyPatch, address: str, interface: str | None
) -> None:
    _has(monkeypatch, address)
    ddp.use_node_interface()
    assert os.environ.get("GLOO_SOCKET_IFNAME") == interface
    assert os.environ.get("NCCL_SOCKET_IFNAME") == interface


def test_the_interface_that_a_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    _has(monkeypatch, "10.0.0.7")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    ddp.use_node_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
