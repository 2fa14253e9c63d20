"""The ingress before real HTTP servers, no Ray: replicas come and go, HAProxy is killed, clients dawdle."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from self_signed import self_signed

from agesearch.bench.serve.asking import Repeatedly
from agesearch.errors import InputError
from agesearch.serving.client import Client
from agesearch.serving.ingress.config import IngressLimits, IngressOptions
from agesearch.serving.ingress.supervisor import Ingress
from agesearch.serving.ingress.tls import Certificate, certificate_of
from agesearch.serving.ports import bound
from agesearch.serving.replica import ReplicaServer
from agesearch.session import LOOPBACK


async def answering(scope: dict[str, object], receive: object, send: object) -> None:
    """An application that says OK to everything, to the ingress's question whether it lives as late as on a
    busy machine; the body is read to its end.
    """
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    if scope["path"] == "/livez":
        await asyncio.sleep(1.2)
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
    with Ingress(listener, IngressOptions(IngressLimits(headers_s=4))) as ingress:
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


def wait_until(holds: Callable[[], bool]) -> None:
    """Until something holds, however busy the machine is."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def load_on(url: str) -> Repeatedly:
    """Requests on three connections; what is seen is their status, or the error."""

    def outcome(client: httpx.Client) -> str:
        try:
            return str(client.post(url, content=b"x" * 30_000).status_code)
        except httpx.HTTPError as error:
            return type(error).__name__

    @contextmanager
    def connected() -> Iterator[Callable[[], str]]:
        with httpx.Client() as client:
            yield lambda: outcome(client)

    return Repeatedly(connected, connections=3)


def test_replicas_come_and_go_without_a_failed_request(service: Service) -> None:
    with load_on(service.url) as load:
        service.replica("c")
        service.ingress.wait_for(3, 5)
        for name in "ab":
            service.replicas[name].drain()
        before = load.seen["200"]
        wait_until(lambda: load.seen["200"] > before + 10)
    assert set(load.seen) == {"200"}


def test_an_ingress_that_is_killed_is_back_at_once_and_refuses_nobody(service: Service) -> None:
    with load_on(service.url) as load:
        wait_until(lambda: load.seen["200"] > 10)
        killed = service.ingress.pid
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: service.ingress.pid not in (killed, None))
        before = load.seen["200"]
        wait_until(lambda: load.seen["200"] > before + 10)
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
    assert httpx.get(service.url, timeout=30).status_code == 200
    assert select.select(slow, [], [], 0)[0] == []  # it did not have to wait until they were sent away
    for connection in slow:
        connection.settimeout(30)
        assert connection.recv(200).startswith(b"HTTP/1.1 408 ")
        connection.close()
    assert httpx.get(service.url, timeout=30).status_code == 200  # late signs of life are signs of life


def test_without_a_replica_clients_are_told_to_come_back(service: Service) -> None:
    for replica in service.replicas.values():
        replica.drain()
    answer = httpx.get(service.url)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "busy"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


def test_tls_is_spoken_and_nothing_older_and_each_answer_logged(
    certificate: Certificate, tmp_path: Path
) -> None:
    log, listener = tmp_path / "access.jsonl", bound(LOOPBACK, 0)
    port = listener.getsockname()[1]
    options = IngressOptions(
        certificate=certificate_of(certificate.cert, certificate.key), access_log=str(log)
    )
    trusted = ssl.create_default_context(cafile=certificate.cert)
    with Ingress(listener, options) as ingress:
        replica = ReplicaServer(answering, ingress.folder, "a")
        ingress.wait_for(1, 10)
        with Client(
            f"https://{LOOPBACK}:{port}", "a-secret-token-of-length", ca_file=certificate.cert
        ) as client:
            assert client.is_healthy()
        address = f"https://{LOOPBACK}:{port}/v1/predict?key=a-secret"
        sent = httpx.post(address, verify=trusted, headers={"Authorization": "a-secret"}, content=b"a-secret")
        assert sent.status_code == 200
        with pytest.raises(InputError, match=r"refused .*self.signed.*--ca"):
            Client(f"https://{LOOPBACK}:{port}", "a-secret-token-of-length").models()
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://{LOOPBACK}:{port}/")
        old = ssl.create_default_context(cafile=certificate.cert)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.HTTPError):
            httpx.get(address, verify=old)
        replica.drain()
        time.sleep(0.3)
        assert httpx.get(address, verify=trusted).status_code == 503
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(line["method"], line["route"], line["status"]) for line in lines if line["route"] != "other"]
    assert told == [("GET", "/healthz", 200), ("POST", "/v1/predict", 200), ("GET", "/v1/predict", 503)]
    assert {line["address"] for line in lines} == {LOOPBACK}
    assert "secret" not in log.read_text()


def test_a_certificate_that_cannot_be_used_is_refused(certificate: Certificate, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    other, locked = tmp_path / "other.pem", tmp_path / "locked.pem"
    other.write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))
    locked.write_bytes(key.private_bytes(pem, private, serialization.BestAvailableEncryption(b"a password")))
    past, future = self_signed(tmp_path / "past", -2, -1), self_signed(tmp_path / "future", 1, 2)
    wrong = [
        (past.cert, past.key, "past/cert.pem' cannot be used now: certificate has expired"),
        (future.cert, future.key, "not yet valid"),
        (certificate.cert, None, "give --tls-cert and --tls-key"),
        (None, certificate.key, "give --tls-cert and --tls-key"),
        (certificate.cert, str(other), "mismatch"),
        (certificate.cert, str(locked), "encrypted"),
        (certificate.key, certificate.key, "PEM form"),
        (str(tmp_path / "none"), certificate.key, "cannot be read"),
    ]
    for cert, private_key, message in wrong:
        with pytest.raises(InputError, match=message):
            certificate_of(cert, private_key)
