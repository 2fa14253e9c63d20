"""The ingress before real HTTP servers, no Ray: replicas come and go, HAProxy is killed, clients dawdle."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from agesearch.serving.ingress.config import IngressLimits
from agesearch.serving.ingress.supervisor import Ingress
from agesearch.serving.ports import bound
from agesearch.serving.replica import ReplicaServer
from agesearch.session import LOOPBACK


async def answering(scope: dict[str, object], receive: object, send: object) -> None:
    """An application that says OK to everything; the body is read to its end."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Service:
    """An ingress, its address and its replicas."""

    def __init__(self, ingress: Ingress, url: str, replicas: dict[str, ReplicaServer]) -> None:
        self.ingress, self.url, self.replicas = ingress, url, replicas

    def replica(self, name: str) -> ReplicaServer:
        self.replicas[name] = ReplicaServer(answering, self.ingress.folder, name)
        return self.replicas[name]


@pytest.fixture
def service() -> Iterator[Service]:
    listener = bound(LOOPBACK, 0)
    port = listener.getsockname()[1]
    with Ingress(listener, IngressLimits(headers_s=1)) as ingress:
        running = Service(ingress, f"http://{LOOPBACK}:{port}", {})
        for name in "ab":
            running.replica(name)
        ingress.wait_for(2, 10)
        yield running
        for replica in running.replicas.values():
            if replica.is_serving():
                replica.drain()
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url)
    assert not Path(ingress.folder).exists()


class Load:
    """Requests on three connections for the length of a block; ``seen`` counts outcomes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        self.seen: Counter[str] = Counter()

    def _ask(self) -> None:
        with httpx.Client() as client:
            while not self._over.is_set():
                try:
                    outcome = str(client.post(self._url, content=b"x" * 30_000).status_code)
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
                self.seen[outcome] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_replicas_come_and_go_without_a_failed_request(service: Service) -> None:
    with Load(service.url) as load:
        service.replica("c")
        service.ingress.wait_for(3, 5)
        for name in "ab":
            service.replicas[name].drain()
        time.sleep(0.2)
    assert set(load.seen) == {"200"}


def test_an_ingress_that_is_killed_is_back_at_once_and_refuses_nobody(service: Service) -> None:
    with Load(service.url) as load:
        time.sleep(0.2)
        killed = service.ingress.pid
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while service.ingress.pid == killed and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        before = load.seen["200"]
        time.sleep(0.3)
    assert load.seen["200"] > before
    assert sum(load.seen.values()) - load.seen["200"] <= 3  # at most what was on its way, one a connection


def test_nothing_but_the_services_address_listens(service: Service) -> None:
    haproxy = psutil.Process(service.ingress.pid)
    listening = [found for found in haproxy.net_connections("inet") if found.status == psutil.CONN_LISTEN]
    assert [(found.laddr.ip, found.laddr.port) for found in listening] == [
        (LOOPBACK, httpx.URL(service.url).port)
    ]
    assert service.ingress.folder.stat().st_mode & 0o077 == 0


def test_who_dawdles_is_sent_away_and_keeps_nobody_out(service: Service) -> None:
    address = (LOOPBACK, httpx.URL(service.url).port)
    half = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n"
    slow = [socket.create_connection(address) for _ in range(100)]
    for index, connection in enumerate(slow):
        connection.sendall(half if index % 2 else half + b"\r\nx")
    began = time.monotonic()
    assert httpx.get(service.url).status_code == 200
    assert time.monotonic() - began < 1
    for connection in slow:
        connection.settimeout(4)
        assert connection.recv(200).startswith(b"HTTP/1.1 408 ")
        connection.close()


def test_without_a_replica_clients_are_told_to_come_back(service: Service) -> None:
    for replica in service.replicas.values():
        replica.drain()
    answer = httpx.get(service.url)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "busy"
