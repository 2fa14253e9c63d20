"""The access log: a line of JSON for each answer, also for those that HAProxy gives by itself.

``{"time": "2030-01-31T12:00:00.123Z", "address": "127.0.0.1", "method": "POST", "route": "/v1/predict",
"status": 200, "ms": 4, "bytes_in": 28123, "bytes_out": 412}``: of a client there is its address and nothing
else. The route is one of those that there are (a name in it is ``{name}``), else ``other``: what a stranger
writes into a path, a query, a header or a body is not kept. A file that is moved away is begun anew.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agesearch.errors import InputError

#: What HAProxy sends of an answer (other words of it are of itself, or of a connection that never asked):
#: address, status, milliseconds until the answer's end, bytes, method and path.
_MARK = "answer"
HAPROXY_FORMAT = f"{_MARK} %ci %ST %Ta %U %B %HM %HPO"
ROUTES = (
    "/",
    "/docs",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/v1/model",
    "/v1/models",
    "/v1/models/{name}",
    "/v1/models/{name}/card",
    "/v1/models/{name}/predict",
    "/v1/predict",
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: The datagram socket in the service's folder that HAProxy tells of answers.
SOCKET = "access.log"
_MOST_BYTES = 4096
_END = b""


class AccessLog:
    """A file that a thread fills with what arrives at a socket, from ``start`` to ``end``.

    An ``InputError`` where the file cannot be written.
    """

    def __init__(self, file: str | Path) -> None:
        self._file = Path(file).expanduser()
        self._handle = self._opened()
        self._source = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)

    def start(self, folder: Path) -> None:
        """Listen at ``SOCKET`` in the folder."""
        self._source.bind(str(folder / SOCKET))
        self._thread.start()

    def end(self) -> None:
        """Write what has arrived, and close the file."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self._source.getsockname())
            sender.send(_END)
        self._thread.join(5)
        self._source.close()
        os.close(self._handle)

    def _run(self) -> None:
        while (told := self._source.recv(_MOST_BYTES)) != _END:
            kept = entry(told, datetime.now(UTC))
            if kept is None:
                continue
            line = json.dumps(kept) + "\n"
            with suppress(OSError, InputError):  # a full disk must not end the service
                self._follow()
                os.write(self._handle, line.encode())

    def _follow(self) -> None:
        """Go on in a new file where the one that is written was moved away (``logrotate``)."""
        own = os.fstat(self._handle)
        try:
            there = os.stat(self._file)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino):
            fresh = self._opened()
            os.close(self._handle)
            self._handle = fresh

    def _opened(self) -> int:
        try:
            return os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise InputError(f"The access log '{self._file}' cannot be written: {error.strerror}.") from error


def entry(told: bytes, now: datetime) -> dict[str, Any] | None:
    """What is kept of an answer that HAProxy tells of in ``HAPROXY_FORMAT``; None where it tells of none."""
    mark, *parts = told.decode("utf-8", "replace").split(" ", maxsplit=7)
    if mark != _MARK or len(parts) != 7:
        return None
    address, status, milliseconds, came, went, method, path = parts
    return {
        "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "address": address,
        "method": method if method in _METHODS else "other",
        "route": _route(path.strip()),
        "status": _number(status),
        "ms": _number(milliseconds),
        "bytes_in": _number(came),
        "bytes_out": _number(went),
    }


def _route(path: str) -> str:
    return next((route for route, pattern in _PATTERNS.items() if pattern.fullmatch(path)), "other")


def _number(text: str) -> int | None:
    """HAProxy writes -1 where a request did not come so far."""
    return int(text) if text.isascii() and text.isdigit() else None


_PATTERNS = {route: re.compile(re.escape(route).replace(r"\{name\}", "[^/]+")) for route in ROUTES}
