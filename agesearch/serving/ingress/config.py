"""What HAProxy is told: one address, two backends for each model (its version, and one that is tried on a
share of the requests), time limits on everything, JSON in place of its pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from agesearch.serving.access.log import HAPROXY_FORMAT, SOCKET
from agesearch.serving.batches import busy
from agesearch.serving.ingress.tls import Certificate
from agesearch.serving.schema import Refusal

ADMIN_SOCKET = "admin.sock"
CONFIG = "haproxy.cfg"
#: Of ten thousand requests to a model so many go to the version that is tried: a line for each backend.
SHARES = "shares.map"
_WHOLE = 10_000

#: A request that fits is held until it is whole, so that a slow client keeps no replica waiting, and can be
#: sent to another replica where one dies.
_BUFFER_BYTES = 64 * 1024


@dataclass(frozen=True)
class Route:
    """Where the requests to a model go: to the replicas whose sockets lie in the folder ``group`` of the
    service's, and a ``share`` (0..1) of them to those of ``canary``.
    """

    model: str = ""
    group: str = ""
    canary: str | None = None
    share: float = 0.0

    @property
    def of_ten_thousand(self) -> int:
        """The share as HAProxy is told it."""
        return round(self.share * _WHOLE) if self.canary is not None else 0


@dataclass(frozen=True, order=True)
class Server:
    """A replica: its backend, its name and its socket."""

    backend: str
    name: str
    socket: Path


def backend_of(index: int, *, canary: bool = False) -> str:
    """The backend of the model of that index."""
    return f"model{index}{_CANARY if canary else ''}"


_CANARY = "-canary"


@dataclass(frozen=True)
class IngressLimits:
    """Connections at once, those of a replica, and seconds: for the headers (and a body that fits the
    buffer), between two packets, for an idle connection, for an answer, and for a sign of life of a replica
    (a process on a busy machine may need longer than one; three in a row without, and it gets no requests).
    """

    connections: int = 2000
    at_replica: int = 256
    headers_s: int = 10
    idle_s: int = 30
    packet_s: int = 20
    answer_s: int = 60
    check_s: int = 5


@dataclass(frozen=True)
class IngressOptions:
    """Its limits; the certificate, where it speaks TLS; the file of the access log, where there is one."""

    limits: IngressLimits = IngressLimits()
    certificate: Certificate | None = None
    access_log: str | None = None


def write_config(
    folder: Path,
    listener: int,
    options: IngressOptions,
    servers: Sequence[Server] = (),
    routes: Sequence[Route] = (Route(),),
) -> Path:
    """Write the files of an HAProxy that accepts on the listening socket ``listener`` (a file descriptor), is
    administered through a Unix socket in ``folder``, which must be its owner's alone, and starts with
    ``servers``. Which models ``routes`` name stays; where they lead to may change while it runs.
    """
    limits = options.limits
    pages = [
        f"errorfile {status} {_page(folder, status, refusal)}" for status, refusal in _refusals().items()
    ]
    shares = [f"{backend_of(index)} {route.of_ten_thousand}\n" for index, route in enumerate(routes)]
    (folder / SHARES).write_text("".join(shares), encoding="utf-8")
    backends = [backend_of(index, canary=tried) for index in range(len(routes)) for tried in (False, True)]
    text = _TEMPLATE.format(
        admin=folder / ADMIN_SOCKET,
        listener=listener,
        buffer=_BUFFER_BYTES,
        pages="\n    ".join(pages),
        limits=limits,
        tls=_tls(folder, options.certificate),
        log=_log(folder) if options.access_log else "no log",
        first=backend_of(0),
        choices="\n    ".join(_choice(index, route) for index, route in enumerate(routes) if route.model),
        shares=folder / SHARES,
        canary=_CANARY,
        whole=_WHOLE,
        backends="\n".join(_backend(name, servers, limits) for name in backends),
    )
    path = folder / CONFIG
    path.write_text(text, encoding="utf-8")
    return path


def _choice(index: int, route: Route) -> str:
    """A model is chosen by its name in the path or in the query."""
    place = f"/v1/models/{route.model}"
    named = f"{{ path,url_dec -m str {place} }} or {{ path,url_dec -m beg {place}/ }}"
    asked = f"{{ url_param(model),url_dec -m str {route.model} }}"
    return f"http-request set-var(txn.model) str({backend_of(index)}) if {named} or {asked}"


def _backend(name: str, servers: Sequence[Server], limits: IngressLimits) -> str:
    lines = [
        f"    server {server.name} unix@{server.socket} {server_options(limits)}"
        for server in servers
        if server.backend == name
    ]
    return "\n".join([_BACKEND.format(name=name), *lines])


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
    timeout check {limits.check_s}s
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
    http-request set-var(txn.model) str({first})
    {choices}
    http-request set-var(txn.share) var(txn.model),map_str_int({shares},0)
    acl tried var(txn.model),concat({canary}),nbsrv gt 0
    acl chosen rand({whole}),sub(txn.share) lt 0
    use_backend %[var(txn.model)]{canary} if METH_POST tried chosen
    use_backend %[var(txn.model)]
{backends}
"""

_BACKEND = """\
backend {name}
    balance leastconn
    http-reuse always
    option httpchk
    http-check send meth GET uri /livez ver HTTP/1.1 hdr Host service
    http-check expect status 200"""


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
