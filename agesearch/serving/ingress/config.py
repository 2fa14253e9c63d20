"""What HAProxy is told: one address, one backend, time limits on everything, JSON in place of its pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType

from agesearch.serving.access.log import HAPROXY_FORMAT, SOCKET
from agesearch.serving.batches import busy
from agesearch.serving.ingress.tls import Certificate
from agesearch.serving.schema import Refusal

BACKEND = "replicas"
ADMIN_SOCKET = "admin.sock"
CONFIG = "haproxy.cfg"

#: A request that fits is held until it is whole, so that a slow client keeps no replica waiting, and can be
#: sent to another replica where one dies.
_BUFFER_BYTES = 64 * 1024


@dataclass(frozen=True)
class IngressLimits:
    """Connections at once, those of a replica, and seconds: for the headers (and a body that fits the
    buffer), between two packets, for an idle connection, and for an answer.
    """

    connections: int = 2000
    at_replica: int = 256
    headers_s: int = 10
    idle_s: int = 30
    packet_s: int = 20
    answer_s: int = 60


@dataclass(frozen=True)
class IngressOptions:
    """Its limits; the certificate, where it speaks TLS; the file of the access log, where there is one."""

    limits: IngressLimits = IngressLimits()
    certificate: Certificate | None = None
    access_log: str | None = None


def write_config(
    folder: Path, listener: int, options: IngressOptions, replicas: Mapping[str, Path] = MappingProxyType({})
) -> Path:
    """Write the files of an HAProxy that accepts on the listening socket ``listener`` (a file descriptor), is
    administered through a Unix socket in ``folder``, which must be its owner's alone, and starts with
    ``replicas``: names and their sockets.
    """
    limits = options.limits
    pages = [
        f"errorfile {status} {_page(folder, status, refusal)}" for status, refusal in _refusals().items()
    ]
    text = _TEMPLATE.format(
        admin=folder / ADMIN_SOCKET,
        listener=listener,
        backend=BACKEND,
        buffer=_BUFFER_BYTES,
        pages="\n    ".join(pages),
        limits=limits,
        tls=_tls(folder, options.certificate),
        log=_log(folder) if options.access_log else "no log",
        servers="\n    ".join(
            f"server {name} unix@{place} {server_options(limits)}" for name, place in replicas.items()
        ),
    )
    path = folder / CONFIG
    path.write_text(text, encoding="utf-8")
    return path


_TEMPLATE = """\
global
    stats socket {admin} mode 600 level admin
    maxconn {limits.connections}
    nbthread 1
    tune.bufsize {buffer}
    hard-stop-after 5s
defaults
    mode http
    timeout connect 1s
    timeout client {limits.packet_s}s
    timeout server {limits.answer_s}s
    timeout queue 1s
    timeout http-request {limits.headers_s}s
    timeout http-keep-alive {limits.idle_s}s
    option http-buffer-request
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response
    {pages}
frontend service
    bind fd@{listener}{tls}
    {log}
    http-request set-header X-Forwarded-For %[src]
    default_backend {backend}
backend {backend}
    balance leastconn
    http-reuse always
    option httpchk
    http-check send meth GET uri /livez ver HTTP/1.1 hdr Host service
    http-check expect status 200
    {servers}
"""


def _tls(folder: Path, certificate: Certificate | None) -> str:
    if certificate is None:
        return ""
    return f" ssl crt {certificate.write(folder)} ssl-min-ver TLSv1.2 alpn http/1.1"


def _log(folder: Path) -> str:
    log = f"log {folder / SOCKET} len 2048 format raw local0 info"
    return "\n    ".join([log, f'log-format "{HAPROXY_FORMAT}"', "option dontlognull"])


def server_options(limits: IngressLimits) -> str:
    """What each replica's line says besides its name and address."""
    return f"maxconn {limits.at_replica} check inter 1s fall 3 rise 1"


def _refusals() -> dict[int, Refusal]:
    """HAProxy's own answers: what it cannot do now is to be tried again."""
    later = busy()
    return {
        400: Refusal(400, "bad_request", "The request is no HTTP, or its headers are too large."),
        408: Refusal(408, "request_timeout", "The request did not arrive in time."),
        502: later,
        503: later,
        504: Refusal(504, "answer_timeout", "The service did not answer in time."),
    }


def _page(folder: Path, status: int, refusal: Refusal) -> Path:
    body = refusal.answer().model_dump_json()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    headers |= refusal.headers or {}
    reason = HTTPStatus(refusal.status).phrase
    lines = [f"HTTP/1.1 {refusal.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    path = folder / f"{status}.http"
    path.write_bytes("\r\n".join([*lines, "", body]).encode())
    return path
