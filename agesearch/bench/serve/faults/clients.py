"""Clients that a service must not suffer from: they dawdle, stay away, or send what is no request."""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

from agesearch.session import LOOPBACK

_HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: bench\r\n"
#: More than HAProxy holds, so that a replica waits for the rest of a body that begins like this.
_BEGUN = 80_000


@dataclass
class Dawdlers:
    """Connections that send a byte a second, or nothing; ``ended_s`` tells when the last was sent away."""

    port: int
    headers: dict[str, str]
    bodies: int = 16
    heads: int = 200
    idle: int = 50
    ended_s: float = 0.0
    _open: dict[socket.socket, bool] = field(default_factory=dict)
    _began: float = 0.0

    def begin(self) -> None:
        """Open them all."""
        self._began = time.monotonic()
        told = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items()).encode()
        whole = _HEAD + told + b"Content-Length: 200000\r\n\r\n"
        for index in range(self.bodies):
            self._connect(whole + (b"x" * _BEGUN if index % 2 else b"x"), is_sending=True)
        for _ in range(self.heads):
            self._connect(_HEAD + b"X-Half: ", is_sending=True)
        for _ in range(self.idle):
            self._connect(b"", is_sending=False)

    def step(self) -> int:
        """Send one more byte on those that send, and count those that are still open."""
        for connection in select.select(list(self._open), [], [], 0)[0] if self._open else []:
            with suppress(OSError):
                if connection.recv(65536):
                    continue
            self._end(connection)
        for connection in [one for one, is_sending in self._open.items() if is_sending]:
            try:
                connection.send(b"x")
            except OSError:
                self._end(connection)
        return len(self._open)

    def leave(self) -> None:
        """Close what is left."""
        for connection in list(self._open):
            connection.close()
        self._open.clear()

    def _connect(self, first: bytes, *, is_sending: bool) -> None:
        connection = socket.create_connection((LOOPBACK, self.port), timeout=5)
        connection.sendall(first)
        connection.setblocking(False)
        self._open[connection] = is_sending

    def _end(self, connection: socket.socket) -> None:
        connection.close()
        del self._open[connection]
        self.ended_s = time.monotonic() - self._began


def exchange(port: int, request: bytes, timeout_s: float = 30.0) -> tuple[int, bytes]:
    """The status of the first answer to raw bytes, and the whole of what came; 0 where nothing came in time,
    or the connection was closed without a word.
    """
    parts: list[bytes] = []
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(request)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            parts.append(part)
    answer = b"".join(parts)
    first = answer.split(b" ", 2)
    return (int(first[1]) if len(first) > 1 and first[1].isdigit() else 0), answer
